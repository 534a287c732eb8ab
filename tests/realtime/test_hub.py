"""Whatever happens between Valkey and the hub, a client hears everything once and in order, or that something is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import EngineUnavailable, Refused
from backend.events import Position
from backend.jobs.valkey import connect
from backend.realtime.channels import MemoryExchange, dialer
from backend.realtime.feed import MOST_EVENTS, SLICE_BYTES, Feed, FeedReader, MemoryFeed, Slice, channel
from backend.realtime.hub import Hub
from backend.realtime.mailbox import Mailbox
from backend.realtime.merging import Entry
from backend.realtime.protocol import CloseCode
from tests.realtime.given import Api, event, until

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
        hub.enrol(mailbox)
    await hub.drain(0.5)
    assert pauses == [(0.1, 2), (0.1, 4), (0.1, 6), (0.1, 8)]
    assert {mailbox.closing for mailbox in mailboxes} == {CloseCode.SHUTDOWN}
    with pytest.raises(Refused):
        hub.enrol(Mailbox())


async def test_nothing_stays_of_who_has_gone(world: World) -> None:
    one = Client(world.hub)
    world.hub.enrol(one.mailbox)
    await one.attach()
    world.hub.withdraw(one.mailbox)
    assert (world.hub._open, world.hub._places) == ({}, {})
    for _ in range(40):
        await world.hub._close_idle_rooms()
    assert world.hub._rooms == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3)),
        st.tuples(st.just("deaf"), st.booleans()),
        st.tuples(st.just("attach"), st.integers(0, 7)),
        st.tuples(st.sampled_from(["check", "cut", "settle", "erase", "detach", "breathe"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.lists(st.integers(0, 12), min_size=1, max_size=5))
async def test_every_client_hears_everything_once_in_order_or_that_something_is_lost(
    steps: list[tuple[str, int]], delays: list[int]
) -> None:
    world = World()
    world.feed.delays = itertools.cycle(delays)
    async with world.hub:
        clients = [await Client(world.hub).attach()]
        for what, value in steps:
            await _step(world, clients, what, value)
            assert all(client.gapless() for client in clients)
        world.deaf = False
        await world.hub.check()
        await settle()
        newest = await world.feed.position(ANNA)
        for client in clients:
            assert client.gapless()
            assert client.start is not None
            if not client.lost:
                assert Position(client.start.epoch, client.start.offset + len(client.heard)) == newest


async def _step(world: World, clients: list[Client], what: str, value: int) -> None:
    newest = await world.feed.position(ANNA)
    match what:
        case "append":
            await world.feed.append(ANNA, entries(newest.offset + 1, newest.offset + value))
        case "deaf":
            world.deaf = bool(value)
        case "attach":
            asked = Position(newest.epoch, max(0, newest.offset - value % 3))
            joining, meanwhile = Client(world.hub).attach(asked), _meanwhile(world, value)
            client, _ = await asyncio.gather(joining, meanwhile)
            clients.append(client)
        case "check":
            await world.hub.check()
        case "cut":
            world.exchange.cut()
        case "erase":
            await world.feed.erase(ANNA)
        case "detach" if len(clients) > 1:
            world.hub.detach(clients.pop().mailbox)
        case "settle":
            await settle()
        case _:
            await asyncio.sleep(0)


async def _meanwhile(world: World, moment: int) -> None:
    """Appends, or erases, at some moment while somebody else attaches."""
    for _ in range(moment):
        await asyncio.sleep(0)
    if moment == 7:
        await world.feed.erase(ANNA)
    newest = await world.feed.position(ANNA)
    await world.feed.append(ANNA, entries(newest.offset + 1, newest.offset + 2))


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


# --- over a real Valkey ---------------------------------------------------------------------------------------------------


async def test_lines_that_valkey_cuts_are_dialled_again(api: Api) -> None:
    one = await Client(api.hub).attach()
    for round_ in range(5):
        await api.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await api.append(2 * round_ + 1, 2 * round_ + 1)
        await until(lambda: len(one.read()) == 2 * round_ + 1)  # noqa: B023  # awaited before the next round
        await api.append(2 * round_ + 2, 2 * round_ + 2)
        await until(lambda: len(one.read()) == 2 * round_ + 2)  # noqa: B023
    assert one.heard == [(offset, event(offset)) for offset in range(1, 11)]
    assert not one.lost


async def test_a_lost_last_message_is_repaired_within_a_second(api: Api) -> None:
    one = await Client(api.hub).attach()
    await api.redis.execute_command("CLIENT", "NO-EVICT", "OFF")  # a command of no effect: the feed's own line stays as it is
    assert api.hub._line is not None
    await api.hub._line.unsubscribe([channel(ANNA)])  # from now on, Valkey tells the hub nothing about this user
    await api.append(1, 1)
    await until(lambda: bool(one.read()), seconds=1.5)  # real time: the hub's own timer is what is tested
    assert one.heard == [(1, event(1))]


async def test_a_wiped_valkey_is_noticed_and_told(api: Api) -> None:
    one = await Client(api.hub).attach()
    await api.append(1, 2)
    await until(lambda: len(one.read()) == 2)
    api.relayed[ANNA] = 2
    await api.redis.flushall()
    await api.hub.check()

    def told() -> bool:
        one.read()
        return one.lost

    await until(told)
    assert (await api.feed.position(ANNA)).offset == 2


async def test_two_processes_hear_the_same(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=5, pool=4)
    feed = Feed(redis=redis, relayed=nothing_relayed)
    async with Hub(feed=feed, dial=dialer(redis)) as here, Hub(feed=feed, dial=dialer(redis)) as there:
        one, two = await Client(here).attach(), await Client(there).attach()
        for offset in range(1, 51):
            await feed.append(ANNA, entries(offset, offset))
        await until(lambda: len(one.read()) == len(two.read()) == 50)
        assert one.heard == two.heard == entries(1, 50)
    await redis.aclose()
