"""An operator's word over the whole system: from the commit to every node, to who is linked, to the operators' feed; and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis as valkey_client

from backend.engines import Engine
from tests.registration.house import BANK, CARD, House, house_of_many_tests, token

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
async def house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    quick = {"circuit_acts": True, "circuit_ramp_ms": 200}
    async with house_of_many_tests(postgres.url, valkey.url, migrated_template, "of_operating", **quick) as house:
        yield house


@pytest.fixture
async def ops(house: House) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token('olga', scope='ops')}"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client
        for org_code in (BANK, CARD):
            await client.put(f"/ops/breakers/{org_code}", json={"mode": "auto", "reason": "after a test"})


async def until(look: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await look():
            await asyncio.sleep(0.02)  # other tasks are at work: real time is what passes here


async def state(ops: httpx.AsyncClient, org_code: str) -> set[tuple[str, str]]:
    rows = (await ops.get("/ops/breakers")).json()["breakers"]
    return {(row["state"], row["mode"]) for row in rows if row["org_code"] == org_code}


async def counted(ops: httpx.AsyncClient, org_code: str) -> bool:
    """Whether the leader's samples of both circuits hold calls."""
    rows = [row for row in (await ops.get("/ops/breakers")).json()["breakers"] if row["org_code"] == org_code]
    return all(row.get("calls", 0) > 0 for row in rows)


async def status(house: House, org_code: str) -> str:
    async with house.client("somebody") as anybody:
        rows = (await anybody.get("/v1/providers")).json()["providers"]
    return next(row["status"] for row in rows if row["org_code"] == org_code)


async def events(client: httpx.AsyncClient, path: str, since: dict[str, Any], seen: Callable[[list[Any]], bool]) -> list[Any]:
    """What came after `since`, as soon as `seen` says that it is enough."""
    found: list[Any] = []
    async with asyncio.timeout(15):
        while not seen(found):
            page = (await client.get(path, params={"since": f"{since['epoch']}:{since['offset']}", "wait": 5})).json()
            assert page["recovered"]
            found += page["events"]
            since = page
    return found


async def streamed(client: httpx.AsyncClient, path: str, since: dict[str, Any]) -> str:
    """The first `event:` line of an event stream, behind the position."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": f"{since['epoch']}:{since['offset']}"}
    async with client.stream("GET", path, headers=headers) as answer, asyncio.timeout(10):
        async for line in answer.aiter_lines():
            if line.startswith("event: ") and line != "event: position":
                return line
    raise AssertionError("the stream ended")


async def test_a_forced_open_circuit_is_seen_by_everybody_and_heard_by_who_is_concerned(house: House, ops: httpx.AsyncClient) -> None:
    async with house.client() as anna, house.client() as berta:
        await (await anna.register(BANK)).ended("completed")
        await (await berta.register(CARD)).ended("completed")
        here = [(await anna.get("/v1/events")).json(), (await berta.get("/v1/events")).json(), (await ops.get("/ops/events")).json()]
        before = len(await house.calls(BANK))
        await until(lambda: counted(ops, BANK))

        answer = await ops.put(f"/ops/breakers/{BANK}", json={"mode": "forced_open", "reason": "asked by phone"})
        assert answer.status_code == 200
        await until(lambda: _is(state(ops, BANK), {("open", "forced_open")}))
        await until(lambda: _is(status(house, BANK), "resting"))
        assert await status(house, CARD) == "available"
        following = await anna.register(BANK)
        await following.until(lambda: following.status(BANK)[0] == "deferred")
        assert len(await house.calls(BANK)) == before, "nobody calls it"

        await ops.put(f"/ops/breakers/{BANK}", json={"mode": "auto", "reason": "well again"})
        await until(lambda: _is(status(house, BANK), "available"), 15)
        await following.until(lambda: following.status(BANK)[0] == "completed", 30)
        heard = await events(anna.http, "/v1/events", here[0], lambda found: len(_statuses(found)) >= 2)
        assert _statuses(heard) == [(BANK, "resting"), (BANK, "available")]
        told = await events(ops, "/ops/events", here[2], lambda found: "breaker.closed" in {event["type"] for event in found})
        assert {event["org_code"] for event in told} == {BANK}
        assert next(event["type"] for event in told if event["data"]["scope"] == "read") == "breaker.forced"
        assert all(event["type"].startswith("breaker.") for event in told)
        assert await streamed(ops, "/ops/events", here[2]) == f"event: {told[0]['type']}"
        assert (await berta.get("/v1/events", since=f"{here[1]['epoch']}:{here[1]['offset']}")).json()["events"] == []

    history = (await ops.get("/ops/breakers/history", params={"org_code": BANK})).json()
    assert [(each["who"], each["action"]) for each in history["actions"]] == [("olga", "breaker.auto"), ("olga", "breaker.forced_open")]
    assert {"open", "closed"} <= {each["state"] for each in history["decisions"]}


async def test_planned_maintenance_is_called_so(house: House, ops: httpx.AsyncClient) -> None:
    async with house.client() as anna:
        await (await anna.register(CARD)).ended("completed")
        here = (await anna.get("/v1/events")).json()
        await house.provider(CARD, mode="maintenance")
        following = await anna.register(CARD)
        await following.until(lambda: following.status(CARD)[0] == "deferred")
        await until(lambda: _is(status(house, CARD), "maintenance"))
        (told,) = [each for each in await events(anna.http, "/v1/events", here, _statuses) if each["type"] == "provider.status"]
        assert (told["data"]["status"], "retry_at" in told["data"]) == ("maintenance", True)
        assert "registration_id" not in told
        await house.provider(CARD, mode="ok")
        await ops.put(f"/ops/breakers/{CARD}", json={"mode": "forced_closed", "reason": "they are done early"})
        await until(lambda: _is(status(house, CARD), "available"))


async def test_a_forced_mode_outlives_a_wiped_valkey(house: House, ops: httpx.AsyncClient, valkey: Engine) -> None:
    await ops.put(f"/ops/breakers/{CARD}", json={"mode": "forced_open", "reason": "for long"})
    await until(lambda: _is(state(ops, CARD), {("open", "forced_open")}))
    with valkey_client.Redis.from_url(valkey.url) as client:
        client.flushall()
    await until(lambda: _is(state(ops, CARD), {("open", "forced_open")}), 20)
    await until(lambda: _is(status(house, CARD), "resting"))


async def _is(found: Any, expected: Any) -> bool:
    return bool(await found == expected)


def _statuses(found: list[Any]) -> list[tuple[str, str]]:
    return [(event["org_code"], event["data"]["status"]) for event in found if event["type"] == "provider.status"]
