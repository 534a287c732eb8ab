"""The one place through which every call to the outside passes: `Transport.call`.

In: a `Call`, which says what to send and how its answer is read. Out: the answer, or a `ProviderError`; cancellation passes through.
Every call has a total deadline, its body and headers a bound, its own tran-id, one line in the log. Never logged: bodies, headers, URLs.
The guard (circuit, pace) wraps each attempt as a whole, so it hears the same verdict as the caller, and may refuse to repeat one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from random import random
from typing import Protocol, TypeVar
from urllib.parse import urlencode

import httpx
import structlog

from backend.clock import Clock
from backend.errors import ProviderError
from backend.providers import outcomes
from backend.providers.calling import retrying
from backend.providers.calling.retrying import Budget
from backend.providers.calling.wire import HEADERS, WIRE_ERRORS, ConnectionLost, failure_of, stood_in_line
from backend.providers.calls import Call
from backend.providers.contract import ApiType
from backend.providers.ids import Serials, tran_id
from backend.providers.outcomes import Failure
from backend.providers.payloads import Malformed, code_of

MAX_BODY_BYTES = 1024 * 1024

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Guard(Protocol):
    """Stands before every call: lets it through, or refuses by a `ProviderError`; hears how it ended."""

    async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        """Awaits `attempt` at most once and returns or raises what it does."""
        ...


@dataclass
class Repeats:
    """What a transport repeats calls with: the provider's budget, draws in [0, 1), and how it waits."""

    draw: Callable[[], float] = random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class _Reply:
    status: int
    retry_after: str | None
    body: bytes = field(repr=False)


@dataclass
class _Trace:
    """What the log line tells."""

    tran_id: str = ""
    status: int | None = None
    outcome: str = "cancelled"


