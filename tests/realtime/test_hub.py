"""Whatever happens between Valkey and the hub, a client hears everything once and in order, or that something is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from backend.errors import EngineUnavailable, Refused
from backend.events import Position
from backend.realtime import hub as hub_module
from backend.realtime.feed import MOST_EVENTS, SLICE_BYTES, FeedReader
from backend.realtime.hub import Hub
from backend.realtime.mailbox import MOST_BYTES, Mailbox
from backend.realtime.protocol import CloseCode
from backend.realtime.tallies import Transport
from tests.realtime.given import until
from tests.realtime.listening import ANNA, Client, World, entries, settle


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.hub:
        await settle()
        yield world


async def test_events_reach_everybody_who_listens(world: World) -> None:
    one, two = await Client(world.hub).attach(), await Client(world.hub).attach()
    await world.feed.append(ANNA, entries(1, 3))
    await settle()
    assert one.read() == two.read() == entries(1, 3)


async def test_who_comes_later_starts_where_it_asks(world: World) -> None:
    one = await Client(world.hub).attach()
    assert one.start is not None
    await world.feed.append(ANNA, entries(1, 3))
    two = await Client(world.hub).attach(Position(one.start.epoch, 1))
    await world.feed.append(ANNA, entries(4, 4))
    await settle()
    assert one.read() == entries(1, 4)
    assert two.read() == entries(2, 4)


async def test_a_gap_is_repaired_in_place(world: World) -> None:
    one = await Client(world.hub).attach()
    world.deaf = True
    await world.feed.append(ANNA, entries(1, 2))
    world.deaf = False
    await world.feed.append(ANNA, entries(3, 3))
    await settle()
    assert (one.read(), one.lost) == (entries(1, 3), False)


async def test_what_is_announced_during_a_repair_is_read_at_its_end(world: World) -> None:
    one = await Client(world.hub).attach()
    world.deaf = True
    await world.feed.append(ANNA, entries(1, 1))
    world.deaf, world.feed.gate = False, asyncio.Event()
    await world.feed.append(ANNA, entries(2, 2))
    await settle()
    await world.feed.append(ANNA, entries(3, 3))
    await settle()
    world.feed.gate.set()
    await settle()
    assert one.read() == entries(1, 3), "without waiting for the next check"


async def test_a_long_log_is_handed_over_as_fast_as_it_is_taken(world: World) -> None:
    start = await world.feed.position(ANNA)
    await world.feed.append(ANNA, [(offset, b"x" * SLICE_BYTES) for offset in range(1, 9)])
    one = await Client(world.hub).attach(start)
    for taken in range(2, 9):
        await settle()
        assert [offset for offset, _ in one.read()] == list(range(1, taken + 1)), "one slice at a time"


async def test_a_live_batch_of_any_size_waits_in_no_mailbox_as_a_whole(world: World) -> None:
    one = await Client(world.hub).attach()
    big = [(offset, b"%d" % offset + b" " * 100_000) for offset in range(1, 41)]
    await world.feed.append(ANNA, big)
    most = 0
    while len(one.heard) < len(big):
        await settle()
        most = max(most, one.mailbox._bytes)
        one.read()
    assert one.heard == big
    assert most <= MOST_BYTES


async def test_who_joins_with_an_answer_of_an_epoch_that_has_ended_is_told(world: World) -> None:
    one = await Client(world.hub).attach()
    world.feed.gate = slow = asyncio.Event()
    two = asyncio.create_task(Client(world.hub).attach())
    await settle()
    world.feed.gate = None
    await world.feed.erase(ANNA)
    three = await Client(world.hub).attach()
    await settle()
    slow.set()
    await settle()
    late = await two
    for client in (one, late, three):
        client.read()
    assert (one.lost, late.lost, three.lost) == (True, True, False)


async def test_who_is_behind_the_whole_log_is_told(world: World) -> None:
    one = await Client(world.hub).attach()
    world.deaf = True
    await world.feed.append(ANNA, entries(1, MOST_EVENTS + 1))
    await world.hub.check()
    await settle()
    one.read()
    assert one.lost


async def test_who_joins_during_a_repair_with_an_older_answer_misses_nothing(world: World) -> None:
    one = await Client(world.hub).attach()
    slow, world.feed.gate = asyncio.Event(), None
    world.feed.gate = slow
    two = asyncio.create_task(Client(world.hub).attach())  # its answer ends at 0
    await settle()
    world.feed.gate = None
    await world.feed.append(ANNA, entries(1, 2))
    await settle()
    world.deaf = True
    await world.feed.append(ANNA, entries(3, 3))
    world.deaf = False
    world.feed.gate = repairing = asyncio.Event()
    await world.feed.append(ANNA, entries(4, 4))  # a gap: the repair asks from 2 and waits
    await settle()
    slow.set()
    await settle()
    world.feed.gate = None
    repairing.set()
    await settle()
    assert one.read() == (await two).read() == entries(1, 4)


async def test_a_lost_last_message_is_found_by_the_check(world: World) -> None:
    one = await Client(world.hub).attach()
    world.deaf = True
    await world.feed.append(ANNA, entries(1, 2))
    await settle()
    assert one.read() == []
    await world.hub.check()
    await settle()
    assert one.read() == entries(1, 2)


async def test_a_broken_line_is_dialled_again_and_what_was_missed_is_read(world: World) -> None:
    one = await Client(world.hub).attach()
    world.exchange.cut()
    await world.feed.append(ANNA, entries(1, 2))
    await until(lambda: bool(one.read()))
    await world.feed.append(ANNA, entries(3, 3))
    await settle()
    assert one.read() == entries(1, 3)


async def test_a_wiped_feed_is_told_to_live_listeners(world: World) -> None:
    one = await Client(world.hub).attach()
    await world.feed.append(ANNA, entries(1, 2))
    await settle()
    world.feed.forget()
    await world.hub.check()
    await settle()
    assert one.read() == entries(1, 2)
    assert one.lost


async def test_an_erased_feed_is_told_at_once(world: World) -> None:
    one = await Client(world.hub).attach()
    await world.feed.erase(ANNA)
    await settle()
    one.read()
    assert one.lost


async def test_who_detaches_hears_nothing_more(world: World) -> None:
    one = await Client(world.hub).attach()
    await world.feed.append(ANNA, entries(1, 1))
    await settle()
    world.hub.detach(one.mailbox)
    await world.feed.append(ANNA, entries(2, 2))
    await settle()
    assert one.read() == []


async def test_who_leaves_before_they_read_that_something_is_lost_is_not_told_on_return(world: World) -> None:
    one = await Client(world.hub).attach()
    await world.feed.append(ANNA, entries(1, 1))
    await settle()
    world.feed.forget()
    await world.hub.check()
    await settle()
    world.hub.detach(one.mailbox)
    assert one.mailbox.take() == []


async def test_where_a_listener_is_costs_no_look_at_the_log_and_is_never_ahead_of_it(world: World) -> None:
    client = await Client(world.hub).attach()
    await world.feed.append(ANNA, entries(1, 2))
    await settle()
    newest = await world.feed.position(ANNA)
    world.deaf = True
    await world.feed.append(ANNA, entries(3, 3))
    assert await world.hub.position(ANNA) == newest, "what was not heard yet is heard after the answer"
    world.hub.detach(client.mailbox)
    assert (await world.hub.position(ANNA)).offset == 3, "nobody listens: the log knows"


async def test_a_drain_closes_in_slices(world: World) -> None:
    pauses: list[tuple[float, int]] = []
    mailboxes = [Mailbox() for _ in range(10)]

    async def sleep(seconds: float) -> None:
        pauses.append((seconds, sum(mailbox.closing is not None for mailbox in mailboxes)))

    hub = Hub(feed=world.feed, dial=world.exchange.dial, sleep=sleep)
    for mailbox in mailboxes:
        hub.enrol(mailbox, Transport.WEBSOCKET)
    draining = asyncio.create_task(hub.drain(0.5))
    await settle()
    assert pauses == [(0.1, 2), (0.1, 4), (0.1, 6), (0.1, 8)]
    assert {mailbox.closing for mailbox in mailboxes} == {CloseCode.SHUTDOWN}
    with pytest.raises(Refused):
        hub.enrol(Mailbox(), Transport.WEBSOCKET)
    for mailbox in mailboxes:
        assert not draining.done(), "a goodbye is not written yet"
        hub.withdraw(mailbox)
    await draining


async def test_a_drain_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.hub.drain(0)  # nobody is there
    monkeypatch.setattr(hub_module, "GOODBYE_SECONDS", 0.01)
    other = Hub(feed=world.feed, dial=world.exchange.dial)
    other.enrol(Mailbox(), Transport.WEBSOCKET)
    async with asyncio.timeout(1):
        await other.drain(0)


async def test_nothing_stays_of_who_has_gone(world: World) -> None:
    one = Client(world.hub)
    world.hub.enrol(one.mailbox, Transport.WEBSOCKET)
    await one.attach()
    world.hub.withdraw(one.mailbox)
    assert (world.hub._open, world.hub._places) == ({}, {})
    for _ in range(40):
        await world.hub._close_idle_rooms()
    assert world.hub._rooms == {}


class Flaky:
    """A feed that is away as long as it is told to be."""

    def __init__(self, feed: FeedReader) -> None:
        self.feed = feed
        self.away = False

    def __getattr__(self, name: str) -> object:
        if self.away:
            raise EngineUnavailable("Valkey")
        return getattr(self.feed, name)


async def test_a_repair_that_fails_is_tried_again_by_the_check() -> None:
    world = World()
    flaky = Flaky(world.feed)
    async with Hub(feed=flaky, dial=world.exchange.dial) as hub:  # type: ignore[arg-type]
        one = await Client(hub).attach()
        world.deaf = True
        await world.feed.append(ANNA, entries(1, 1))
        world.deaf, flaky.away = False, True
        await world.feed.append(ANNA, entries(2, 2))
        await settle()
        with pytest.raises(EngineUnavailable):
            await Client(hub).attach()
        with pytest.raises(EngineUnavailable):
            await hub.check()
        flaky.away = False
        await hub.check()
        await settle()
        assert one.read() == entries(1, 2)
