"""How connections to an institution are kept, shared and given up. Deadlines are real time here: they are the transport's own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from backend.clock import SystemClock
from backend.errors import ProviderError, ProviderTimeout, ProviderUnavailable
from backend.providers.calling.guard import CircuitGuard
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed
from backend.providers.calls import Call
from backend.providers.outcomes import Weight, outcome_of
from backend.providers.payloads import Envelope
from tests.providers.lines import FIRST, POST, READ, line, tran_id_of
from tests.providers.rogue import Behaviour, Talk


def stale() -> Behaviour:
    """Answers once on the first connection, then closes it when the next call comes in."""

    async def behaviour(talk: Talk) -> None:
        if talk.number == 1 and b"first" not in talk.request:
            talk.writer.close()
            return
        await talk.answer()

    return behaviour


@pytest.mark.parametrize("call", [READ, POST])
async def test_a_read_on_a_connection_that_had_gone_stale_is_repeated_once(call: Call[Envelope]) -> None:
    async with line(stale()) as each:
        await each.transport.call(FIRST)
        assert await each.transport.call(call)
    assert len(each.server.requests) == 3
    assert len({tran_id_of(request) for request in each.server.requests}) == 3


async def test_what_has_an_effect_is_not_repeated() -> None:
    async with line(stale()) as each:
        await each.transport.call(FIRST)
        with pytest.raises(ProviderUnavailable):
            await each.transport.call(replace(POST, repeatable=False))
    assert len(each.server.requests) == 2


async def test_an_answer_that_broke_off_is_not_asked_for_again() -> None:
    async def behaviour(talk: Talk) -> None:
        if b"first" in talk.request:
            await talk.answer()
            return
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        talk.writer.close()

    async with line(behaviour) as each:
        await each.transport.call(FIRST)
        with pytest.raises(ProviderError, match="truncated"):
            await each.transport.call(READ)
    assert len(each.server.requests) == 2


async def test_a_provider_never_has_more_connections_than_its_entry_allows() -> None:
    async def behaviour(talk: Talk) -> None:
        await asyncio.sleep(0.005)
        await talk.answer()

    async with line(behaviour, connections=3) as each:
        await asyncio.gather(*(each.transport.call(READ) for _ in range(30)))
    assert each.server.most_open == 3
    assert len(each.server.requests) == 30


async def test_waiting_for_a_connection_is_part_of_the_deadline() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with line(behaviour, connections=1, deadline=0.1) as each:
        ended = await asyncio.gather(*(each.transport.call(READ) for _ in range(5)), return_exceptions=True)
    assert [type(error).__name__ for error in ended] == ["ProviderTimeout"] * 5


@pytest.mark.parametrize(("ahead", "reason"), [(0.1, "deadline"), (0.6, "cut")])
async def test_a_wait_in_our_own_line_is_nobodys_fault_unless_the_provider_still_had_most_of_the_time(ahead: float, reason: str) -> None:
    async def behaviour(talk: Talk) -> None:
        await asyncio.sleep(ahead if b"first" in talk.request else 30)
        await talk.answer()

    async with line(behaviour, connections=1, deadline=0.9) as each:
        first = asyncio.create_task(each.transport.call(FIRST))
        await asyncio.sleep(0)
        with pytest.raises(ProviderTimeout, match=reason) as caught:
            await each.transport.call(READ)
        await first
    assert (outcome_of(caught.value.reason).weight is Weight.FAILURE) == (reason == "deadline")
    assert len(each.server.requests) == 2


async def test_who_never_leaves_our_own_line_says_nothing_of_the_provider() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with line(behaviour, connections=1, deadline=0.1) as each:
        ended = await asyncio.gather(*(each.transport.call(READ) for _ in range(3)), return_exceptions=True)
        again = await asyncio.gather(each.transport.call(READ), return_exceptions=True)
    assert [getattr(error, "reason", None) for error in (*ended, *again)] == ["deadline", "cut", "cut", "deadline"]


async def test_cancellation_passes_through_and_frees_the_connection() -> None:
    arrived = asyncio.Event()

    async def behaviour(talk: Talk) -> None:
        if b"first" in talk.request:
            await talk.answer()
            return
        arrived.set()
        await talk.reader.read()

    async with line(behaviour, connections=1) as each:
        call = asyncio.create_task(each.transport.call(READ))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await each.transport.call(FIRST)


async def test_the_time_in_our_own_line_does_not_make_an_answer_slow() -> None:
    class Notices:
        def __init__(self) -> None:
            self.took: list[float] = []

        def notice(self, noticed: Noticed) -> None:
            self.took.append(noticed.took)

    async def behaviour(talk: Talk) -> None:
        await asyncio.sleep(0.1)
        await talk.answer()

    clock, notices = SystemClock(), Notices()
    guard = CircuitGuard(mirrors=Mirrors(clock), notices=notices, clock=clock, slow_after=lambda _: 0.2)
    async with line(behaviour, connections=1, guard=guard) as each:
        await asyncio.gather(*(each.transport.call(READ) for _ in range(4)))
    assert len(notices.took) == 4
    assert max(notices.took) < 0.3  # the last of them was with us for 0.4 s
