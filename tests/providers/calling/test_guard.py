"""What the guard lets through, what it refuses, and what it notes of either; the last part against the sandbox, over the whole road."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from backend.clock import ManualClock
from backend.errors import ProviderError, ProviderResting, ProviderUnavailable
from backend.events import Industry
from backend.providers import outcomes
from backend.providers.calling.guard import CircuitGuard, NodeCircuits, node_circuits
from backend.providers.calling.mirror import SPREAD, Mirrors
from backend.providers.calling.noticing import SUMS_EVERY, Noticed, ReportsInMemory
from backend.providers.calls import Call, Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions
from backend.providers.clients import http_clients, traffic_secret
from backend.providers.contract import ApiType
from backend.providers.directory import directory_of
from backend.providers.outcomes import Failure, Finding, RspCode, Weight
from backend.providers.traffic import merged, user_key
from backend.settings import Settings
from tests.providers.given import BANK, NOW
from tests.providers.journey import Journey

CIRCUIT = Circuit(BANK, Scope.READ)
READ: Call[str] = Call(
    api_code="BA01", scope=Scope.READ, method="GET", path="/x", read=lambda _c, _b: "", api_type=ApiType.SCHEDULED, user="u1"
)
TOKEN: Call[str] = Call(api_code="AU03", scope=Scope.TOKEN, method="POST", path="/x", read=lambda _c, _b: "")


def decision(state: CircuitState, epoch: int, circuit: Circuit = CIRCUIT, **more: Any) -> Decision:
    return Decision(circuit=circuit, state=state, epoch=epoch, reason="test", **more)


@dataclass
class House:
    """A guard, and everything around it."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    noted: list[Noticed] = field(default_factory=list)
    attempts: int = 0
    drawn: float = 0.0

    def __post_init__(self) -> None:
        self.mirrors = Mirrors(self.clock, draw=lambda: self.drawn)
        self.mirrors.whole(Decisions("first", ()))
        self.guard = CircuitGuard(mirrors=self.mirrors, notices=self, clock=self.clock, slow_after=lambda _org_code: 3.0)

    def notice(self, noticed: Noticed) -> None:
        self.noted.append(noticed)

    def decide(self, *decisions: Decision) -> None:
        self.mirrors.apply(Decisions("first", decisions))

    def ending(self, error: BaseException | None = None, seconds: float = 0.0) -> Callable[[], Awaitable[str]]:
        """An attempt that takes so long and ends so."""

        async def attempt() -> str:
            self.attempts += 1
            self.clock.move(timedelta(seconds=seconds))
            if error is not None:
                raise error
            return "answer"

        return attempt


@pytest.fixture
def house() -> House:
    return House()


async def test_a_closed_circuit_gives_what_the_attempt_gives(house: House) -> None:
    assert await house.guard.through(BANK, READ, house.ending(seconds=0.25)) == "answer"
    error = outcomes.failed(BANK, Failure.RESET)
    with pytest.raises(ProviderUnavailable) as caught:
        await house.guard.through(BANK, READ, house.ending(error))
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "seconds", "weight"),
    [
        (None, 2.9, Weight.OK),
        (None, 3.0, Weight.SLOW),
        (outcomes.failed(BANK, Failure.CONNECT), 0.1, Weight.FAILURE),
        (outcomes.failed(BANK, Failure.DEADLINE), 20.0, Weight.FAILURE),
        (outcomes.failed(BANK, Failure.CUT), 20.0, Weight.IGNORED),
        (outcomes.error_of(BANK, Finding(outcomes.Trouble.REFUSED, RspCode.NO_ASSET)), 0.1, Weight.OK),
        (outcomes.error_of(BANK, Finding(outcomes.Trouble.BUSY, RspCode.QUOTA)), 9.0, Weight.IGNORED),
    ],
)
async def test_how_a_call_ended_is_judged_by_the_catalogue(
    house: House, error: ProviderError | None, seconds: float, weight: Weight
) -> None:
    await asyncio.gather(house.guard.through(BANK, READ, house.ending(error, seconds)), return_exceptions=True)
    (noted,) = house.noted
    assert (noted.weight, noted.reason) == (weight, error and error.reason)
    assert noted.took == pytest.approx(seconds)
    assert (noted.circuit, noted.api_code, noted.api_type, noted.user) == (CIRCUIT, "BA01", ApiType.SCHEDULED, "u1")


