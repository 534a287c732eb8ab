"""What is called again, when, and how often at most, over a real socket. The pauses are not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from backend.clock import ManualClock
from backend.errors import ProviderError, ProviderTimeout, ProviderUnavailable
from backend.providers.calling.retrying import EARNED, LONGEST_JITTER, MOST_SAVED
from backend.providers.calling.transport import Repeats
from backend.providers.calls import Call
from backend.providers.contract import ApiType
from backend.providers.payloads import Envelope
from tests.providers.given import NOW
from tests.providers.lines import READ, line, tran_id_of
from tests.providers.rogue import Behaviour, Talk

T = TypeVar("T")


class Waits:
    """Takes the place of time between a call and its repeat."""

    def __init__(self, draw: float = 0.5) -> None:
        self.seconds: list[float] = []
        self.repeats = Repeats(draw=lambda: draw, sleep=self.wait)

    async def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)


def ill_once(status: bytes, body: bytes, *headers: bytes) -> Behaviour:
    """Fails the first request and answers the others."""
    failed: list[bytes] = []

    async def behaviour(talk: Talk) -> None:
        if failed:
            await talk.answer()
        else:
            failed.append(talk.request)
            await talk.answer(body, *headers, status=status)

    return behaviour


BROKEN = (b"500 Internal Server Error", b'{"rsp_code":"50001"}')


TOO_MANY = (b"429 Too Many Requests", b'{"rsp_code":"42901"}', b"Retry-After: 1")


async def test_what_is_safe_to_repeat_is_repeated_once_after_a_pause_under_anothertran_id_of() -> None:
    waits = Waits()
    async with line(ill_once(*BROKEN), repeats=waits.repeats) as each:
        assert await each.transport.call(READ)
    assert waits.seconds == [0.5 * LONGEST_JITTER]
    assert len({tran_id_of(request) for request in each.server.requests}) == 2


async def test_a_provider_that_says_when_is_called_then() -> None:
    waits = Waits()
    async with line(ill_once(*TOO_MANY), repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        assert await each.transport.call(READ)
    assert waits.seconds == [1 + 0.5 * LONGEST_JITTER]


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        (BROKEN, replace(READ, repeatable=False)),  # a sign_request, a first token request
        (TOO_MANY, replace(READ, api_type=ApiType.SCHEDULED)),  # comes back in another minute of the batch
        ((b"429 Too Many Requests", b'{"rsp_code":"42901"}'), READ),  # does not say until when
        ((b"429 Too Many Requests", b'{"rsp_code":"42901"}', b"Retry-After: 60"), READ),
        ((b"500 Maintenance", b'{"rsp_code":"50008"}'), READ),
        ((b"404 Not Found", b'{"rsp_code":"40402"}'), READ),
        ((b"200 OK", b"garbage"), READ),
    ],
)
async def test_everything_else_is_called_once(answer: tuple[bytes, ...], call: Call[Envelope]) -> None:
    waits = Waits()
    async with line(ill_once(*answer), repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        with pytest.raises(ProviderError):
            await each.transport.call(call)
    assert (waits.seconds, len(each.server.requests)) == ([], 1)


async def test_an_ill_provider_hardly_gets_more_calls_than_a_healthy_one() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(BROKEN[1], status=BROKEN[0])

    waits = Waits()
    async with line(behaviour, repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        for _ in range(200):
            with pytest.raises(ProviderUnavailable):
                await each.transport.call(READ)
    assert len(each.server.requests) <= 200 * (1 + EARNED) + MOST_SAVED
    assert len(waits.seconds) >= 200 * EARNED


async def test_a_repeat_has_what_the_first_try_left_of_the_deadline() -> None:
    async def behaviour(talk: Talk) -> None:
        if len(failed) == 0:
            failed.append(talk)
            await asyncio.sleep(0.1)
            await talk.answer(BROKEN[1], status=BROKEN[0])
        else:
            await asyncio.sleep(30)

    failed: list[Talk] = []
    async with line(behaviour, repeats=Waits().repeats, deadline=0.4) as each:
        with pytest.raises(ProviderTimeout, match="cut"):  # with a deadline of its own it would be "deadline"
            await each.transport.call(READ)
    assert len(each.server.requests) == 2


async def test_a_circuit_that_opens_after_the_first_try_refuses_the_repeat() -> None:
    class OpensAtOnce:
        def __init__(self) -> None:
            self.tries = 0

        async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
            self.tries += 1
            if self.tries > 1:
                raise ProviderUnavailable(org_code, "circuit", retry_at=NOW)
            return await attempt()

    async with line(ill_once(*BROKEN), repeats=Waits().repeats, guard=OpensAtOnce()) as each:
        with pytest.raises(ProviderUnavailable, match="circuit"):
            await each.transport.call(READ)
    assert len(each.server.requests) == 1
