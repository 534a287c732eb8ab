"""The leader's duty: hears what nodes say, lets time pass, and carries out each verdict: stored first, then told.

In: the stream's words from the reign's beginning on, the modes that operators set, time. Out: decisions in the store, under the lead's
token. All judging is `hearing.py`'s. Who is refused by the store throws its memory away: another leads, or the store is another. What could
not be stored, since Valkey does not answer, is tried again before anything else is heard; nothing is told that was not stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from random import random
from typing import Protocol

import structlog

from backend.clock import Clock
from backend.coordinator.arrivals import ModeSet, ProbeAsked, ProbeReleased
from backend.coordinator.figures import TOLD_EVERY, Figures
from backend.coordinator.hearing import Hearing
from backend.coordinator.leader import word_of
from backend.coordinator.options import Options
from backend.coordinator.standing import Standing, decision_of
from backend.coordinator.store import Admitted, DecisionStore, Reign, Stored
from backend.coordinator.stream import ANSWERED_WITHIN, NEWEST, Entry, Mark, ModesChanged, ProbeGivenBack, ProbeWanted, Stream
from backend.coordinator.verdict import Verdict, admitted
from backend.errors import EngineUnavailable
from backend.providers.circuits import Circuit, Decision, Mode, Report

TICK = 0.1  # seconds from one look at what time has changed to the next
MODES_EVERY = 1.0  # seconds from one look at the operators' modes to the next
PROVED_EVERY = 1.0  # seconds within which the store is asked whether it still takes this reign's word, if there was none
PAUSE = 0.2  # seconds before what an engine did not take is tried again

log = structlog.get_logger()


class OperatorsModes(Protocol):
    """What operators want."""

    async def modes(self) -> Mapping[str, tuple[Mode, str]]:
        """Mode and reason by org_code; who is not in it is `auto`. Raises `EngineUnavailable`."""
        ...


class Shown(Protocol):
    """Where operators look at what the samples hold."""

    async def tell(self, figures: Iterable[Figures]) -> None:
        """Raises `EngineUnavailable`."""
        ...


class Deciding:
    """Give `reign` to `Leader.run`."""

    def __init__(
        self,
        *,
        store: DecisionStore,
        stream: Stream,
        modes: OperatorsModes,
        figures: Shown,
        circuits_of: Callable[[str], Iterable[Circuit]],
        options: Options,
        clock: Clock,
        draw: Callable[[], float] = random,
    ) -> None:
        """`circuits_of(org_code)`: those that a mode covers. `draw`: a number in [0, 1)."""
        self._store = store
        self._stream = stream
        self._modes = modes
        self._figures = figures
        self._circuits_of = circuits_of
        self._options = options
        self._clock = clock
        self._draw = draw

    async def reign(self, token: int) -> None:
        """Decides until it is cancelled. A refused memory gives way to what is stored; while another leads, nothing is done."""
        while True:
            try:
                stored = await self._store.read()
                after, _ = (await self._stream.read(NEWEST, 0))[0]
            except EngineUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            if stored.token == token:
                await self._hear(Reign(stored.lineage, token), stored, after)
                log.warning("reign.refused", fence=word_of(token))
            await asyncio.sleep(PAUSE)

    async def _hear(self, reign: Reign, stored: Stored, after: str) -> None:
        """Returns when the store refuses."""
        bench = Bench(stored, self._options, self._clock, self._draw)
        async with _Modes.read_along(self._modes) as modes:
            while await self._carried_out(reign, bench):
                if bench.must_look():
                    bench.look(modes.said, self._circuits_of)
                    continue
                if bench.must_show():
                    await self._show(bench)
                after = await self._listen(bench, modes, after)

    async def _listen(self, bench: Bench, modes: _Modes, after: str) -> str:
        """Hears what comes until time is to pass; the cursor behind it."""
        try:
            entries = await self._stream.read(after, bench.patience())
        except EngineUnavailable:
            await asyncio.sleep(PAUSE)
            return after
        for cursor, entry in entries:
            after = cursor
            if isinstance(entry.word, ModesChanged):
                modes.changed.set()
            elif isinstance(entry.word, Mark):
                log.warning("stream.missed", entries=entry.word.missed)
            else:
                bench.hear(entry)
        return after

    async def _show(self, bench: Bench) -> None:
        with suppress(EngineUnavailable):  # it is shown again in a moment
            await self._figures.tell(bench.figures())

    async def _carried_out(self, reign: Reign, bench: Bench) -> bool:
        """Whether it was taken. Tried until Valkey says yes or no: what was stored though the answer got lost may be stored again."""
        standings, decisions, answers = bench.taken()
        while standings or bench.must_prove():
            try:
                taken = await self._store.put(reign, standings, decisions, answers)
            except EngineUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            bench.proved()
            for decision in decisions if taken else ():
                _log(decision)
            return taken
        return True


class Bench:
    """What one reign has in mind, and what of it is still to be stored and told."""

    def __init__(self, stored: Stored, options: Options, clock: Clock, draw: Callable[[], float]) -> None:
        self._clock = clock
        self._draw = draw
        self._options = options
        self._ahead = stored.now_ms - clock.monotonic() * 1000  # one clock for all leaders, which goes on evenly while one of them leads
        self.hearing = Hearing(options, stored.standings, now=stored.now_ms)
        self._looks = 0.0  # when time is to pass next, monotonic
        self._proves = 0.0  # when the store is to be asked
        self._shows = 0.0  # when operators are to be shown something
        self._standings: dict[Circuit, Standing] = {}
        self._decisions: list[Decision] = []
        self._answers: list[Admitted] = []

    def now(self) -> float:
        """ms, by the store's clock."""
        return self._clock.monotonic() * 1000 + self._ahead

    def patience(self) -> float:
        """Seconds until time is to pass."""
        return max(self._looks - self._clock.monotonic(), 0.0)

    def must_look(self) -> bool:
        """Whether time is to pass."""
        return self.patience() <= 0

    def must_prove(self) -> bool:
        """Whether the store was not asked for long. Wiped, it would take no word, and nodes that read it would hear nothing."""
        return self._clock.monotonic() >= self._proves

    def proved(self) -> None:
        """It was asked."""
        self._proves = self._clock.monotonic() + PROVED_EVERY

    def must_show(self) -> bool:
        """Whether operators were shown nothing for long."""
        return self._clock.monotonic() >= self._shows

    def figures(self) -> list[Figures]:
        """What the samples hold."""
        self._shows = self._clock.monotonic() + TOLD_EVERY
        now = self.now()
        known = {circuit: self.hearing.evidence(circuit, now) for circuit in self.hearing.standings()}
        flagged = self.hearing.flagged(now)  # by what was just looked at
        return [
            Figures(
                circuit=circuit,
                calls=each.counted.calls,
                failure_rate=each.failure_rate,
                left_out=tuple(sorted(each.left_out)),
                bad=tuple(sorted(node for node, where in flagged.items() if circuit in where)),
            )
            for circuit, each in known.items()
        ]

    def look(self, said: Mapping[str, tuple[Mode, str]] | None, circuits_of: Callable[[str], Iterable[Circuit]]) -> None:
        """Lets time pass, and brings modes in line with what operators `said`. None: that is not known."""
        self._looks = self._clock.monotonic() + TICK
        self._note(self.hearing.passed(self.now(), self._draw))
        for circuit, mode, reason in wanted_modes(said, self.hearing.standings(), circuits_of) if said is not None else ():
            self._note([self.hearing.tell(circuit, ModeSet(mode, reason), self.now(), self._draw())])

    def hear(self, entry: Entry) -> None:
        """What a node says."""
        now = self.now()
        match entry.word:
            case Report() as report:
                self._note(self.hearing.heard(report, now - entry.age_ms, self._draw))
            case ProbeWanted() as asked if entry.age_ms <= ANSWERED_WITHIN * 1000:
                given = self.hearing.tell(asked.circuit, ProbeAsked(asked.name, asked.wanted, asked.epoch), now, self._draw())
                self._note([given])
                if admitted(given, asked.name):
                    self._answers.append(Admitted(asked.name, asked.number, decision_of(given.standing, now, self._options)))
            case ProbeGivenBack(circuit=circuit, name=name, fence=fence):
                probe = self.hearing.standing(circuit).probe
                if probe is not None and probe.name == name and probe.fence <= fence:
                    self._note([self.hearing.tell(circuit, ProbeReleased(probe.fence), now, self._draw())])

    def taken(self) -> tuple[list[Standing], list[Decision], list[Admitted]]:
        """What is to be stored and told, in its order; from then on it is the caller's."""
        taken = list(self._standings.values()), self._decisions, self._answers
        self._standings, self._decisions, self._answers = {}, [], []
        return taken

    def _note(self, verdicts: Iterable[Verdict]) -> None:
        for given in verdicts:
            self._standings[given.standing.circuit] = given.standing
            if given.decision is not None:
                self._decisions.append(given.decision)


