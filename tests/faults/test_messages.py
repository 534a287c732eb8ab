"""Operators have each message once in the end, whatever becomes of the receiver and of the coordinators that send."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import orjson
import pytest

from backend.clock import SystemClock
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.messenger import LEASE as SENDING
from backend.storage.database import Database
from tests.faults.supervisor import Topology, a_fleet, free_port

KEY = "lost:rehearsal"  # that no sweep of a coordinator knows, so that none ends it

pytestmark = [pytest.mark.system, pytest.mark.long]


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


async def test_a_receiver_that_is_down_ill_and_deaf_and_coordinators_that_are_killed_leave_one_message() -> None:
    receiver = Receiver()
    settings = {"MOA_NOTICE_WEBHOOKS": f"http://127.0.0.1:{receiver.port}/services/secret", "MOA_ALERT_SECONDS": "1"}
    async with a_fleet(Topology(coordinators=2, settings=settings)) as fleet:
        database = Database(fleet.postgres.engine.url, pool=2)
        alerts = Alerts(database=database, clock=SystemClock())
        await alerts.raise_alert(KEY, AlertKind.LOST_WORK, {"sweep": "rehearsal", "found": 7})
        await asyncio.sleep(6)  # nobody listens
        receiver.mode = "500"
        await receiver.listen()
        await receiver.asked("500")
        receiver.mode = "taken"
        await receiver.asked("taken")
        await asyncio.gather(*(coordinator.kill() for coordinator in fleet.coordinators))
        await alerts.end_alert(KEY)
        receiver.mode = "ok"
        await asyncio.gather(*(coordinator.start() for coordinator in fleet.coordinators))
        async with asyncio.timeout(SENDING.total_seconds() + 60):
            while len(receiver.shown) < 2:
                await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # nothing more comes
        begun, ended = receiver.shown.values()
        assert begun.startswith("🚨")
        assert ended.startswith("✅")
        assert receiver.attempts["taken"] == 1
        assert receiver.attempts["ok"] == 2, "the one whose answer got lost, under its own key, and then its end"
        assert not any("services" in member.log.read_text() for member in fleet.coordinators), "the URL's path is a secret"
        async with database.reading() as connection:
            assert [row["state"] for row in await connection.fetch("SELECT state FROM notices")] == ["sent", "sent"]
        await database.close()
        await receiver.close()
