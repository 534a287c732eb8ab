"""What a fleet and its sandbox wrote down about circuits: when a threshold was met, when it was decided, when each process had it, and
what the bank was asked; and how late this machine itself is.

In: a `Fleet` whose processes log at the level `debug`. Out: lines and calls with Unix times of one machine. Nothing judges but `landed`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import redis

from backend.coordinator.standing import Standing
from backend.coordinator.store import STANDINGS
from backend.providers.circuits import CircuitState
from tests.faults.checkers import judged
from tests.faults.history import JSON, NO_ANSWER, Evidence
from tests.faults.stage import BANK, HEALED, Stage, a_stage, rows_of
from tests.faults.supervisor import Fleet, Member

WAIT, LONGEST_WAIT, RAMP = 1.0, 2.0, 2.0  # seconds, at most: from opening to the first probe, to a later one; from closing until all pass
SIZE, FAILURES = 8, 4  # of the last so many calls, so many failures open, at two workers
SETTINGS = {
    "MOA_JOB_LEASE": "1.5",
    "MOA_LOG_LEVEL": "debug",
    "MOA_DEFER_SECONDS": "2",
    "MOA_CIRCUIT_WAIT_MS": f"{WAIT * 1000:.0f}",
    "MOA_CIRCUIT_LONGEST_WAIT_MS": f"{LONGEST_WAIT * 1000:.0f}",
    "MOA_CIRCUIT_RAMP_MS": f"{RAMP * 1000:.0f}",
    "MOA_CIRCUIT_WARM_UP_MS": "500",
    "MOA_CIRCUIT_EXPIRES_MS": "6000",
    "MOA_CIRCUIT_SIZE": str(SIZE),
    "MOA_CIRCUIT_MINIMUM_CALLS": str(SIZE),
}
# For long tests: waits that are longer than a lease, as they should be, so that a wait is all that there is to wait for.
PATIENT_WAIT, PATIENT_LONGEST_WAIT, PROBE_LEASE = 2.0, 4.0, 1.5
PATIENT = SETTINGS | {
    "MOA_CIRCUIT_WAIT_MS": f"{PATIENT_WAIT * 1000:.0f}",
    "MOA_CIRCUIT_LONGEST_WAIT_MS": f"{PATIENT_LONGEST_WAIT * 1000:.0f}",
    "MOA_CIRCUIT_PROBE_LEASE_MS": f"{PROBE_LEASE * 1000:.0f}",
}
CUT = 0.001  # seconds: arrivals in the call log are cut to milliseconds
BUSY = 0.15  # seconds that a machine on which nine processes share two cores may add
ELSEWHERE = ("calls_stay_within_need", "the_law_holds")  # failed calls are repeated; tapes end before deferred work does


@asynccontextmanager
async def a_guarded_stage(fleet: Fleet) -> AsyncIterator[Stage]:
    """A stage on a fleet that is led, and whose circuits are all closed."""
    async with a_stage(fleet) as made:
        made.ill = True
        await until(lambda: any(entry for member in fleet.coordinators for entry in entries(member, "leader.elected")))
        await until(lambda: all(standing.state is CircuitState.CLOSED for standing in stored(fleet)), 20)
        yield made


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Looks again and again. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def ends(stage: Stage, people: int) -> tuple[JSON, ...]:
    """Every provider of everybody's registration, once none is deferred any more, or after all the time that healing may take."""
    deadline = time.monotonic() + HEALED
    while True:
        await asyncio.sleep(0.2)
        items = (await rows_of(stage.fleet, stage.people)).items
        over = len({row["user_id"] for row in items}) == people and {row["status"] for row in items} <= {"completed", "failed"}
        if over or time.monotonic() > deadline:
            return items


async def landed(stage: Stage, people: int) -> Evidence:
    """Waits until nothing is deferred any more; fails with every fault that is not another test's matter."""
    await ends(stage, people)
    evidence = await stage.evidence()
    faults = [fault for fault in judged(evidence) if not fault.startswith(ELSEWHERE)]
    assert not faults, faults
    return evidence


