"""A provider goes down under load: one decision for the whole fleet, by the sandbox's call log and what each process wrote down.

In: workers, APIs and a coordinator as processes, whose circuits wait shortly. Out: when the threshold was met, when it was decided, when
each node had it, and what the provider was asked from then on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime

import msgspec
import pytest
import redis

from backend.coordinator.standing import Standing
from backend.coordinator.store import STANDINGS
from backend.providers.circuits import CircuitState
from tests.faults.checkers import judged
from tests.faults.history import JSON, Evidence
from tests.faults.stage import BANK, CARD, HEALED, Stage, a_stage, rows_of
from tests.faults.supervisor import Fleet, Member, Topology, a_fleet

pytestmark = pytest.mark.system

WAIT = 1.0  # seconds, at most, from opening to the first probe
LONGEST_WAIT = 2.0
SETTINGS = {
    "MOA_JOB_LEASE": "1.5",
    "MOA_LOG_LEVEL": "debug",
    "MOA_DEFER_SECONDS": "2",
    "MOA_CIRCUIT_WAIT_MS": f"{WAIT * 1000:.0f}",
    "MOA_CIRCUIT_LONGEST_WAIT_MS": f"{LONGEST_WAIT * 1000:.0f}",
    "MOA_CIRCUIT_RAMP_MS": "1000",
    "MOA_CIRCUIT_WARM_UP_MS": "500",
    "MOA_CIRCUIT_EXPIRES_MS": "6000",
    "MOA_CIRCUIT_SIZE": "8",
    "MOA_CIRCUIT_MINIMUM_CALLS": "8",
}
SIZE, FAILURES = 8, 4  # of the last so many calls, so many failures open, at two workers


@pytest.fixture(scope="module")
async def guarded_fleet() -> AsyncIterator[Fleet]:
    async with a_fleet(Topology(apis=2, workers=2, coordinators=2, settings=SETTINGS)) as running:
        yield running


@pytest.fixture
async def stage(guarded_fleet: Fleet) -> AsyncIterator[Stage]:
    async with a_stage(guarded_fleet) as made:
        made.ill = True
        await until(lambda: any(entry for member in guarded_fleet.coordinators for entry in entries(member, "leader.elected")))
        await until(lambda: all(standing.state is CircuitState.CLOSED for standing in stored(guarded_fleet)), 15)
        yield made


async def test_a_provider_that_goes_down_is_left_alone_by_all_within_a_moment(stage: Stage) -> None:
    fleet = stage.fleet
    stage.arrive(80, every=0.05)
    await stage.until_accepted(20)
    ill_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="http500")
    await until(lambda: "open" in [each["state"] for each in decided(fleet, ill_from)])
    await asyncio.sleep(3 * WAIT)  # probes look and fail meanwhile
    well_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="ok")
    await until(lambda: all(standing.state is CircuitState.CLOSED for standing in stored(fleet)), LONGEST_WAIT + 5)
    closed_at = max(each["at"] for each in decided(fleet, well_from) if each["state"] == "closed")

    # Open within a second of the threshold, and known to every process within a tenth of one.
    opened = first_opened(fleet, ill_from)
    told = [opened[circuit]["at"] - met for circuit, met in thresholds(fleet, ill_from).items() if circuit in opened]
    assert told
    assert max(told) < 1.0, f"threshold to decision: {told}"
    spread = sorted(applied["at"] - opened[circuit]["at"] for circuit in opened for applied in applied_at(fleet, opened[circuit]))
    assert len(spread) == 4 * len(opened), "every process heard it"
    assert spread[-1] < 0.1 + BUSY, f"decision to node: {spread}"

    # From then on nobody but the probe asks the provider, and one at a time.
    calls = [call for call in await fleet.calls(ill_from) if call["org_code"] == BANK]
    for circuit, decision in opened.items():
        late = [call for call in calls if scope_of(call) == circuit and decision["at"] + 0.1 + BUSY < call["at"] < well_from]
        assert not late, f"{circuit} was asked while it was open: {late}"
    probes = [call for call in calls if is_probe(call) and call["at"] < well_from]
    assert probes, "somebody looked"
    assert most_at_once(probes) <= len(opened), "one for each circuit"

    # Closed within its wait, and what it takes to ask for the probe and to make its calls; deferred work lands by itself.
    assert closed_at - well_from < LONGEST_WAIT + 2.0
    evidence = await landed(stage, 80)
    assert {row["status"] for row in evidence.rows.items if row["org_code"] == CARD} == {"completed"}
    ended = Counter(row["status"] for row in evidence.rows.items if row["org_code"] == BANK)
    assert set(ended) <= {"completed", "failed"}, ended
    print(  # figures for whoever looks
        f"threshold to decision {max(told) * 1000:.0f} ms, to the last node {spread[-1] * 1000:.1f} ms, "
        f"closed {closed_at - well_from:.2f} s after recovery, {len(probes)} probes, items {dict(ended)}"
    )


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("leader killed", marks=pytest.mark.long),
        pytest.param("leader frozen", marks=pytest.mark.long),
        pytest.param("valkey wiped", marks=pytest.mark.long),
        pytest.param("valkey restarted", marks=pytest.mark.long),
    ],
)
async def test_no_harm_leaves_a_circuit_open(stage: Stage, harm: str) -> None:
    fleet = stage.fleet
    stage.arrive(40, every=0.05)
    await stage.until_accepted(5)
    ill_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="http500")
    await until(lambda: "open" in [each["state"] for each in decided(fleet, ill_from)])
    with stage.history.disturbing(harm):
        await harms(fleet, harm)
    well_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="ok")
    await landed(stage, 40)
    if harm != "valkey wiped":  # then epochs begin anew
        said = Counter((entry["scope"], entry["epoch"]) for entry in decided(fleet, ill_from))
        assert set(said.values()) == {1}, "no two leaders decided the same"
    probes = [call for call in await fleet.calls(ill_from) if call["org_code"] == BANK and is_probe(call) and call["at"] < well_from]
    assert most_at_once(probes) <= len(first_opened(fleet, ill_from)), "one for each circuit"


async def harms(fleet: Fleet, harm: str) -> None:
    leader = max(fleet.coordinators, key=lambda member: max((entry["at"] for entry in entries(member, "leader.elected")), default=0.0))
    match harm:
        case "leader killed":
            await leader.kill()
        case "leader frozen":
            leader.freeze()
            await asyncio.sleep(8)  # longer than its lease
            leader.thaw()
        case "valkey restarted":
            await fleet.valkey.restart()
        case "valkey wiped":
            with redis.Redis.from_url(fleet.valkey.engine.url) as client:
                client.flushall()


ELSEWHERE = ("calls_stay_within_need", "the_law_holds")  # failed calls are repeated; tapes end before deferred work does


async def landed(stage: Stage, people: int) -> Evidence:
    """Waits until nothing is deferred any more; fails with every fault that is not another test's matter."""
    deadline = time.monotonic() + HEALED
    while time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        items = (await rows_of(stage.fleet, stage.people)).items
        if len({row["user_id"] for row in items}) == people and {row["status"] for row in items} <= {"completed", "failed"}:
            break
    evidence = await stage.evidence()
    faults = [fault for fault in judged(evidence) if not fault.startswith(ELSEWHERE)]
    assert not faults, faults
    return evidence