class _Modes:
    """The operators' modes as they were last read. Reads beside the reign: a slow PostgreSQL keeps no decision waiting."""

    def __init__(self, port: OperatorsModes) -> None:
        self._port = port
        self.said: Mapping[str, tuple[Mode, str]] | None = None  # None: not read yet
        self.changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def read_along(cls, port: OperatorsModes) -> AsyncIterator[_Modes]:
        modes = cls(port)
        reading = asyncio.create_task(modes._read())
        try:
            yield modes
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            self.changed.clear()
            try:
                self.said = await self._port.modes()
            except EngineUnavailable as away:  # what was said last stands
                log.info("modes.not_read", engine=away.engine)
            except Exception as exc:  # whatever it is: operators are heard again with the next look
                log.error("modes.not_read", error=type(exc).__name__)
            try:
                async with asyncio.timeout(MODES_EVERY):
                    await self.changed.wait()
            except TimeoutError:
                pass


def wanted_modes(
    said: Mapping[str, tuple[Mode, str]], standings: Mapping[Circuit, Standing], circuits_of: Callable[[str], Iterable[Circuit]]
) -> list[tuple[Circuit, Mode, str]]:
    """What operators want otherwise than it stands: forced modes, and an end of those of which nothing is said any more."""
    forced = {circuit: word for org_code, word in said.items() if word[0] is not Mode.AUTO for circuit in circuits_of(org_code)}
    wanted = [
        (circuit, mode, reason)
        for circuit, (mode, reason) in forced.items()
        if circuit not in standings or (standings[circuit].mode, standings[circuit].reason) != (mode, reason)
    ]
    ended = [circuit for circuit, standing in standings.items() if standing.mode is not Mode.AUTO and circuit not in forced]
    return wanted + [(circuit, Mode.AUTO, "") for circuit in ended]


def _log(decision: Decision) -> None:
    log.info(
        "circuit.decided",
        org_code=decision.circuit.org_code,
        scope=decision.circuit.scope.value,
        state=decision.state.value,
        mode=decision.mode.value,
        epoch=decision.epoch,
        reason=decision.reason,
    )