async def test_announced_maintenance_is_noted_with_its_end(house: House) -> None:
    finding = Finding(outcomes.Trouble.RESTING, RspCode.MAINTENANCE)
    for retry_at in (None, NOW + timedelta(minutes=2)):
        with pytest.raises(ProviderResting):
            await house.guard.through(BANK, READ, house.ending(outcomes.error_of(BANK, finding, retry_at)))
    assert [(noted.weight, noted.resting_ms) for noted in house.noted] == [(Weight.IGNORED, 0), (Weight.IGNORED, 120_000)]


async def test_a_cancelled_call_is_neither_success_nor_failure_but_was_made(house: House) -> None:
    never = asyncio.Event()

    async def attempt() -> str:
        await never.wait()
        return ""

    call = asyncio.create_task(house.guard.through(BANK, READ, attempt))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [(noted.weight, noted.reason, noted.api_code) for noted in house.noted] == [(None, None, "BA01")]


async def test_a_fault_of_ours_passes_as_itself_and_says_nothing_of_the_provider(house: House) -> None:
    with pytest.raises(ZeroDivisionError):
        await house.guard.through(BANK, READ, house.ending(ZeroDivisionError()))
    assert [noted.weight for noted in house.noted] == [None]


async def test_a_call_is_told_under_the_epoch_under_which_it_began(house: House) -> None:
    house.decide(decision(CircuitState.CLOSED, 4))

    async def attempt() -> str:
        house.decide(decision(CircuitState.OPEN, 5))
        return "late"

    assert await house.guard.through(BANK, READ, attempt) == "late"
    assert [noted.epoch for noted in house.noted] == [4]
    assert house.mirrors.state_of(CIRCUIT) is CircuitState.OPEN


async def test_an_open_circuit_refuses_without_an_attempt_and_says_when_to_come_back(house: House) -> None:
    house.decide(decision(CircuitState.OPEN, 1, retry_in_ms=5_000))
    for _ in range(3):
        with pytest.raises(ProviderResting) as caught:
            await house.guard.through(BANK, READ, house.ending())
    assert (caught.value.reason, caught.value.retry_at) == (Failure.CIRCUIT_OPEN, NOW + timedelta(seconds=5))
    assert caught.value.__suppress_context__
    assert (house.attempts, house.noted) == (0, [])
    assert await house.guard.through(BANK, TOKEN, house.ending()) == "answer"  # another scope


@pytest.mark.parametrize("state", list(CircuitState))
def test_nothing_is_awaited_on_the_road_of_a_call_but_the_attempt(house: House, state: CircuitState) -> None:
    house.decide(decision(state, 1))
    call = house.guard.through(BANK, READ, house.ending())
    with pytest.raises((StopIteration, ProviderResting)):  # it ends without having been suspended: no network, no lock, no queue
        call.send(None)


async def test_a_refusal_is_no_outcome_of_the_provider(house: House) -> None:
    for reason in (Failure.CIRCUIT_OPEN, Failure.CIRCUIT_HALF_OPEN, Failure.CIRCUIT_RAMP):
        error = outcomes.failed(BANK, reason)
        assert isinstance(error, ProviderResting)
        assert outcomes.weight_of(error, 0.0, 3.0) is Weight.IGNORED


async def test_a_ramp_refuses_the_rest_until_it_ends(house: House) -> None:
    house.decide(decision(CircuitState.CLOSED, 1, ramp_ms=2_000))
    house.drawn = 0.99
    with pytest.raises(ProviderResting, match=Failure.CIRCUIT_RAMP) as caught:
        await house.guard.through(BANK, READ, house.ending())
    assert caught.value.retry_at is not None
    assert NOW <= caught.value.retry_at <= NOW + timedelta(seconds=2)
    house.clock.move(timedelta(seconds=2))
    assert await house.guard.through(BANK, READ, house.ending()) == "answer"


async def test_an_open_circuit_of_which_nothing_more_is_heard_lets_through_again(house: House) -> None:
    house.decide(decision(CircuitState.OPEN, 1, expires_in_ms=30_000))
    house.clock.move(timedelta(seconds=30))
    assert await house.guard.through(BANK, READ, house.ending()) == "answer"
    assert house.noted[0].epoch == 1


# The probe.


def held() -> bool:
    return True


async def test_half_open_lets_the_probe_through_and_nobody_else(house: House) -> None:
    house.decide(decision(CircuitState.OPEN, 1))
    probe = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held)  # on a node that has not heard of it yet
    with pytest.raises(ProviderResting, match=Failure.CIRCUIT_HALF_OPEN) as caught:
        await house.guard.through(BANK, READ, house.ending())
    assert caught.value.retry_at == NOW + timedelta(seconds=SPREAD)
    assert await probe.through(BANK, READ, house.ending()) == "answer"
    assert [noted.epoch for noted in house.noted] == [2]


