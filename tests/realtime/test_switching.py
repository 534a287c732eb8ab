"""Any interleaving of appends, losses, cuts and changes of transport: an app has the whole log, or was told that it has not.

Hypothesis plays people and engines against a real API over a real Valkey; each example has a user of its own. The apps check by themselves
that no event is skipped or doubled; here their whole is held against what was appended.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.events import Appended
from backend.realtime import feed, hub
from tests.clients.apps import App, Place
from tests.realtime.given import Api, event, token, until
from tests.realtime.watching import Transport, Watcher

KEPT = 8  # events in a log, so that it overflows soon
CHECK_SECONDS = 0.05  # so that a lost last message takes no second

USERS = itertools.count(1)


class Deed(StrEnum):
    APPEND = "append"
    APPEND_SILENTLY = "append, and the message is lost"
    OVERFLOW = "append more than a log holds"
    WIPE = "Valkey forgets this user"
    ERASE = "the user is erased"
    BREAK_LINE = "the API's pub/sub line breaks"


@dataclass(frozen=True)
class Switch:
    """An app takes this transport; the one that it has: it was cut off. None: it goes offline."""

    app: int
    transport: Transport | None


APPS = 2

switches = st.builds(Switch, st.integers(0, APPS - 1), st.sampled_from([*Transport, *Transport, None]))
deeds = st.sampled_from([Deed.APPEND, Deed.APPEND, Deed.APPEND_SILENTLY, Deed.BREAK_LINE])
plays = st.lists(st.tuples(switches | switches | deeds, st.sampled_from([0, 0, 0.002, 0.01])), min_size=4, max_size=25)
severe_plays = st.lists(
    st.tuples(switches | switches | deeds | st.sampled_from(Deed), st.sampled_from([0, 0, 0.002, 0.01])), min_size=4, max_size=25
)


@dataclass
class World:
    """One user's feed, and what truly was appended to it."""

    api: Api
    user_id: str
    top: int = 0
    written: dict[Place, int] = field(default_factory=dict)  # place -> what its event says

    async def append(self, count: int) -> None:
        first, self.top = self.top + 1, self.top + count
        entries = [(offset, event(offset)) for offset in range(first, self.top + 1)]
        done = await self.api.feed.append(self.user_id, entries)
        assert isinstance(done, Appended)
        self._wrote(done.position.epoch, first)

    async def append_silently(self) -> None:
        """What `append.lua` leaves behind when nobody hears its message."""
        position = await self.api.feed.position(self.user_id)
        self.top += 1
        head, log = self.api.feed._keys(self.user_id)
        await self.api.redis.xadd(log, {"t": 2**42, "e": event(self.top)}, id=f"{self.top}-0", maxlen=KEPT, approximate=False)
        await self.api.redis.hset(head, "top", str(self.top))
        self._wrote(position.epoch, self.top)

    async def wipe(self) -> None:
        self.api.relayed[self.user_id] = self.top
        await self.api.redis.delete(*self.api.feed._keys(self.user_id))

    async def erase(self) -> None:
        self.api.relayed[self.user_id] = self.top = 0
        await self.api.feed.erase(self.user_id)

    async def break_line(self) -> None:
        await self.api.redis.client_kill_filter(_type="pubsub")

    def _wrote(self, epoch: str, first: int) -> None:
        self.written |= {(epoch, offset): offset for offset in range(first, self.top + 1)}

    async def carry_out(self, deed: Deed) -> None:
        match deed:
            case Deed.APPEND:
                await self.append(2)
            case Deed.APPEND_SILENTLY:
                await self.append_silently()
            case Deed.OVERFLOW:
                await self.append(KEPT + 1)
            case Deed.WIPE:
                await self.wipe()
            case Deed.ERASE:
                await self.erase()
            case Deed.BREAK_LINE:
                await self.break_line()


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_EVENTS", KEPT)
    monkeypatch.setattr(hub, "CHECK_SECONDS", CHECK_SECONDS)
    monkeypatch.setattr(hub, "REDIAL_SECONDS", (0.001, 0.01))


async def play(api: Api, steps: list[Any]) -> tuple[World, list[App]]:
    """Carries the steps out; then every app is given the time to have everything, by the transport that it has or by a poll."""
    world = World(api, f"switcher-{next(USERS)}")
    await world.append(1)
    begin = await api.feed.position(world.user_id)

    async def give_token() -> str:
        return token(world.user_id)

    apps = [App(f"app-{number}", give_token) for number in range(APPS)]
    async with api.http(world.user_id) as http:
        watchers = [Watcher(app, port=api.port, http=http, since=(begin.epoch, begin.offset)) for app in apps]
        online: list[Transport | None] = [Transport.WEBSOCKET, Transport.SSE]
        try:
            for watcher, transport in zip(watchers, online, strict=True):
                await watcher.use(transport)
            for step, pause in steps:
                if isinstance(step, Switch):
                    online[step.app] = step.transport
                    await watchers[step.app].use(step.transport)
                else:
                    await world.carry_out(step)
                await asyncio.sleep(pause)
            for watcher, transport in zip(watchers, online, strict=True):
                if transport is None:
                    await watcher.use(Transport.POLL)
            top = await api.feed.position(world.user_id)
            await until(lambda: all(app.place == (top.epoch, top.offset) for app in apps), 10)
        finally:
            for watcher in watchers:
                await watcher.use(None)
    return world, apps


def check(world: World, app: App) -> None:
    assert app.faults == []
    for epoch, offset, told in app.heard:
        assert world.written[epoch, offset] == told["data"]["n"]


CALM = settings(max_examples=15, suppress_health_check=list(HealthCheck))


@pytest.mark.usefixtures("_small")
@CALM
@given(steps=plays)
async def test_switching_at_any_event_loses_nothing(api: Api, steps: list[Any]) -> None:
    world, apps = await play(api, steps)
    for app in apps:
        check(world, app)
        if world.top <= KEPT:  # nothing can have left the log
            assert app.losses == 0
            assert [offset for _, offset, _ in app.heard] == list(range(2, world.top + 1))


async def whole_or_told(api: Api, steps: list[Any]) -> None:
    world, apps = await play(api, steps)
    for app in apps:
        check(world, app)
        if app.losses == 0:
            assert [offset for _, offset, _ in app.heard] == list(range(2, world.top + 1))


@pytest.mark.usefixtures("_small")
@settings(CALM, max_examples=25)
@given(steps=severe_plays)
async def test_an_app_has_the_whole_log_or_was_told(api: Api, steps: list[Any]) -> None:
    await whole_or_told(api, steps)


@pytest.mark.long
@pytest.mark.usefixtures("_small")
@settings(CALM, max_examples=400)
@given(steps=severe_plays)
async def test_an_app_has_the_whole_log_or_was_told_in_many_plays(api: Api, steps: list[Any]) -> None:
    await whole_or_told(api, steps)
