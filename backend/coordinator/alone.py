"""A node's own judgement, for as long as the fleet can't be heard: its own sample, the same rules, a quorum of one.

In: how this node's calls end, and that Valkey is lost or found. Out: decisions for its own mirrors, which take no epoch of the fleet's and
stand until Valkey is found; and probes of its own, one at a time for each circuit. What the fleet had decided stands until it expires, and
is not judged anew before that. Nothing of this is told to anybody: the reports that wait say it all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import random

import structlog
from msgspec.structs import replace

from backend.clock import Clock
from backend.coordinator.arrivals import Arrived, ProbeAsked, ProbeReleased
from backend.coordinator.hearing import Hearing
from backend.coordinator.options import Options
from backend.coordinator.standing import decision_of
from backend.coordinator.verdict import Verdict, admitted
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed
from backend.providers.circuits import CallEnded, Circuit, Decision, Mode, Report
from backend.providers.outcomes import Weight

LOOKED_EVERY = 0.1  # seconds from one look at the calls that ended to the next
MOST_CALLS = 2_000  # that wait for it
_ME = "me"

log = structlog.get_logger(__name__)


class Alone:
    """One per process that makes calls; run it beside the rest, and let it hear each call that ended."""

    def __init__(self, *, mirrors: Mirrors, options: Options, clock: Clock, draw: Callable[[], float] = random) -> None:
        """`options`: the fleet's; here nobody else needs to be asked. `draw`: a number in [0, 1)."""
        self._mirrors = mirrors
        self._options = replace(options, quorum=1, warm_up_ms=0, others_first_ms=0, alone_after_ms=None)
        self._clock = clock
        self._draw = draw
        self._hearing: Hearing | None = None  # None: the fleet decides
        self._numbers = 0
        self._ended: deque[Noticed] = deque(maxlen=MOST_CALLS)
        self._decided: dict[Circuit, tuple[int, float]] = {}  # the epoch that stands, here only, and since when
        self._changes: list[Callable[[Decision], None]] = []
        self._begun = asyncio.Event()

    @property
    def decides(self) -> bool:
        """Whether this node decides for itself."""
        return self._hearing is not None

    def on_change(self, listener: Callable[[Decision], None]) -> None:
        """Hears each decision of this node's own. Must not raise or wait."""
        self._changes.append(listener)

    def lost(self) -> None:
        """The fleet can't be heard: from now on this node decides, by what ends from now on."""
        if self._hearing is None:
            log.warning("circuits.decided_alone")
            self._hearing = Hearing(self._options, (), now=self._now())
            self._begun.set()

    def found(self) -> None:
        """The fleet's word stands again."""
        if self._hearing is not None:
            log.info("circuits.decided_by_the_fleet_again")
            self._hearing = None
            self._begun.clear()
            self._ended.clear()
            self._decided.clear()
            self._mirrors.rejoin()

    def notice(self, noticed: Noticed) -> None:
        """`guard.Notices`: one call ended. Never waits."""
        if self._hearing is not None:
            self._ended.append(noticed)

    def ask(self, circuit: Circuit, *, wanted: bool = True) -> Decision | None:
        """The probe of one circuit, or more time with it; None: it is not the time. The decision has no epoch.

        `wanted`: whether somebody waits for this institution.
        """
        given = self._tell(circuit, ProbeAsked(_ME, wanted))
        return _without_epoch(decision_of(given.standing, self._now(), self._options)) if given and admitted(given, _ME) else None

    def release(self, circuit: Circuit) -> None:
        """Gives the probe back."""
        probe = self._hearing.standing(circuit).probe if self._hearing is not None else None
        if probe is not None:
            self._tell(circuit, ProbeReleased(probe.fence))

    async def run(self) -> None:
        """Decides, while it must, until it is cancelled."""
        while True:
            await self._begun.wait()
            self.look()
            await asyncio.sleep(LOOKED_EVERY)

    def look(self) -> None:
        """Judges what ended since the last look, and lets time pass."""
        hearing, now = self._hearing, self._now()
        if hearing is None:
            return
        calls = tuple(self._call(noticed) for noticed in self._ended if noticed.weight is not None and self._judges(noticed.circuit))
        self._ended.clear()
        if calls:
            self._numbers += 1
            self._carry_out(hearing.heard(Report(node=_ME, number=self._numbers, calls=calls), now, self._draw))
        self._carry_out(hearing.passed(now, self._draw))

    def _judges(self, circuit: Circuit) -> bool:
        """What an operator has forced is not judged."""
        stands = self._mirrors.of(circuit.org_code, circuit.scope).decision
        return stands is None or stands.mode is Mode.AUTO

    def _call(self, noticed: Noticed) -> CallEnded:
        """Under the epoch of this node's own that stood when it began: what began under an older one says nothing any more."""
        epoch, since = self._decided.get(noticed.circuit, (0, 0.0))
        under = epoch if noticed.began >= since else 0
        ago_ms = max(self._clock.monotonic() - noticed.began - noticed.took, 0.0) * 1000
        weight = noticed.weight or Weight.IGNORED
        return CallEnded(noticed.circuit, under, weight, noticed.took * 1000, ago_ms, noticed.resting_ms, noticed.reason)

    def _tell(self, circuit: Circuit, arrived: Arrived) -> Verdict | None:
        if self._hearing is None:
            return None
        given = self._hearing.tell(circuit, arrived, self._now(), self._draw())
        self._carry_out([given])
        return given

    def _carry_out(self, verdicts: list[Verdict]) -> None:
        for given in verdicts:
            if given.decision is None:
                continue
            circuit = given.decision.circuit
            decision = _without_epoch(given.decision)
            self._decided[circuit] = given.decision.epoch, self._clock.monotonic()
            self._mirrors.of(circuit.org_code, circuit.scope).stand_in(decision)
            log.info("circuit.decided_alone", org_code=circuit.org_code, scope=circuit.scope.value, state=decision.state.value)
            for listener in self._changes:
                listener(decision)

    def _now(self) -> float:
        return self._clock.monotonic() * 1000


def _without_epoch(decision: Decision) -> Decision:
    """An epoch of this node's own would be taken for one of the fleet's."""
    return replace(decision, epoch=0)