async def test_a_probe_that_comes_when_the_circuit_has_opened_again_is_refused(house: House) -> None:
    house.decide(decision(CircuitState.OPEN, 3))
    with pytest.raises(ProviderResting, match=Failure.CIRCUIT_OPEN):
        await house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held).through(BANK, READ, house.ending())
    assert house.attempts == 0


async def test_a_probe_whose_lease_has_run_out_is_refused_as_everybody_also_while_it_waits_for_its_turn(house: House) -> None:
    lease, answered = [True], asyncio.Event()
    probe = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=lambda: lease[0])

    async def attempt() -> str:
        await answered.wait()
        return "answer"

    first, second = (asyncio.create_task(probe.through(BANK, READ, attempt)) for _ in range(2))
    await asyncio.sleep(0)
    lease[0] = False
    answered.set()
    assert await first == "answer"
    for late in (second, probe.through(BANK, READ, attempt)):
        with pytest.raises(ProviderResting, match=Failure.CIRCUIT_HALF_OPEN):
            await late


async def test_a_probe_is_no_way_around_other_circuits(house: House) -> None:
    other = Circuit(BANK, Scope.TOKEN)
    house.decide(decision(CircuitState.OPEN, 1, other))
    probe = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held)
    with pytest.raises(ProviderResting):
        await probe.through(BANK, TOKEN, house.ending())
    house.decide(decision(CircuitState.OPEN, 1, Circuit("A1MOABK002", Scope.READ)))
    with pytest.raises(ProviderResting):
        await probe.through("A1MOABK002", READ, house.ending())


@dataclass
class Line:
    """Attempts that wait until they are answered."""

    running: int = 0
    most: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def attempt(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.answered.wait()
        self.running -= 1
        return "answer"


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_probes_calls_go_one_at_a_time(house: House) -> None:
    probe, line = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held), Line()
    calls = [asyncio.create_task(probe.through(BANK, READ, line.attempt)) for _ in range(5)]
    await _turns()
    assert line.running == 1
    line.answered.set()
    assert await asyncio.gather(*calls) == ["answer"] * 5
    assert line.most == 1


async def test_a_probes_other_calls_are_refused_once_the_first_has_failed(house: House) -> None:
    probe, line = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held), Line()
    calls = [asyncio.create_task(probe.through(BANK, READ, line.attempt)) for _ in range(3)]
    await _turns()
    house.decide(decision(CircuitState.OPEN, 3))
    line.answered.set()
    first, *rest = await asyncio.gather(*calls, return_exceptions=True)
    assert first == "answer"
    assert all(isinstance(each, ProviderResting) for each in rest)
    assert line.most == 1


async def test_the_job_that_probed_comes_to_its_end_whatever_the_ramp_lets_through(house: House) -> None:
    house.drawn = 0.99
    probe, line = house.guard.as_probe(decision(CircuitState.HALF_OPEN, 2), held=held), Line()
    house.decide(decision(CircuitState.CLOSED, 3, ramp_ms=5_000))
    calls = [asyncio.create_task(probe.through(BANK, READ, line.attempt)) for _ in range(3)]
    await _turns()
    assert line.running == 3
    with pytest.raises(ProviderResting, match=Failure.CIRCUIT_RAMP):
        await house.guard.through(BANK, READ, house.ending())
    line.answered.set()
    assert await asyncio.gather(*calls) == ["answer"] * 3


# The whole road.


@dataclass
class Road:
    """A journey whose clients stand under a guard."""

    journey: Journey
    circuits: NodeCircuits
    reports: ReportsInMemory


@pytest.fixture
async def road(sandbox: str, sandbox_clock: ManualClock) -> AsyncIterator[Road]:
    settings = Settings(_env_file=None, sandbox_url=sandbox, call_deadline=5.0, asset_id_secret="secret")  # type: ignore[call-arg,arg-type]
    directory, reports = directory_of(settings), ReportsInMemory()
    async with (
        node_circuits(lambda: directory, settings, sandbox_clock, reports=reports) as circuits,
        http_clients(lambda: directory, settings, sandbox_clock, guard=circuits.guard) as clients,
        httpx.AsyncClient(base_url=sandbox, trust_env=False) as steering,
    ):
        await steering.post("/sandbox/reset")
        circuits.mirrors.whole(Decisions("first", ()))
        yield Road(Journey(directory, settings, clients, sandbox_clock, steering), circuits, reports)


async def _told(road: Road) -> None:
    while not road.circuits.noticing.all_told:
        road.journey.clock.move(timedelta(seconds=SUMS_EVERY))
        await asyncio.sleep(0.01)  # a report leaves on its own time


