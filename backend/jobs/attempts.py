"""One try of one job, and what its end means for the job.

In: a claimed job. Out: its settlement: over, again later, or given back. No exception leaves here, whatever the job does.
A job that fails is tried again, at most `max_tries` times; then `on_poisoned` tells its owner, until that succeeds.
`Postponed` is no failure: the job runs again at its time as if it were new.
Logs carry the job's function and id and where it failed; never its arguments, nor the words of an exception.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from arq.jobs import DeserializationError, deserialize_job_raw
from arq.worker import Function, Retry
from msgspec import Struct

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.jobs.leases import Run, Settlement, Tries
from backend.jobs.queue import JSON, Postponed

OnPoisoned = Callable[[str, dict[str, JSON]], Awaitable[None]]

ENDED = Settlement()
UNREADABLE = Settlement(failed=True)
POISONED = Settlement(failed=True)
GIVEN_BACK = Settlement(again_in=0, tries=Tries.TAKEN_BACK)

ENGINE_PAUSE = 1.0  # seconds until a job is tried again that met an engine that was away
POISONED_DEADLINE = 10.0  # seconds for `on_poisoned`

log = structlog.get_logger()


class UnknownFunction(LookupError):
    """This worker has no such function; a newer one may."""


class Call(Struct, frozen=True):
    """What a payload asks for."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    enqueued_ms: int
    function: Function | None  # None: unknown here
    max_tries: int


class Attempts:
    """Knows the functions and the rules for trying again; `retry_delay` (seconds) grows fourfold per try, with jitter."""

    def __init__(
        self,
        *,
        clock: Clock,
        functions: Mapping[str, Function],
        ctx: Mapping[Any, Any],
        max_tries: int,
        job_timeout: float | None,
        retry_delay: float,
        on_poisoned: OnPoisoned | None,
    ) -> None:
        self._clock = clock
        self._functions = functions
        self._ctx = ctx
        self._max_tries = max_tries
        self._job_timeout = job_timeout
        self._retry_delay = retry_delay
        self._on_poisoned = on_poisoned

    async def make(self, run: Run) -> Settlement:
        """Runs the job once. Its log context holds `job_id`, `function` and the job's `request_id`, if it has one."""
        tries = run.claimed.tries
        try:
            call = self._read(run.claimed.payload or b"")
        except DeserializationError:
            log.error("job.unreadable", job_id=run.claimed.job_id)
            return UNREADABLE
        _bind(run.claimed.job_id, call)
        try:
            # A job whose workers died is claimed once more than it may be tried, and only to be given up.
            if tries <= call.max_tries:
                failure = await self._try(call, run)
                if failure is None:
                    return ENDED
                if run.taken_away:
                    return GIVEN_BACK
                again = self._again(failure, tries, call.max_tries)
                if again is not None:
                    return again
            return await self._give_up(call, tries)
        except asyncio.CancelledError:
            return GIVEN_BACK

    def _read(self, payload: bytes) -> Call:
        name, args, kwargs, _, enqueued_ms = deserialize_job_raw(payload, deserializer=orjson.loads)
        if not (isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict) and isinstance(enqueued_ms, int)):
            raise DeserializationError
        function = self._functions.get(name)
        max_tries = self._max_tries if function is None or function.max_tries is None else function.max_tries
        return Call(name, tuple(args), kwargs, enqueued_ms, function, max_tries)

    async def _try(self, call: Call, run: Run) -> BaseException | None:
        """What the job raised; None: nothing, it is done."""
        ctx = {
            **self._ctx,
            "job_id": run.claimed.job_id,
            "job_try": run.claimed.tries,
            "enqueue_time": datetime.fromtimestamp(call.enqueued_ms / 1000, UTC),
            "score": run.claimed.due_ms,
            "lease": run.lease,
        }
        try:
            if call.function is None:
                raise UnknownFunction(call.name)
            timeout = self._job_timeout if call.function.timeout_s is None else call.function.timeout_s
            async with asyncio.timeout(timeout):
                await call.function.coroutine(ctx, *call.args, **call.kwargs)
        except (Exception, asyncio.CancelledError) as exc:  # a job may raise anything
            return exc
        log.debug("job.ended", job_try=run.claimed.tries)
        return None

    def _again(self, failure: BaseException, tries: int, max_tries: int) -> Settlement | None:
        """When to try again; None: never."""
        if isinstance(failure, Postponed):
            wait = (failure.run_at - self._clock.now()).total_seconds()
            return Settlement(again_in=max(0.0, wait), tries=Tries.FORGOTTEN)
        if isinstance(failure, EngineUnavailable):
            # Not the job's fault; bounded by the day after which a job expires.
            log.info("job.waits_for_engine", engine=failure.engine)
            return Settlement(again_in=_jittered(ENGINE_PAUSE), tries=Tries.TAKEN_BACK)
        if isinstance(failure, Retry):
            return None if tries >= max_tries else Settlement(again_in=(failure.defer_score or 0) / 1000)
        log.warning("job.failed", job_try=tries, error=type(failure).__name__, where=_where(failure))
        return None if tries >= max_tries else Settlement(again_in=_jittered(self._retry_delay * 4 ** (tries - 1)))

    async def _give_up(self, call: Call, tries: int) -> Settlement:
        """Tells the job's owner. If that fails, the job stays and only this is tried again."""
        log.error("job.poisoned", job_try=tries)
        if self._on_poisoned is None:
            return POISONED
        try:
            async with asyncio.timeout(POISONED_DEADLINE):
                await self._on_poisoned(call.name, call.kwargs)
        except Exception as exc:  # whatever it is, the job's owner does not know yet
            log.error("job.owner_not_told", error=type(exc).__name__, where=_where(exc))
            return Settlement(again_in=_jittered(ENGINE_PAUSE))
        return POISONED


def _bind(job_id: str, call: Call) -> None:
    """Each run is a task with a log context of its own."""
    tracing = {"request_id": call.kwargs["request_id"]} if "request_id" in call.kwargs else {}
    structlog.contextvars.bind_contextvars(job_id=job_id, function=call.name, **tracing)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311  # jitter, not a secret


def _where(exc: BaseException) -> str:
    """The innermost line, without the exception's words: those may repeat what came from outside."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else ""
