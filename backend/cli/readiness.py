"""Whether the system that was started can make a registration.

In: the listening sockets and the children. Out: it returns when all of them are ready, or raises `NotReady` with the reason.
The sockets were opened before their processes, so a question waits in the queue until somebody is there to answer it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from backend.cli.children import Child
from backend.cli.preflight import NotReady

READY_SECONDS = 60.0
ASK_SECONDS = 2.0  # one question
PAUSE = 0.05
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens everywhere is asked at home


async def ready(apis: Sequence[socket.socket], sandbox: socket.socket | None, children: Sequence[Child]) -> None:
    """Returns when a registration can be made. Raises `NotReady` after a minute."""
    wanted = [(api, "/readyz", b"HTTP/1.1 200") for api in apis]
    if sandbox is not None:
        wanted.append((sandbox, "/", b"HTTP/1.1 "))
    answer = b""
    try:
        async with asyncio.timeout(READY_SECONDS):
            for listener, path, beginning in wanted:
                while not answer.startswith(beginning):
                    await asyncio.sleep(PAUSE)
                    answer = await _ask(listener, path)
                answer = b""
            while not all(child.running for child in children):  # one that fell is being started again
                await asyncio.sleep(PAUSE)
    except TimeoutError as exc:
        why = answer.rpartition(b"\r\n")[2].decode("utf-8", "replace")[:500]
        raise NotReady(f"not ready after {READY_SECONDS:.0f} s: {why or 'no answer'}") from exc


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches it."""
    host, port = _address(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return ANYWHERE.get(host, host), port


async def _ask(listener: socket.socket, path: str) -> bytes:
    """The answer to one GET; empty when there is none."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(*_address(listener))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return await reader.read(-1)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.close()
