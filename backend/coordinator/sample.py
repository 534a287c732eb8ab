"""What a circuit looks at: the calls of all nodes to one scope of one institution. RULE: memory without I/O, clock or randomness.

In: what became of calls, with the moment of their report. Out: `Evidence`, a frozen summary that `verdict.py` judges, and the share of each
node, by which `witnesses.py` tells a bad one. Ignored calls are not counted, nor those that began before the circuit last closed.
Moments are milliseconds of one clock that does not go back. Samples of the same options merge: the sum of two is the sample of their union.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from backend.coordinator.options import Options, WindowKind
from backend.coordinator.windows import FAILED, NEVER, OK, SLOW, CountWindow, Ended, Share, TimeWindow, Window
from backend.providers.circuits import CallEnded
from backend.providers.outcomes import Weight


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known about a circuit at one moment, without the nodes that were left out."""

    counted: Share
    failure_rate: float | None  # percent; None: fewer than the minimum of calls
    slow_rate: float | None
    in_a_row: int  # failures since the last answer, within the horizon; counted up to the option's number per node
    failed_at: frozenset[str]  # nodes that met failures in the window
    slow_at: frozenset[str]
    in_a_row_at: frozenset[str]
    well_at: frozenset[str]  # nodes that had a good answer lately (`alone_after_ms`), in the window or not
    alive: int  # nodes that could be witnesses
    listened_ms: float  # since the leader began to listen
    left_out: frozenset[str]


class _Trail:
    """What one node met last, longer than any window: for institutions that are rarely called."""

    __slots__ = ("answered", "failed", "well")

    def __init__(self) -> None:
        self.well = NEVER  # the last good answer
        self.answered = NEVER  # the last answer, slow ones too
        self.failed: list[float] = []  # the newest failures after it

    def add(self, ended: list[Ended], most: int) -> None:
        self.well = max([self.well, *[at for at, _, rank in ended if rank == OK]])
        self.answered = max([self.well, self.answered, *[at for at, _, rank in ended if rank == SLOW]])
        failed = [at for at, _, rank in ended if rank == FAILED]
        self.failed = sorted(at for at in self.failed + failed if at > self.answered)[-most:]

    @property
    def last(self) -> float:
        return max(self.answered, self.failed[-1] if self.failed else NEVER)


class Sample:
    """One circuit's evidence. `listening_since`: when this leader began to listen, ms."""

    def __init__(self, options: Options, *, listening_since: float = NEVER, epoch: int = 0) -> None:
        self._options = options
        self._since = listening_since
        self.begin(epoch)

    def begin(self, epoch: int) -> None:
        """Forgets everything, as closing does. Calls that began under an older epoch are not taken in from now on."""
        options = self._options
        self.epoch = epoch
        self._window: Window = CountWindow(options.size) if options.window is WindowKind.COUNT else TimeWindow(options.size)
        self._trails: dict[str, _Trail] = {}
        self._most = max(options.in_a_row, 1)

    def take(self, node: str, calls: Iterable[CallEnded], at: float) -> int:
        """Takes in what `node` reported at the moment `at`; how many calls counted."""
        ended: list[Ended] = []
        for call in calls:
            rank = _rank(call.weight)
            if rank is not None and call.epoch >= self.epoch:
                ended.append((at - call.ago_ms if call.ago_ms > 0 else at, node, rank))
        if ended:
            self._window.add(ended)
            self._trails.setdefault(node, _Trail()).add(ended, self._most)
        return len(ended)

    def merge(self, other: Sample) -> None:
        """Takes in everything that `other` holds of the same epoch; an older one is not taken in, a newer one replaces this."""
        if other.epoch < self.epoch:
            return
        if other.epoch > self.epoch:
            self.begin(other.epoch)
        self._window.merge(other._window)
        for node, theirs in other._trails.items():
            mine = self._trails.setdefault(node, _Trail())
            answers = [(theirs.well, node, OK), (theirs.answered, node, SLOW)]
            mine.add(answers + [(failed, node, FAILED) for failed in theirs.failed], self._most)

    def shares(self, now: float) -> dict[str, Share]:
        """What the window holds of each node."""
        return self._window.shares(now)

    def evidence(self, now: float, *, alive: Collection[str], left_out: Collection[str] = frozenset()) -> Evidence:
        """What is known at `now`. `alive`: nodes that could be witnesses; `left_out`: nodes whose word does not count."""
        self._forget_trails(now - max(self._options.horizon_ms, self._options.alone_after_ms or 0))
        shares = {node: share for node, share in self.shares(now).items() if node not in left_out}
        trails = {node: trail for node, trail in self._trails.items() if node not in left_out}
        counted = sum(shares.values(), Share())
        known = counted.calls >= self._options.enough_calls
        in_a_row = self._in_a_row(trails, now)
        well_since = now - (self._options.alone_after_ms or 0)
        return Evidence(
            counted=counted,
            failure_rate=100 * counted.failures / counted.calls if known else None,
            slow_rate=100 * counted.slow / counted.calls if known else None,
            in_a_row=sum(in_a_row.values()),
            failed_at=frozenset(node for node, share in shares.items() if share.failures),
            slow_at=frozenset(node for node, share in shares.items() if share.slow),
            in_a_row_at=frozenset(in_a_row),
            well_at=frozenset(node for node, trail in trails.items() if trail.well > well_since),
            alive=len(set(alive) - set(left_out)),
            listened_ms=now - self._since,
            left_out=frozenset(left_out),
        )

    def _in_a_row(self, trails: Mapping[str, _Trail], now: float) -> dict[str, int]:
        """How often each node failed since anybody was answered, within the horizon."""
        after = max((trail.answered for trail in trails.values()), default=NEVER)
        oldest = now - self._options.horizon_ms
        counts = {node: sum(at > after and at > oldest for at in trail.failed) for node, trail in trails.items()}
        return {node: count for node, count in counts.items() if count}

    def _forget_trails(self, oldest: float) -> None:
        """Nodes come and go; one that was not heard of for so long says nothing any more."""
        for node in [node for node, trail in self._trails.items() if trail.last <= oldest]:
            del self._trails[node]


def _rank(weight: Weight) -> int | None:
    """None: it does not count. By identity: hashing a member of an enum costs more than all the rest."""
    if weight is Weight.OK:
        return OK
    if weight is Weight.FAILURE:
        return FAILED
    return SLOW if weight is Weight.SLOW else None