async def test_roll_ups_equal_what_the_sandbox_received(road: Road) -> None:
    journey = road.journey
    bank = journey.first(Industry.BANK)
    token = await journey.token("alice", bank)
    client = journey.clients.provider(bank.org_code, "alice")
    async for _ in client.collect(token.access_token, ApiType.USER_CONSENT, journey.clock.now()):
        pass
    await client.ask_apis()
    await journey.steer(bank, mode="http500")
    with pytest.raises(ProviderUnavailable):
        await client.refresh_token(token, journey.clock.now())
    await _told(road)
    received = await journey.calls(bank.org_code)
    rolled = merged(each for report in road.reports.counted for each in report.rollups).values()
    ours = [each for each in rolled if each.org_code == bank.org_code]
    assert sum(each.calls for each in ours) == len(received)
    assert sum(each.successes for each in ours) == sum(call["status"] == 200 for call in received)
    codes = {call["api_code"] for call in received if call.get("api_code", "").startswith(("BA", "CM"))}
    assert codes <= {each.api_code for each in ours}
    assert {each.hour for each in ours} == {int(journey.clock.now().timestamp()) // 3600 * 3_600_000}
    users = {user for report in road.reports.counted for seen in report.seen if seen.org_code == bank.org_code for user in seen.users}
    assert users == {user_key(traffic_secret(journey.settings), "alice")}
    assert "alice" not in repr(road.reports.counted)


async def test_while_a_circuit_is_open_nothing_but_the_probe_reaches_the_provider(road: Road) -> None:
    journey, guard = road.journey, road.circuits.guard
    bank = journey.first(Industry.BANK)
    token = await journey.token("alice", bank)
    before = len(await journey.calls(bank.org_code))
    circuit = Circuit(bank.org_code, Scope.READ)
    road.circuits.mirrors.apply(Decisions("first", (decision(CircuitState.OPEN, 1, circuit, retry_in_ms=5_000),)))
    client = journey.clients.provider(bank.org_code, "alice")
    with pytest.raises(ProviderResting):
        await anext(client.collect(token.access_token, ApiType.USER_CONSENT, journey.clock.now()))
    assert len(await journey.calls(bank.org_code)) == before

    probing = client.under(guard.as_probe(decision(CircuitState.HALF_OPEN, 2, circuit), held=held))
    await probing.ask_apis()
    with pytest.raises(ProviderResting):
        await client.ask_apis()
    answers = [each async for each in probing.collect(token.access_token, ApiType.USER_CONSENT, journey.clock.now())]
    assert answers
    await _told(road)
    epochs = {call.epoch for report in road.reports.counted for call in report.calls if call.circuit == circuit}
    assert epochs == {2}


async def test_every_scope_has_a_call_to_probe_it_with_that_needs_no_person(road: Road) -> None:
    journey = road.journey
    bank, ca = journey.first(Industry.BANK), journey.directory.ca.org_code
    token_circuit, ca_circuit = Circuit(bank.org_code, Scope.TOKEN), Circuit(ca, Scope.CA)
    guard = road.circuits.guard
    probe = guard.as_probe(decision(CircuitState.HALF_OPEN, 1, token_circuit), held=held)
    await journey.clients.provider(bank.org_code).under(probe).ask_apis(Scope.TOKEN)
    with pytest.raises(ProviderResting):
        await journey.clients.provider(bank.org_code).ask_apis(Scope.TOKEN)
    await journey.clients.ca.ask_token(guard.as_probe(decision(CircuitState.HALF_OPEN, 1, ca_circuit), held=held))
    with pytest.raises(ProviderResting):
        await journey.clients.ca.ask_token(guard)
    await _told(road)
    told = [(call.circuit, call.epoch, call.weight) for report in road.reports.counted for call in report.calls]
    assert sorted(told, key=repr) == [(token_circuit, 1, Weight.OK), (ca_circuit, 1, Weight.OK)]


async def test_a_failing_probe_is_asked_once_and_never_repeated(road: Road) -> None:
    journey = road.journey
    bank = journey.first(Industry.BANK)
    await journey.steer(bank, mode="http500")
    circuit = Circuit(bank.org_code, Scope.READ)
    probe = road.circuits.guard.as_probe(decision(CircuitState.HALF_OPEN, 1, circuit), held=held)
    with pytest.raises(ProviderUnavailable):
        await journey.clients.provider(bank.org_code).under(probe).ask_apis()
    assert len(await journey.calls(bank.org_code)) == 1
