"""A chat to which a fleet's coordinators send what operators are to know, over real HTTP; it can be made ill.

In: requests as Slack takes them. Out: what somebody who looks at the chat has seen.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress

import orjson

from tests.faults.supervisor import free_port


class Receiver:
    """A chat that shows a message once, by its key. `mode`: ok, 500, or taken (the message is shown, and no answer ever comes)."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mode = "ok"
        self.attempts: Counter[str] = Counter()  # by mode
        self.shown: dict[str, str] = {}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._one(reader, writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        mode = self.mode
        self.attempts[mode] += 1
        if mode != "500":
            self.shown.setdefault(headers["idempotency-key"], orjson.loads(body)["text"])
        if mode != "taken":
            writer.write(f"HTTP/1.1 {500 if mode == '500' else 200} x\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()

    async def asked(self, mode: str) -> None:
        """Until it was called while it was so."""
        async with asyncio.timeout(30):
            while not self.attempts[mode]:
                await asyncio.sleep(0.05)  # another process calls

    async def tells(self, *words: str, seconds: float = 60.0) -> str:
        """The first message in which all of these words stand, once it is shown."""
        deadline = time.monotonic() + seconds
        while True:
            for text in self.shown.values():
                if all(word in text for word in words):
                    return text
            assert time.monotonic() < deadline, f"{words} is in none of {list(self.shown.values())}"
            await asyncio.sleep(0.1)  # another process calls
