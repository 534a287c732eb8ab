"""A process's ear for the fleet's decisions: whatever is told or stored is applied to its mirrors, and passed on to whoever listens.

In: the channel of decisions, and the whole state: at the start, after every reconnect, and every few seconds, since a lost last message
shows no gap. Out: mirrors that believe what the fleet decided; changes, for probing and for those who show circuits; the answers to who
asked for a probe; and whether Valkey can be heard at all (`alone.py` decides meanwhile). Never here: a decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from random import random
from typing import Protocol

import msgspec
import structlog

from backend.clock import Clock
from backend.coordinator.options import Options
from backend.coordinator.store import CHANNEL, Admitted, Stored, Told, as_decisions
from backend.errors import EngineUnavailable
from backend.providers.calling.mirror import Mirrors
from backend.providers.circuits import Decision, Decisions

WHOLE_EVERY = 3.0  # seconds from one reading of the whole state to the next
WHOLE_WITHIN = 2.0  # seconds that one may take
QUIET = 0.5  # seconds without a message after which the line is asked whether it lives
SILENT = 1.5  # seconds without an answer after which it does not
PAUSES = (0.05, 1.0)  # seconds before the next attempt at a line, doubling from the first to the second

log = structlog.get_logger(__name__)


class Heard(Protocol):
    """What came in. Without a message it was only a sign of life."""

    @property
    def channel(self) -> str: ...

    @property
    def message(self) -> bytes | None: ...


class Line(Protocol):
    """One pub/sub connection. Every method raises `EngineUnavailable` when it is lost."""

    async def subscribe(self, channels: Sequence[str]) -> None: ...

    async def ping(self) -> None: ...

    def heard(self) -> AsyncIterator[Heard]: ...

    async def close(self) -> None: ...


class WholeState(Protocol):
    """Where all decisions lie."""

    async def read(self) -> Stored: ...


class Understudy(Protocol):
    """Who decides while the fleet can't be heard."""

    def lost(self) -> None:
        """The fleet can't be heard; this may be said more than once."""
        ...

    def found(self) -> None:
        """It can."""
        ...


class NoUnderstudy:
    """For a process that makes no calls."""

    def lost(self) -> None:
        """What was decided last stands until it expires."""

    def found(self) -> None:
        """It is replaced by what the fleet says."""


class Following:
    """One per process; run it beside the rest."""

    def __init__(
        self,
        *,
        store: WholeState,
        dial: Callable[[], Awaitable[Line]],
        mirrors: Mirrors,
        options: Options,
        clock: Clock,
        understudy: Understudy | None = None,
        draw: Callable[[], float] = random,
    ) -> None:
        """`draw`: a number in [0, 1), for pauses."""
        self._store = store
        self._dial = dial
        self._mirrors = mirrors
        self._options = options
        self._clock = clock
        self._understudy = understudy or NoUnderstudy()
        self._draw = draw
        self._changes: list[Callable[[Decision], None]] = []
        self._answers: list[Callable[[Admitted], None]] = []
        self._whole_at = 0.0  # when the whole state is to be read next, monotonic
        self._hears: bool | None = None  # whether the last attempt at a line went well; None: there was none
        self.informed = asyncio.Event()  # set once the whole state was read

    def on_change(self, listener: Callable[[Decision], None]) -> None:
        """Hears each decision that changed a mirror, after it did. Must not raise or wait."""
        self._changes.append(listener)

    def on_admitted(self, listener: Callable[[Admitted], None]) -> None:
        """Hears each answer to who asked for a probe. Must not raise or wait."""
        self._answers.append(listener)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        pause = PAUSES[0]
        while True:
            began = self._clock.monotonic()
            try:
                await self._follow()
            except EngineUnavailable as away:
                self._understudy.lost()
                if self._hears is not False:
                    log.warning("circuits.not_heard", engine=away.engine)
                self._hears = False
            if self._clock.monotonic() - began > PAUSES[1]:
                pause = PAUSES[0]
            await asyncio.sleep(pause * (0.5 + self._draw() / 2))
            pause = min(pause * 2, PAUSES[1])

    async def _follow(self) -> None:
        """One line, until it is lost."""
        line = await self._dial()
        try:
            await line.subscribe([CHANNEL])
            async with aclosing(_in_time(line)) as coming:
                async for heard in coming:
                    await self._take(heard)
        finally:
            await line.close()

    async def _take(self, heard: Heard) -> None:
        """The first thing that is heard is that the subscription holds: whatever is told from then on will be heard."""
        if heard.channel == CHANNEL and heard.message is not None:
            self._told(heard.message)
        elif heard.channel == CHANNEL:
            self._whole_at = 0.0
        if self._clock.monotonic() >= self._whole_at:
            await self._read_whole()

    def _told(self, message: bytes) -> None:
        try:
            told = msgspec.msgpack.decode(message, type=Told)
        except msgspec.MsgspecError:
            log.warning("decisions.not_understood")
            return
        if self._mirrors.apply(told.decisions):
            self._tell_changes(told.decisions)
        else:
            self._whole_at = 0.0  # another life of the store
        for answer in told.admitted:
            for listener in self._answers:
                listener(answer)

    async def _read_whole(self) -> None:
        """Frozen, Valkey still takes what is sent to it: so this has a time of its own."""
        try:
            async with asyncio.timeout(WHOLE_WITHIN):
                stored = await self._store.read()
        except TimeoutError:
            raise EngineUnavailable("Valkey") from None
        whole = as_decisions(stored, self._options)
        self._whole_at = self._clock.monotonic() + WHOLE_EVERY
        self._hears = True
        self._understudy.found()
        self._mirrors.whole(whole)
        self._tell_changes(whole)
        self.informed.set()

    def _tell_changes(self, told: Decisions) -> None:
        for decision in told.decisions:
            circuit = decision.circuit
            if self._mirrors.of(circuit.org_code, circuit.scope).decision is decision:
                log.debug(
                    "circuit.applied",
                    org_code=circuit.org_code,
                    scope=circuit.scope.value,
                    state=decision.state.value,
                    epoch=decision.epoch,
                )
                for listener in self._changes:
                    listener(decision)


async def _in_time(line: Line) -> AsyncGenerator[Heard, None]:
    """What a line hears, as long as it lives: quiet, it is asked for a sign; without one it is taken for lost."""
    heard = line.heard()
    coming: asyncio.Task[Heard] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(heard))
            done, _ = await asyncio.wait({coming}, timeout=QUIET)
            if not done:
                await line.ping()
                done, _ = await asyncio.wait({coming}, timeout=SILENT)
            if not done:
                raise EngineUnavailable("Valkey")
            yield coming.result()
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, EngineUnavailable, StopAsyncIteration):
                await coming
