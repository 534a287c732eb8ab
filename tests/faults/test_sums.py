"""Sums equal the institutions' call log to the last call, while whoever makes, reports and counts calls goes and comes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import asyncpg
import pytest

from backend.providers.traffic import user_key
from tests.faults.circuits import entries
from tests.faults.conftest import LEASE
from tests.faults.history import JSON
from tests.faults.stage import BANK, CARD, EFIN, a_stage
from tests.faults.supervisor import SETTINGS, Fleet, Topology, a_fleet

pytestmark = pytest.mark.system

WITHIN = 15.0  # seconds: a lease of the leader, and a write
UNTOLD = 0.8  # seconds: sums are told every half second, and it takes a moment
SLOW = {"p50": 300, "p99": 400}  # ms: when a worker is told to go, calls are under way
ANSWERS = {None, "00000", "00001", "10001"}  # the last: not signed yet
CLIENT_GONE = 499
BY_PATH = {"/oauth/2.0/token": "AU11", "/v1/ca/sign_request": "AU12", "/v1/ca/sign_result": "AU13"}  # of the CA
REVOKED = "AU04"
BY_END = {"/oauth/2.0/token": "AU02", "/oauth/2.0/revoke": REVOKED}  # of providers

Ends: TypeAlias = dict[tuple[str, str, bool], Counter[str]]


@pytest.mark.long
async def test_sums_equal_the_call_log_over_workers_that_stop_and_a_coordinator_that_is_killed() -> None:
    async with a_fleet(Topology(workers=2, settings=LEASE)) as fleet, a_stage(fleet) as stage:
        stage.ill = True
        await fleet.steer(f"providers/{EFIN}", mode="http429")  # failures that open no circuit
        for org_code in (BANK, CARD):
            await fleet.steer(f"providers/{org_code}", latency_ms=SLOW)
        people = [stage.person() for _ in range(20)]
        lives = [stage.lives(person, BANK, CARD, EFIN, transports=("websocket",)) for person in people]
        while len(await fleet.calls()) < 150:
            await asyncio.sleep(0.02)
        await fleet.coordinators[0].kill()
        assert await asyncio.gather(*(worker.stop() for worker in fleet.workers)) == [0, 0]  # calls end now that nobody has told of yet
        await asyncio.gather(*(member.start() for member in (*fleet.workers, *fleet.coordinators)))
        async with asyncio.timeout(60):
            await asyncio.gather(*lives)
        ends = await _agreed(fleet)
        assert sum(each.total() for each in ends.values()) > 400
        assert sum(each["42901"] for each in ends.values()) >= len(people)
        subs = {person.sub for person in people}
        assert await _users(fleet) == {code: {_key(sub) for sub in subs} for code in (BANK, CARD, EFIN)}

        gone = {"Authorization": f"Bearer {people[0].token}"}
        assert (await stage.http.delete(f"{fleet.api_urls[0]}/v1/me", headers=gone)).status_code == 202
        revoked = {(code, REVOKED, False): Counter(answered=1) for code in (BANK, CARD)}
        assert await _agreed(fleet, lambda found: revoked.keys() <= found.keys()) == ends | revoked
        assert await _users(fleet) == {code: {_key(sub) for sub in subs - {people[0].sub}} for code in (BANK, CARD, EFIN)}


@pytest.mark.long
async def test_sums_equal_the_call_log_while_every_process_is_restarted_in_turn() -> None:
    """As an upgrade does it: each is told to go and comes back, the engines too, while people register and are read again."""
    async with a_fleet(Topology(apis=2, workers=2, coordinators=2, settings=LEASE)) as fleet, a_stage(fleet) as stage:
        people, arriving = 80, 0.4
        goes_on = stage.arrive(people, every=arriving, org_codes=(BANK, CARD, EFIN))
        for member in (*fleet.coordinators, *fleet.workers, *fleet.apis):
            await asyncio.sleep(1.0)
            assert await member.stop() == 0
            await member.start()
        for engine in (fleet.valkey, fleet.postgres):
            await asyncio.sleep(1.0)
            await engine.restart()
        await goes_on
        await stage.until_accepted(people)
        await stage.until_landed()
        ends = await _agreed(fleet)
        assert sum(each.total() for each in ends.values()) > people * 3 * 3
        assert not fleet.deserters


@pytest.mark.long
async def test_a_worker_that_is_killed_takes_less_than_a_second_of_its_sums_along() -> None:
    """By the lines that it wrote when its calls ended. Calls under way have no end, and are in no sum; that is another matter."""
    settings = LEASE | {"MOA_LOG_LEVEL": "debug", "MOA_CIRCUIT_ACTS": "false"}
    async with a_fleet(Topology(settings=settings)) as fleet, a_stage(fleet) as stage:
        worker, killed = fleet.workers[0], list[float]()
        arriving = stage.arrive(120, every=0.1)
        for _ in range(5):
            await asyncio.sleep(2)
            await worker.kill()
            killed.append(time.time())
            await worker.start()
        await arriving
        await stage.until_accepted(120)
        ended, sums = await _settled(fleet)
        seen = len(await fleet.calls())
        fresh = sum(any(0 <= moment - at < UNTOLD for moment in killed) for at in ended)
        print(
            f"\nin {len(killed)} kills {len(ended) - sums} ended calls of {len(ended)} are in no sum, of {fresh} that ended in the last "
            f"{UNTOLD:g} s before one; {seen - len(ended)} calls were under way"
        )
        assert sums <= seen, "nothing counts twice"
        assert len(ended) - sums <= fresh


async def _settled(fleet: Fleet) -> tuple[list[float], int]:
    """When calls ended, as the worker wrote down, and how many are in the sums, once neither grows any more."""
    before: tuple[list[float], int] | None = None
    async with asyncio.timeout(60):
        while True:
            ended = [entry["at"] for worker in fleet.workers for entry in entries(worker, "provider.call")]
            [row] = await _rows(fleet, "SELECT coalesce(sum(calls), 0) AS calls FROM traffic")
            now = ended, int(row["calls"])
            if now == before:
                return now
            before = now
            await asyncio.sleep(3)


async def _agreed(fleet: Fleet, enough: Callable[[Ends], bool] = bool) -> Ends:
    """What institutions and sums say, once they agree."""
    deadline = time.monotonic() + WITHIN
    while True:
        log, sums = _ends_in(await fleet.calls()), await _ends(fleet)
        if log == sums and enough(log):
            return log
        assert time.monotonic() < deadline, f"only in the log: {_beyond(log, sums)}; only in the sums: {_beyond(sums, log)}"
        await asyncio.sleep(0.1)  # other processes are at work


def _beyond(these: Ends, others: Ends) -> Ends:
    return {key: more for key, ends in these.items() if (more := ends - others.get(key, Counter()))}


def _key(sub: str) -> str:
    return user_key(SETTINGS["MOA_ASSET_ID_SECRET"].encode(), sub)


def _ends_in(log: Iterable[JSON]) -> Ends:
    """How calls ended, as the institutions saw it."""
    found: Ends = {}
    for call in log:
        code = call.get("api_code") or BY_PATH.get(call["path"]) or BY_END[call["path"][11:]]
        reason = "cancelled" if call["status"] == CLIENT_GONE else call.get("rsp_code")
        end = "answered" if call["status"] == 200 and reason in ANSWERS else str(reason)
        found.setdefault((call["org_code"], code, call.get("api_type") == "scheduled"), Counter())[end] += 1
    return found


async def _rows(fleet: Fleet, query: str) -> list[Any]:
    connection = await asyncpg.connect(fleet.postgres.engine.url, timeout=10)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def _ends(fleet: Fleet) -> Ends:
    """How calls ended, as the sums say."""
    found: Ends = {}
    for row in await _rows(
        fleet,
        "SELECT org_code, api_code, scheduled, sum(successes) AS answered, sum(cancelled) AS cancelled FROM traffic GROUP BY 1, 2, 3",
    ):
        ends = {"answered": int(row["answered"]), "cancelled": int(row["cancelled"])}
        found[row["org_code"], row["api_code"], row["scheduled"]] = Counter({name: count for name, count in ends.items() if count})
    for row in await _rows(fleet, "SELECT * FROM traffic_failures"):
        found[row["org_code"], row["api_code"], row["scheduled"]][row["reason"]] += row["calls"]
    return found


async def _users(fleet: Fleet) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in await _rows(fleet, "SELECT org_code, user_key FROM traffic_users"):
        found.setdefault(row["org_code"], set()).add(row["user_key"])
    return found
