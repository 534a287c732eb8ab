"""Who listens to a hub, and a world of twins in memory around it: an exchange that may be deaf, a feed that may be slow."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from backend.events import Position
from backend.realtime.channels import MemoryExchange
from backend.realtime.feed import MOST_EVENTS, MemoryFeed, Slice
from backend.realtime.hub import Hub
from backend.realtime.mailbox import Mailbox
from backend.realtime.merging import Entry

ANNA = "anna"


def entries(first: int, last: int) -> list[Entry]:
    return [(offset, b"%d" % offset) for offset in range(first, last + 1)]


async def nothing_relayed(user_id: str) -> int:
    return 0


@dataclass
class Client:
    """Keeps what it heard, as a client of any transport would."""

    hub: Hub
    mailbox: Mailbox = field(default_factory=Mailbox)
    heard: list[Entry] = field(default_factory=list)
    lost: bool = False
    start: Position | None = None

    async def attach(self, since: Position | None = None) -> Client:
        missed = await self.hub.attach(ANNA, self.mailbox, since)
        self.lost = not missed.recovered
        self.start = since if since is not None and missed.recovered else missed.position
        self.heard = list(missed.entries)
        return self

    def read(self) -> list[Entry]:
        for item in self.mailbox.take():
            if isinstance(item, tuple):
                assert not self.lost, "nothing comes after the word that something is lost"
                self.heard.append(item)
            else:
                self.lost = True
        return self.heard

    def gapless(self) -> bool:
        assert self.start is not None
        return [offset for offset, _ in self.read()] == list(range(self.start.offset + 1, self.start.offset + 1 + len(self.heard)))


class SlowFeed(MemoryFeed):
    """Its answers are more or less old by the time they arrive, as over a network."""

    delays: Iterator[int] = itertools.repeat(0)
    gate: asyncio.Event | None = None  # answers wait for it

    async def read(self, user_id: str, since: Position | None, limit: int = MOST_EVENTS) -> Slice:
        found = await super().read(user_id, since, limit)
        if self.gate is not None:
            await self.gate.wait()
        for _ in range(next(self.delays)):
            await asyncio.sleep(0)
        return found


@dataclass
class World:
    """A hub over twins. While `deaf`, what is announced is lost on the way."""

    exchange: MemoryExchange = field(default_factory=MemoryExchange)
    deaf: bool = False

    def __post_init__(self) -> None:
        self.feed = SlowFeed(relayed=nothing_relayed, announce=self.announce)
        self.hub = Hub(feed=self.feed, dial=self.exchange.dial)

    def announce(self, name: str, message: bytes) -> None:
        if not self.deaf:
            self.exchange.publish(name, message)


async def settle() -> None:
    """Lets every task go on until it waits for something from outside."""
    for _ in range(60):
        await asyncio.sleep(0)