BUSY = 0.15  # seconds that a machine on which nine processes share two cores may add


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


# --- what was written down ---------------------------------------------------------------------------------------------------------------


def entries(member: Member, event: str) -> Iterator[JSON]:
    """Lines of one process, with their Unix time."""
    for line in member.log.read_text("utf-8", "replace").splitlines() if member.log.exists() else ():
        if f'"{event}"' in line:
            entry = json.loads(line)
            yield entry | {"at": datetime.fromisoformat(entry["timestamp"]).timestamp()}


def decided(fleet: Fleet, since: float = 0.0) -> list[JSON]:
    """The leader's decisions about the bank."""
    found = [entry for member in fleet.coordinators for entry in entries(member, "circuit.decided")]
    return sorted((entry for entry in found if entry["org_code"] == BANK and entry["at"] >= since), key=lambda entry: entry["at"])


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


def is_probe(call: JSON) -> bool:
    return str(call["path"]).endswith("/apis")


def scope_of(call: JSON) -> str | None:
    """None: a probe's."""
    if is_probe(call):
        return None
    return "token" if "/oauth/" in call["path"] else "read"


def most_at_once(probes: list[JSON]) -> int:
    """How many were under way together."""
    edges = sorted([(call["at"], 1) for call in probes] + [(call["at"] + call["ms"] / 1000, -1) for call in probes])
    return max(itertools.accumulate((step for _, step in edges)), default=0)
