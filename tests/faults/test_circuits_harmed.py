"""Whatever is killed, stopped, lost, doubled or reordered while a circuit is open: it heals, one probes, no operator's word is lost.

In: four workers, two APIs and two coordinators before a bank that is ill, and another institution that an operator has closed to all. Out:
the sandbox's call log, what each process wrote down and what Valkey holds. One harm at a time, each while the bank's circuit is open.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import jwt
import pytest
import redis
from msgspec.structs import replace

from backend.clock import SystemClock
from backend.coordinator.leader import FENCE
from backend.coordinator.options import Options
from backend.coordinator.standing import decision_of
from backend.coordinator.store import CHANNEL, Reign, ValkeyStore
from backend.coordinator.stream import OLDEST, Mark, ValkeyStream
from backend.jobs.valkey import connect
from backend.providers.circuits import CircuitState, Mode, Report
from tests.faults.circuits import (
    BUSY,
    PATIENT,
    PROBE_LEASE,
    a_guarded_stage,
    decided,
    entries,
    first_opened,
    is_probe,
    landed,
    leader,
    most_at_once,
    opens,
    probes_at_once,
    scope_of,
    stored,
    until,
)
from tests.faults.stage import BANK, CARD, EFIN, Stage
from tests.faults.supervisor import SECRET, Fleet, Member, Topology, a_fleet

pytestmark = [pytest.mark.system, pytest.mark.long]

PEOPLE = 30
HASTY = {"MOA_CALL_DEADLINE": "5"}  # seconds, for which a silent bank is waited for
FROZEN = 5.0  # seconds that Valkey stands still
STOPPED = 30.0  # seconds that a leader does
ALONE = 3.0  # seconds from the moment when Valkey answers again until the last node has heard it
REASON = "they asked us to"


@pytest.fixture(scope="module")
async def large_fleet() -> AsyncIterator[Fleet]:
    async with a_fleet(Topology(apis=2, workers=4, coordinators=2, settings=PATIENT | HASTY)) as running:
        yield running


@pytest.fixture
async def stage(large_fleet: Fleet) -> AsyncIterator[Stage]:
    async with a_guarded_stage(large_fleet) as made:
        yield made


Harm = Callable[[Stage, float], Awaitable[None]]


async def leader_killed(stage: Stage, _ill_from: float) -> None:
    await leader(stage.fleet).kill()


async def worker_killed(stage: Stage, _ill_from: float) -> None:
    await stage.fleet.workers[0].kill()


async def probing_worker_killed(stage: Stage, ill_from: float) -> None:
    """The bank keeps silent, so that a probe is under way for long."""
    await stage.fleet.steer(f"providers/{BANK}", mode="hang")
    silent_from = time.time()
    await until(lambda: holder(stage.fleet, silent_from + 0.1))
    killed = holder(stage.fleet, silent_from + 0.1)
    assert killed is not None
    await killed.kill()
    killed_at = time.time()
    await until(lambda: holder(stage.fleet, killed_at), PROBE_LEASE + 5)
    next_one = holder(stage.fleet, killed_at)
    assert next_one is not None
    assert next_one is not killed
    again_at = min(begun["at"] for begun in entries(next_one, "probe.begun") if begun["at"] > killed_at)
    print(f"\nthe next probe {again_at - killed_at:.2f} s later")


async def valkey_restarted(stage: Stage, _ill_from: float) -> None:
    await stage.fleet.valkey.restart()


async def valkey_frozen(stage: Stage, _ill_from: float) -> None:
    stage.fleet.valkey.freeze()
    await asyncio.sleep(FROZEN)
    stage.fleet.valkey.thaw()


async def valkey_wiped(stage: Stage, _ill_from: float) -> None:
    with redis.Redis.from_url(stage.fleet.valkey.engine.url) as client:
        client.flushall()


HARMS = (leader_killed, worker_killed, probing_worker_killed, valkey_restarted, valkey_frozen, valkey_wiped)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
async def test_whatever_is_harmed_while_a_circuit_is_open_it_heals(stage: Stage, harm: Harm) -> None:
    fleet = stage.fleet
    async with forced(stage):
        ill_from = await opened(stage)
        with stage.history.disturbing(harm.__name__.replace("_", " ")):
            await harm(stage, ill_from)
        harmed_at = time.time()
        await until(lambda: looked(fleet, harmed_at), 15)  # it is still ill
        await asyncio.sleep(1)
        well_from = time.time()
        await fleet.steer(f"providers/{BANK}", mode="ok")
        await until(lambda: bank_is(fleet, CircuitState.CLOSED), 30)
        print(f"\n{harm.__name__}: closed {time.time() - well_from:.1f} s after recovery")
        assert not await fleet_asked(fleet, EFIN, ill_from), "what an operator has forced stands over every harm"
        assert {standing.mode for standing in stored(fleet) if standing.circuit.org_code == EFIN} == {Mode.FORCED_OPEN}
    await landed(stage, PEOPLE)
    await one_probe_at_a_time(stage, ill_from, well_from)
    if harm is not valkey_wiped:  # then epochs begin anew
        no_epoch_twice(fleet, ill_from)


async def test_a_leader_that_was_stopped_for_half_a_minute_comes_back_and_is_refused(stage: Stage) -> None:
    fleet = stage.fleet
    async with forced(stage):
        ill_from = await opened(stage, every=0.2)  # reports still come when it stops
        late = leader(fleet)
        late.freeze()
        stopped_at = time.time()
        with stage.history.disturbing("leader stopped"):
            try:
                await until(lambda: leader(fleet) is not late, 15)
                await asyncio.sleep(3)  # ill under the new leader, too
                well_from = time.time()
                await fleet.steer(f"providers/{BANK}", mode="ok")
                await until(lambda: bank_is(fleet, CircuitState.CLOSED), 15)
                await asyncio.sleep(max(0.0, stopped_at + STOPPED - time.time()))
                before, fence = epochs(fleet), newest_fence(fleet)
                with overheard(fleet) as puts:
                    thawed_at = time.time()
                    late.thaw()
                    await asyncio.sleep(5)
            finally:
                late.thaw()
        assert newest_fence(fleet) == fence, "nobody else was elected"
        old = int(list(entries(late, "leader.elected"))[-1]["fence"].removeprefix("f"), 16)
        print(f"\nwords of the late leader that were refused: {puts.count(old)}; of the one that leads: {puts.count(fence)}")
        assert old < fence
        assert not await says_under(fleet, old), "a decision under its token"
        assert epochs(fleet) == before, "nothing that the late one said is stored"
        assert not [entry for entry in entries(late, "circuit.decided") if entry["at"] > thawed_at], "nor was any of it told"
        assert [entry for entry in entries(late, "leader.stepped_down") if entry["at"] > thawed_at]
        assert not await fleet_asked(fleet, EFIN, ill_from)
    await landed(stage, PEOPLE)
    await one_probe_at_a_time(stage, ill_from, well_from)
    no_epoch_twice(fleet, ill_from)


async def test_old_words_that_come_again_and_in_another_order_change_nothing(stage: Stage) -> None:
    """Every report and every decision so far: while it is open, when it is closed, and to a leader that has heard none of them."""
    fleet = stage.fleet
    with published(fleet) as told:
        async with forced(stage):
            ill_from = await opened(stage)
            stands = {each.circuit: each.state for each in stored(fleet) if each.state is not CircuitState.HALF_OPEN}
            await again(fleet, told)
            await asyncio.sleep(0.5)
            assert all(each.state is not CircuitState.CLOSED for each in stored(fleet) if stands.get(each.circuit) is CircuitState.OPEN)
            well_from = time.time()
            await fleet.steer(f"providers/{BANK}", mode="ok")
            await until(lambda: bank_is(fleet, CircuitState.CLOSED), 15)
        await landed(stage, PEOPLE)
        await until(lambda: all(standing.state is CircuitState.CLOSED for standing in stored(fleet)), 15)
        await asyncio.sleep(2)  # sums are written once a second
        before, sums = epochs(fleet), await called(fleet)
        await again(fleet, told)
        await asyncio.sleep(2)
        killed = leader(fleet)
        await killed.kill()
        await until(lambda: leader(fleet) is not killed, 15)
        await again(fleet, told)
        await asyncio.sleep(3)
    assert epochs(fleet) == before
    assert await called(fleet) == sums
    await one_probe_at_a_time(stage, ill_from, well_from)
    no_epoch_twice(fleet, ill_from)


# --- what is done ------------------------------------------------------------------------------------------------------------------------


async def opened(stage: Stage, every: float = 0.05) -> float:
    """People come, the bank falls ill, its circuit opens. Since when it is ill."""
    stage.arrive(PEOPLE, every=every, org_codes=(BANK, CARD, EFIN))
    await stage.until_accepted(5)
    ill_from = time.time()
    await stage.fleet.steer(f"providers/{BANK}", mode="http500")
    await until(lambda: opens(stage.fleet, ill_from))
    return ill_from


class forced:  # noqa: N801  # reads as a verb
    """An operator keeps everybody away from an institution while the block runs; then it is probed, and takes calls again."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def __aenter__(self) -> None:
        await self._set(Mode.FORCED_OPEN)
        await until(lambda: self._state() == {CircuitState.OPEN})
        await asyncio.sleep(0.2)  # every node has heard it

    async def __aexit__(self, *_: object) -> None:
        await self._set(Mode.AUTO)
        await until(lambda: self._state() == {CircuitState.CLOSED})

    async def _set(self, mode: Mode) -> None:
        claims = {"sub": "operator", "scope": "ops", "exp": (SystemClock().now() + timedelta(minutes=5)).timestamp()}
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        answer = await self._stage.http.put(
            f"{self._stage.fleet.api_urls[0]}/ops/breakers/{EFIN}",
            json={"mode": mode, "reason": REASON},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200, answer.text

    def _state(self) -> set[CircuitState]:
        return {standing.state for standing in stored(self._stage.fleet) if standing.circuit.org_code == EFIN}


@contextmanager
def published(fleet: Fleet) -> Iterator[list[bytes]]:
    """Every decision that is told while the block runs."""
    with redis.Redis.from_url(fleet.valkey.engine.url) as client, client.pubsub(ignore_subscribe_messages=True) as line:
        told: list[bytes] = []
        line.subscribe(**{CHANNEL: lambda message: told.append(message["data"])})
        listening = line.run_in_thread(sleep_time=0.05, daemon=True)
        try:
            yield told
        finally:
            listening.stop()
            listening.join(5)


@contextmanager
def overheard(fleet: Fleet) -> Iterator[list[int]]:
    """The tokens under which somebody wanted to store decisions while the block runs."""
    tokens: list[int] = []
    with redis.Redis.from_url(fleet.valkey.engine.url) as client, client.monitor() as monitor:
        yield tokens
        client.set("moa:test:the-end", "1", px=1000)
        for heard in monitor.listen():
            words = heard["command"].split()
            if "moa:test:the-end" in words:
                return
            if words[0].upper() == "EVALSHA" and words[2] == "3" and len(words) > 7:
                tokens.append(int(words[7]))


async def says_under(fleet: Fleet, token: int) -> bool:
    """Whether the store takes the word that closes the bank for good, from whoever led under that token."""
    client = connect(fleet.valkey.engine.url, timeout=5, pool=2)
    try:
        store = ValkeyStore(client)
        standings = (await store.read()).standings
        [bank, *_] = [standing for standing in standings if standing.circuit.org_code == BANK]
        late = replace(bank, state=CircuitState.OPEN, epoch=bank.epoch + 100, mode=Mode.FORCED_OPEN)
        reign = Reign((await store.read()).lineage, token)
        return await store.put(reign, [late], [decision_of(late, 0.0, Options())], [])
    finally:
        await client.aclose()


async def again(fleet: Fleet, told: list[bytes]) -> None:
    """All reports that the stream has, and all decisions, twice and in any order."""
    client = connect(fleet.valkey.engine.url, timeout=5, pool=2)
    try:
        stream, cursor, reports = ValkeyStream(client), OLDEST, list[Report]()
        while found := await stream.read(cursor, 0):
            cursor = found[-1][0]
            assert not [entry for _, entry in found if isinstance(entry.word, Mark) and entry.word.missed is None]
            reports += [entry.word for _, entry in found if isinstance(entry.word, Report)]
        words: list[Report | bytes] = [*reports, *told] * 2
        random.shuffle(words)
        for word in words:
            if isinstance(word, Report):
                await stream.append(word)
            else:
                await client.publish(CHANNEL, word)
        print(f"\n{len(reports)} reports and {len(told)} decisions came again, twice")
    finally:
        await client.aclose()


# --- what was seen -----------------------------------------------------------------------------------------------------------------------


def bank_is(fleet: Fleet, state: CircuitState) -> bool:
    return {standing.state for standing in stored(fleet) if standing.circuit.org_code == BANK} == {state}


def looked(fleet: Fleet, since: float) -> bool:
    """Whether somebody's probe of the bank came to nothing after that moment."""
    return any(each["org_code"] == BANK and each["at"] > since for worker in fleet.workers for each in entries(worker, "probe.failed"))


def holder(fleet: Fleet, since: float) -> Member | None:
    """Whose probe of the bank began last, after that moment, and has not ended."""
    begun = [(each["at"], worker) for worker in fleet.workers for each in entries(worker, "probe.begun") if each["org_code"] == BANK]
    at, worker = max(begun, key=lambda each: each[0], default=(0.0, None))
    failed = [] if worker is None else [each for each in entries(worker, "probe.failed") if each["at"] >= at]
    return worker if at > since and not failed else None


async def fleet_asked(fleet: Fleet, org_code: str, since: float) -> list[str]:
    return [call["path"] for call in await fleet.calls(since) if call["org_code"] == org_code]


@dataclass(frozen=True)
class Stood:
    """A circuit as it is stored."""

    state: CircuitState
    mode: Mode
    epoch: int


def epochs(fleet: Fleet) -> dict[str, Stood]:
    """How everything is stored."""
    return {f"{one.circuit.org_code}/{one.circuit.scope}": Stood(one.state, one.mode, one.epoch) for one in stored(fleet)}


def newest_fence(fleet: Fleet) -> int:
    with redis.Redis.from_url(fleet.valkey.engine.url) as client:
        return int(client.get(FENCE) or 0)


async def called(fleet: Fleet) -> dict[tuple[str, str], int]:
    """The sums so far."""
    connection = await asyncpg.connect(fleet.postgres.engine.url, timeout=10)
    try:
        rows = await connection.fetch("SELECT org_code, api_code, sum(calls) AS calls FROM traffic GROUP BY 1, 2")
    finally:
        await connection.close()
    return {(row["org_code"], row["api_code"]): int(row["calls"]) for row in rows}


async def one_probe_at_a_time(stage: Stage, ill_from: float, well_from: float) -> None:
    """For each circuit, whenever Valkey answered; without it each node may look for itself."""
    fleet = stage.fleet
    deaf = [(one.began, one.ended + ALONE) for one in stage.history.disturbances if one.name.startswith("valkey")]
    probes = [call for call in await fleet.calls(ill_from) if call["org_code"] == BANK and is_probe(call) and call["at"] < well_from]
    assert probes, "somebody looked"
    for scope, decision in first_opened(fleet, ill_from).items():
        calls = await fleet.calls(decision["at"] + BUSY)
        others = [call for call in calls if call["org_code"] == BANK and scope_of(call) == scope and call["at"] < well_from]
        assert not others, f"it is ill, and known to be, whatever is lost: {others}"
    if not deaf:
        assert set(probes_at_once(fleet, ill_from, well_from).values()) <= {1}
    heard = [call for call in probes if not any(began <= call["at"] <= ended for began, ended in deaf)]
    assert most_at_once(heard) <= len(first_opened(fleet, ill_from)), "one for each circuit"


def no_epoch_twice(fleet: Fleet, since: float) -> None:
    """No two leaders decided the same, and no process went back."""
    said = Counter((entry["scope"], entry["epoch"]) for entry in decided(fleet, since))
    assert set(said.values()) == {1}, said
    for member in (*fleet.workers, *fleet.apis):
        applied: dict[tuple[str, str], int] = {}
        for entry in entries(member, "circuit.applied"):
            key = entry["org_code"], entry["scope"]
            if entry["at"] >= since:
                assert entry["epoch"] > applied.get(key, 0), f"{member.name}: {entry}"
                applied[key] = entry["epoch"]