class Lateness:
    """How late this process wakes, look by look: what a machine adds to whatever is timed on it meanwhile."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []  # when, and by how much

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """While the block runs."""
        task = asyncio.create_task(self._measure())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def most(self, begin: float, end: float) -> float:
        """Seconds, of what was due between two moments."""
        return max((late for at, late in self._late if begin <= at <= end), default=0.0)

    async def _measure(self) -> None:
        while True:
            due = time.time() + 0.01
            await asyncio.sleep(0.01)
            self._late.append((due, max(time.time() - due, 0.0)))


# --- what was written down ---------------------------------------------------------------------------------------------------------------


def entries(member: Member, event: str) -> Iterator[JSON]:
    """Lines of one process, with their Unix time."""
    for line in member.log.read_text("utf-8", "replace").splitlines() if member.log.exists() else ():
        if f'"{event}"' in line:
            entry = json.loads(line)
            yield entry | {"at": datetime.fromisoformat(entry["timestamp"]).timestamp()}


def leader(fleet: Fleet) -> Member:
    """Who was elected last."""
    return max(fleet.coordinators, key=lambda member: max((entry["at"] for entry in entries(member, "leader.elected")), default=0.0))


def decided(fleet: Fleet, since: float = 0.0, org_code: str = BANK) -> list[JSON]:
    """The leaders' decisions about an institution, oldest first."""
    found = [entry for member in fleet.coordinators for entry in entries(member, "circuit.decided")]
    return sorted((entry for entry in found if entry["org_code"] == org_code and entry["at"] >= since), key=lambda entry: entry["at"])


def opens(fleet: Fleet, since: float) -> bool:
    """Whether the bank's circuit was opened."""
    return "open" in [each["state"] for each in decided(fleet, since)]


def stored(fleet: Fleet) -> list[Standing]:
    """How everything stands."""
    with redis.Redis.from_url(fleet.valkey.engine.url) as client:
        return [msgspec.msgpack.decode(value, type=Standing) for value in client.hgetall(STANDINGS).values()]


def first_opened(fleet: Fleet, since: float) -> dict[str, JSON]:
    """By scope."""
    opened: dict[str, JSON] = {}
    for entry in decided(fleet, since):
        if entry["state"] == "open":
            opened.setdefault(entry["scope"], entry)
    return opened


def applied_at(fleet: Fleet, decision: JSON) -> list[JSON]:
    """When each process had it."""
    return [
        entry
        for member in (*fleet.workers, *fleet.apis)
        for entry in entries(member, "circuit.applied")
        if all(entry[name] == decision[name] for name in ("org_code", "scope", "epoch"))
    ]


def thresholds(fleet: Fleet, since: float) -> dict[str, float]:
    """When so many of the last calls had failed, at two workers at least: by scope."""
    ended = sorted(
        (entry["at"], number, "token" if entry["api_code"].startswith("AU") else "read", entry["outcome"] == "ok")
        for number, worker in enumerate(fleet.workers)
        for entry in entries(worker, "provider.call")
        if entry["org_code"] == BANK
    )
    met: dict[str, float] = {}
    last: dict[str, list[int | None]] = {"token": [], "read": []}
    for at, number, scope, ok in ended:
        last[scope] = [*last[scope], None if ok else number][-SIZE:]
        failed_at = [worker for worker in last[scope] if worker is not None]
        if at >= since and len(failed_at) >= FAILURES and len(set(failed_at)) >= 2:
            met.setdefault(scope, at)
    return met


def probes_at_once(fleet: Fleet, since: float, until_: float) -> dict[str, int]:
    """By scope: how many workers were at a probe of the bank together, by their own lines, of those that came to nothing."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for worker in fleet.workers:
        failed = [entry for entry in entries(worker, "probe.failed") if entry["org_code"] == BANK]
        for begun in entries(worker, "probe.begun"):
            ends_ = [entry["at"] for entry in failed if entry["scope"] == begun["scope"] and entry["at"] >= begun["at"]]
            if begun["org_code"] == BANK and since <= begun["at"] < until_ and ends_:
                spans.setdefault(begun["scope"], []).append((begun["at"], min(ends_)))
    return {scope: _most_together(each) for scope, each in spans.items()}


# --- what the bank was asked -------------------------------------------------------------------------------------------------------------


def is_probe(call: JSON) -> bool:
    """Whether it asks if the bank is there; nobody but a probe does."""
    return str(call["path"]).endswith("/apis")


def scope_of(call: JSON) -> str | None:
    """None: a probe's."""
    if is_probe(call):
        return None
    return "token" if "/oauth/" in call["path"] else "read"


def most_at_once(calls: Sequence[JSON]) -> int:
    """How many were under way together. One that was cut off ended for its caller when it was; the sandbox notices later."""
    spans = [(call["at"], 0.0 if call["status"] == NO_ANSWER else call["ms"] / 1000) for call in calls]
    return _most_together([(at, max(at + seconds - CUT, at)) for at, seconds in spans])


def _most_together(spans: Sequence[tuple[float, float]]) -> int:
    edges = [(begins, 1) for begins, _ in spans] + [(ends_, -1) for _, ends_ in spans]
    return max(itertools.accumulate(step for _, step in sorted(edges, key=lambda edge: edge[0])), default=0)
