"""What the tests of sending play with: facts of invented people, a receiver without a network, lanes that move step by step."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from backend.clock import ManualClock
from backend.events import Event, EventType
from backend.storage.database import Database
from backend.storage.operators import Operator
from backend.storage.outbox import publish
from backend.storage.vault import Vault
from backend.webhooks.keeping import Keeping, Webhook
from backend.webhooks.retrying import NoAnswer
from backend.webhooks.sending import LEASE_SPARE, DeliverySweep, Lane
from tests.storage.given import entered

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
KEYS = "k1:" + base64.b64encode(b"v" * 32).decode()
DEADLINE = 15.0
OPERATOR = Operator("operator", "req_12345678")


@dataclass(frozen=True)
class Received:
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def what(self) -> tuple[str, int | None]:
        """Whose event, and its place in the feed."""
        whole = orjson.loads(self.body)
        return whole["user_id"], whole.get("offset")


class Receiver:
    """Answers by `answers`; `held` keeps every call waiting until it is set."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: Callable[[Received], int | NoAnswer] = lambda _: 204
        self.held: asyncio.Event | None = None
        self.at_once = self.most_at_once = 0

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int | NoAnswer:
        call = Received(url, headers, body)
        self.received.append(call)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.held is not None:
                await self.held.wait()
            else:
                await asyncio.sleep(0)
            return self.answers(call)
        finally:
            self.at_once -= 1

    @property
    def what(self) -> list[tuple[str, int | None]]:
        return [call.what for call in self.received]


class World:
    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.receiver = database, ManualClock(NOW), Receiver()
        self.keeping = Keeping(database=database, vault=Vault(KEYS), clock=self.clock)
        self._lanes: list[Lane] = []

    async def webhook(self, *events: EventType, url: str = "https://hooks.example/moa") -> Webhook:
        return await self.keeping.add(url, tuple(events) or None, "", by=OPERATOR)

    async def lane(self, webhook: Webhook) -> Lane:
        """What a worker has for this webhook, as it is now. Two lanes of one webhook are two workers'."""
        fresh = next(each for each in await self.keeping.listed() if each.id == webhook.id)
        lane = Lane(fresh, database=self.database, post=self.receiver, clock=self.clock, lease=timedelta(seconds=DEADLINE) + LEASE_SPARE)
        self._lanes.append(lane)
        return lane

    async def commit(self, *types: EventType, user_id: str = "anna") -> None:
        """Facts in one transaction."""
        events = [Event(kind, "2026-11-22T03:00:00.000Z", "reg_1") for kind in types or (EventType.REGISTRATION_ACCEPTED,)]

        async def deed(connection: Any) -> None:
            await entered(connection, user_id, self.clock.now())
            await publish(connection, user_id, events, self.clock.now())

        await self.database.transaction(deed)

    async def send(self, webhook: Webhook) -> int:
        """Sends until nothing more is due; returns how many calls that took."""
        lane, before = await self.lane(webhook), len(self.receiver.received)
        while await lane.send_due():
            await lane.idle()
        return len(self.receiver.received) - before

    async def later(self, webhook: Webhook, **by: float) -> int:
        """Moves time, sends again."""
        self.clock.move(timedelta(**by))
        return await self.send(webhook)

    async def sweep(self) -> int:
        return await DeliverySweep(database=self.database).sweep(self.clock.now())

    async def rows(self) -> list[tuple[str, int, str, int]]:
        """(user, offset, state, attempts) of every delivery."""
        async with self.database.reading() as connection:
            found = await connection.fetch('SELECT user_id, "offset", state, attempts FROM webhook_deliveries ORDER BY 1, webhook_id, 2')
            return [tuple(row) for row in found]

    async def seen(self, webhook: Webhook) -> Webhook:
        """The webhook as it is now."""
        return next(each for each in await self.keeping.listed() if each.id == webhook.id)

    async def close(self) -> None:
        if self.receiver.held is not None:
            self.receiver.held.set()
        for lane in self._lanes:
            await lane.idle()