class Transport:
    """The calls to one institution."""

    def __init__(  # noqa: PLR0913  # by keyword, from one place
        self,
        org_code: str,
        *,
        wire: httpx.AsyncBaseTransport,
        base_url: str,
        operator: str,
        serials: Serials,
        clock: Clock,
        deadline: float,
        guard: Guard | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        """`deadline`: seconds for one call in all, the wait for a free connection and a repeat included. `repeats`: None: no repeats."""
        self.org_code = org_code
        self._wire = wire
        self._base_url = base_url
        self._operator = operator
        self._serials = serials
        self._clock = clock
        self._deadline = deadline
        self._guard = guard
        self._repeats = repeats

    def under(self, guard: Guard) -> Transport:
        """The same line under another guard. Its calls are not repeated: a probe asks once."""
        line = copy(self)
        line._guard, line._repeats = guard, None
        return line

    async def call(self, call: Call[T], *, within: float | None = None) -> T:
        """Raises `ProviderError`. `within`: seconds left to the caller, if that is less than the call's own deadline.

        A call that ends because the caller had less time, or because it waited for a connection of ours for more than half of its time,
        is no sign of the provider's health (`Failure.CUT`).
        """
        seconds = self._deadline if within is None else min(within, self._deadline)
        ends = self._clock.monotonic() + seconds
        if self._repeats is not None:
            self._repeats.budget = retrying.earned(self._repeats.budget)
        try:
            return await self._guarded(call, seconds)
        except ProviderError as error:
            pause = self._pause(call, error, ends - self._clock.monotonic())
            if pause is None or self._repeats is None:
                raise
        await self._repeats.sleep(pause)
        return await self._guarded(call, ends - self._clock.monotonic())

    def _pause(self, call: Call[T], error: ProviderError, left: float) -> float | None:
        """Seconds until the call is repeated, paid for; None: it is not."""
        repeats = self._repeats
        if repeats is None or not call.repeatable:
            return None
        if call.api_type is ApiType.SCHEDULED and error.retry_at is not None:
            return None  # the batch has its own calendar
        retry_after = (error.retry_at - self._clock.now()).total_seconds() if error.retry_at is not None else None
        pause = retrying.pause(error.reason, retry_after, left, repeats.draw())
        budget = None if pause is None else retrying.spent(repeats.budget, self._clock.monotonic())
        if budget is None:
            return None
        repeats.budget = budget
        return pause

    async def _guarded(self, call: Call[T], seconds: float) -> T:
        if seconds <= 0:
            raise outcomes.failed(self.org_code, Failure.CUT)  # nothing leaves: a kept connection would take the request at once
        if self._guard is None:
            return await self._attempt(call, seconds)
        return await self._guard.through(self.org_code, call, lambda: self._attempt(call, seconds))

    async def _attempt(self, call: Call[T], seconds: float) -> T:
        trace = _Trace()
        started = self._clock.monotonic()
        try:
            answer = self._answer(call, await self._reply(call, seconds, trace))
            trace.outcome = "ok"
            return answer
        except ProviderError as error:
            trace.outcome = error.reason
            raise
        finally:
            log.info(
                "provider.call",
                org_code=self.org_code,
                api_code=call.api_code,
                status=trace.status,
                outcome=trace.outcome,
                ms=round((self._clock.monotonic() - started) * 1000, 1),
                tran_id=trace.tran_id,
            )

    async def _reply(self, call: Call[T], seconds: float, trace: _Trace) -> _Reply:
        """A whole HTTP answer, whatever it says. `from None`: the causes quote URLs and bytes of the answer."""
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._send(call, trace)
                except ConnectionLost as lost:
                    if not (lost.stale and call.repeatable):
                        raise
                return await self._send(call, trace)
        except TimeoutError:
            had_its_time = seconds >= self._deadline and stood_in_line() <= self._deadline / 2
            raise outcomes.failed(self.org_code, Failure.DEADLINE if had_its_time else Failure.CUT) from None
        except WIRE_ERRORS as exc:
            raise outcomes.failed(self.org_code, failure_of(exc)) from None

    async def _send(self, call: Call[T], trace: _Trace) -> _Reply:
        request = self._request(call, trace)
        response = await self._wire.handle_async_request(request)
        try:
            trace.status = response.status_code
            named = {name.lower(): value for name, value in response.headers.raw}  # httpx guesses an encoding at each look
            if any(name.lower() == b"content-encoding" and value.lower() != b"identity" for name, value in response.headers.raw):
                raise outcomes.failed(self.org_code, Failure.ENCODED)
            body = await self._body(response)
        finally:
            await response.aclose()
        return _Reply(response.status_code, named[b"retry-after"].decode("latin-1") if b"retry-after" in named else None, body)

    def _request(self, call: Call[T], trace: _Trace) -> httpx.Request:
        trace.tran_id = tran_id(self._operator, self._serials.next())
        headers = {**HEADERS, "x-api-tran-id": trace.tran_id}
        if call.token is not None:
            headers["Authorization"] = f"Bearer {call.token}"
        if call.api_type is not None:
            headers["x-api-type"] = call.api_type
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        url = f"{self._base_url}{call.path}"
        if call.query:
            url = f"{url}?{urlencode(call.query)}"
        return httpx.Request(call.method, _url(url), headers=headers, content=call.body)

    async def _body(self, response: httpx.Response) -> bytes:
        """Counts what arrives, not what was announced."""
        body = bytearray()
        async for chunk in response.stream:  # type: ignore[union-attr]  # of an asynchronous transport
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise outcomes.failed(self.org_code, Failure.OVERSIZE)
        return bytes(body)

    def _answer(self, call: Call[T], reply: _Reply) -> T:
        code = code_of(reply.body)
        finding = outcomes.of_answer(reply.status, code, call.accepts)
        if finding is not None:
            raise outcomes.error_of(self.org_code, finding, outcomes.retry_at(reply.retry_after, self._clock.now()))
        try:
            return call.read(code, reply.body)
        except Malformed:
            raise outcomes.failed(self.org_code, Failure.MALFORMED) from None


@lru_cache(maxsize=1024)
def _url(url: str) -> httpx.URL:
    """Parsing one costs a tenth of a call, and a provider's lists are asked for at the same few."""
    return httpx.URL(url)
