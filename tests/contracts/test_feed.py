"""One exam for every feed: the real one in Valkey and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.events import Appended, Gap, Position
from backend.jobs.valkey import connect
from backend.realtime.feed import MOST_EVENTS, OPERATORS, SLICE_BYTES, Feed, MemoryFeed

ANNA = "anna"


def entries(first: int, last: int) -> list[tuple[int, bytes]]:
    return [(offset, event(offset)) for offset in range(first, last + 1)]


def event(offset: int) -> bytes:
    return b'{"type":"provider.connecting","data":{"n":%d}}' % offset


@dataclass
class Exam:
    feed: Feed | MemoryFeed
    wipe: Callable[[], Awaitable[object]]
    relayed: dict[str, int] = field(default_factory=dict)


@pytest.fixture(params=["valkey", "memory"])
async def exam(request: pytest.FixtureRequest) -> AsyncIterator[Exam]:
    relayed: dict[str, int] = {}

    async def ask(user_id: str) -> int:
        return relayed.get(user_id, 0)

    if request.param == "memory":
        twin = MemoryFeed(relayed=ask)

        async def wipe() -> None:
            twin.forget()

        yield Exam(twin, wipe, relayed)
        return
    redis = connect(request.getfixturevalue("valkey_url"), timeout=5, pool=4)
    yield Exam(Feed(redis=redis, relayed=ask), redis.flushall, relayed)
    await redis.aclose()


async def test_one_reading_is_bounded_in_bytes_and_says_that_there_is_more(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    long = [(offset, b"x" * (SLICE_BYTES // 3)) for offset in (1, 2, 3, 4)]
    longer = (5, b"y" * (SLICE_BYTES + 1))
    await exam.feed.append(ANNA, [*long, longer, (6, b"z")])
    read = [await exam.feed.read(ANNA, start)]
    while read[-1].more:
        read.append(await exam.feed.read(ANNA, read[-1].position))
    assert [[offset for offset, _ in each.entries] for each in read] == [[1, 2, 3], [4], [5], [6]]
    assert read[-1].position == await exam.feed.position(ANNA)


async def test_a_new_users_feed_is_empty_and_keeps_its_epoch(exam: Exam) -> None:
    position = await exam.feed.position(ANNA)
    assert position.offset == 0
    assert position.epoch not in {"", "_"}
    assert ":" not in position.epoch
    assert await exam.feed.position(ANNA) == position


async def test_what_was_appended_is_read_in_order(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    assert await exam.feed.append(ANNA, entries(1, 2)) == Appended(Position(start.epoch, 2))
    await exam.feed.append(ANNA, entries(3, 3))
    got = await exam.feed.read(ANNA, start)
    assert got.recovered
    assert list(got.entries) == entries(1, 3)
    assert got.position == Position(start.epoch, 3) == await exam.feed.position(ANNA)


async def test_reading_from_the_top_gives_nothing_and_loses_nothing(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 3))
    top = await exam.feed.position(ANNA)
    got = await exam.feed.read(ANNA, top)
    assert (got.recovered, got.entries, got.position) == (True, (), top)


async def test_reading_without_a_position_gives_only_the_newest(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 3))
    got = await exam.feed.read(ANNA, None)
    assert (got.entries, got.position.offset) == ((), 3)


async def test_a_limit_is_kept_and_the_rest_follows(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    await exam.feed.append(ANNA, entries(1, 5))
    some = await exam.feed.read(ANNA, start, limit=2)
    assert (list(some.entries), some.position.offset) == (entries(1, 2), 2)
    rest = await exam.feed.read(ANNA, some.position)
    assert list(rest.entries) == entries(3, 5)


async def test_an_offset_that_is_there_is_ignored(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    await exam.feed.append(ANNA, entries(1, 3))
    assert await exam.feed.append(ANNA, entries(2, 4)) == Appended(Position(start.epoch, 4))
    assert await exam.feed.append(ANNA, [(1, event(9))]) == Appended(Position(start.epoch, 4))
    assert list((await exam.feed.read(ANNA, start)).entries) == entries(1, 4)


async def test_a_gap_stops_the_append_and_names_the_top(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    assert await exam.feed.append(ANNA, entries(2, 3)) == Gap(0)
    assert await exam.feed.append(ANNA, [*entries(1, 1), *entries(3, 4)]) == Gap(1)
    assert list((await exam.feed.read(ANNA, start)).entries) == entries(1, 1)
    assert await exam.feed.append(ANNA, entries(2, 4)) == Appended(Position(start.epoch, 4))


async def test_a_rebase_over_a_gap_starts_a_new_epoch(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 2))
    before = await exam.feed.position(ANNA)
    appended = await exam.feed.append(ANNA, entries(7, 8), rebase=True)
    assert isinstance(appended, Appended)
    assert appended.position.offset == 8
    assert appended.position.epoch != before.epoch
    assert not (await exam.feed.read(ANNA, before)).recovered
    kept = await exam.feed.read(ANNA, Position(appended.position.epoch, 6))
    assert list(kept.entries) == entries(7, 8)


async def test_a_rebase_without_a_gap_is_an_append(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 2))
    before = await exam.feed.position(ANNA)
    assert await exam.feed.append(ANNA, entries(2, 3), rebase=True) == Appended(Position(before.epoch, 3))


async def test_an_unknown_feed_opens_where_the_relay_stands(exam: Exam) -> None:
    exam.relayed[ANNA] = 41
    assert (await exam.feed.position(ANNA)).offset == 41
    assert isinstance(await exam.feed.append(ANNA, entries(42, 42)), Appended)


async def test_an_append_to_an_unknown_feed_opens_it_just_below(exam: Exam) -> None:
    appended = await exam.feed.append(ANNA, entries(42, 43))
    assert isinstance(appended, Appended)
    got = await exam.feed.read(ANNA, Position(appended.position.epoch, 41))
    assert list(got.entries) == entries(42, 43)


async def test_a_wiped_feed_has_another_epoch_and_no_history(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 5))
    before = await exam.feed.position(ANNA)
    exam.relayed[ANNA] = 5
    await exam.wipe()
    got = await exam.feed.read(ANNA, before)
    assert (got.recovered, got.entries, got.position.offset) == (False, (), 5)
    assert got.position.epoch != before.epoch


@pytest.mark.parametrize("since", [Position("_", 0), Position("", 0), Position("{top}", 4), Position("{top}", 10**18)])
async def test_a_position_that_never_was_is_not_recovered(exam: Exam, since: Position) -> None:
    await exam.feed.append(ANNA, entries(1, 3))
    top = await exam.feed.position(ANNA)
    asked = Position(since.epoch.replace("{top}", top.epoch), since.offset)
    got = await exam.feed.read(ANNA, asked)
    assert (got.recovered, got.position) == (False, top)


async def test_only_the_last_thousand_are_kept_and_older_positions_say_so(exam: Exam) -> None:
    start = await exam.feed.position(ANNA)
    await exam.feed.append(ANNA, entries(1, MOST_EVENTS + 1))
    assert not (await exam.feed.read(ANNA, start)).recovered
    got = await exam.feed.read(ANNA, Position(start.epoch, 1))
    assert got.recovered
    assert list(got.entries) == entries(2, MOST_EVENTS + 1)


async def test_an_erased_feed_is_empty_under_another_epoch(exam: Exam) -> None:
    await exam.feed.append(ANNA, entries(1, 3))
    before = await exam.feed.position(ANNA)
    await exam.feed.erase(ANNA)
    after = await exam.feed.position(ANNA)
    assert after.offset == 0
    assert after.epoch != before.epoch
    assert not (await exam.feed.read(ANNA, before)).recovered
    assert await exam.feed.append(ANNA, entries(4, 4)) == Gap(0), "an append that was on its way must not bring anything back"


async def test_a_glance_opens_nothing(exam: Exam) -> None:
    await exam.feed.append("ben", entries(1, 2))
    assert await exam.feed.glance([ANNA, "ben"]) == [None, await exam.feed.position("ben")]
    assert await exam.feed.glance([ANNA]) == [None]


async def test_feeds_do_not_meet_whatever_the_user_is_called(exam: Exam) -> None:
    names = ["a", "A", "{a}", "a:b", "*", "모아", "\ud800", "a\nb", " ", "x" * 255, OPERATORS]
    for count, name in enumerate(names, 1):
        await exam.feed.append(name, entries(1, count))
    assert [(await exam.feed.position(name)).offset for name in names] == list(range(1, len(names) + 1))


async def test_an_event_is_one_line(exam: Exam) -> None:
    with pytest.raises(ValueError, match="one line"):
        await exam.feed.append(ANNA, [(1, b"{}\n{}")])
    assert (await exam.feed.position(ANNA)).offset == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sends=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=12))
async def test_however_relays_repeat_and_overtake_the_log_has_no_hole_and_no_double(exam: Exam, sends: list[tuple[int, int]]) -> None:
    await exam.wipe()
    start = await exam.feed.position(ANNA)
    top = 0
    for first, more in sends:
        answer = await exam.feed.append(ANNA, entries(first, first + more))
        if first > top + 1:
            assert answer == Gap(top)
        else:
            top = max(top, first + more)
            assert answer == Appended(Position(start.epoch, top))
    assert list((await exam.feed.read(ANNA, start)).entries) == entries(1, top)
