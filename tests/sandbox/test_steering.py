"""Misbehaving on request: each mode as a client meets it, how long it lasts, what is refused, and what the call log says."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from backend.clock import ManualClock
from backend.providers.sandbox.delivering import GARBAGE
from tests.sandbox.operator import BANK, CA, PROVIDERS, Operator

OTHER = next(org_code for org_code in PROVIDERS if org_code != BANK)


async def _token_and_list(operator: Operator) -> httpx.Response:
    return await operator.call("alice", BANK, "BA01")


@pytest.mark.parametrize(
    ("mode", "status", "rsp_code"),
    [
        ("http500", 500, "50001"),
        ("http429", 429, "42901"),
        ("maintenance", 500, "50008"),
        ("out_of_window", 500, "50009"),
        ("token_expired", 401, "40101"),
        ("ok", 200, "00000"),
    ],
)
async def test_a_mode_that_answers(operator: Operator, mode: str, status: int, rsp_code: str) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, mode=mode)
    answer = await _token_and_list(operator)
    assert (answer.status_code, answer.json()["rsp_code"]) == (status, rsp_code)
    assert ("retry-after" in answer.headers) == (mode == "http429")
    assert (await operator.call("alice", OTHER, "BA01")).status_code == 200  # nobody else is touched


async def test_authorization_endpoints_fail_in_their_own_shape(operator: Operator) -> None:
    (signed,) = await operator.signed("alice", BANK)
    await operator.steer(BANK, mode="http500")
    failed = await operator.grant(BANK, signed.form())
    assert (failed.status_code, failed.json()["error"]) == (500, "server_error")
    await operator.steer(BANK, mode="maintenance")
    resting = await operator.grant(BANK, signed.form())
    assert (resting.status_code, resting.json()["error"], resting.json()["rsp_code"]) == (503, "temporarily_unavailable", "50008")
    assert int(resting.headers["retry-after"]) > 0
    await operator.steer(BANK, mode="token_expired")
    assert (await operator.grant(BANK, signed.form())).status_code == 200


@pytest.mark.parametrize("mode", ["down", "reset"])
async def test_a_mode_that_cuts_the_connection(operator: Operator, mode: str) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, mode=mode)
    with pytest.raises(httpx.TransportError):
        await _token_and_list(operator)
    assert (await operator.calls(org_code=BANK))[-1]["status"] == 0


async def test_a_hanging_call_is_in_the_log_before_and_after_the_client_gives_up(operator: Operator) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, mode="hang")
    hanging = asyncio.create_task(_token_and_list(operator))
    while not (last := (await operator.calls(org_code=BANK))[-1])["path"].endswith("/accounts"):
        await asyncio.sleep(0.005)  # another process's view of a real socket
    assert (last["status"], last["user"], last["api_code"]) == (0, "alice", "BA01")
    hanging.cancel()
    while (last := (await operator.calls(org_code=BANK))[-1])["status"] == 0:
        await asyncio.sleep(0.005)
    assert last["status"] == 499


async def test_slow_takes_three_seconds_unless_told_otherwise(operator: Operator) -> None:
    assert (await operator.steer(BANK, mode="slow")).json()["latency_ms"] == {"p50": 3000, "p99": 3000}
    assert (await operator.steer(BANK, mode="slow", latency_ms={"p50": 30, "p99": 30})).json()["latency_ms"] == {"p50": 30, "p99": 30}
    loop = asyncio.get_running_loop()
    await operator.token("alice", BANK)
    started = loop.time()
    assert (await _token_and_list(operator)).status_code == 200
    assert loop.time() - started >= 0.029
    assert (await operator.steer(BANK, mode="ok")).json()["latency_ms"] == {"p50": 30, "p99": 30}


async def test_garbage_is_never_the_standards_json(operator: Operator) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, mode="garbage")
    bodies = {(await _token_and_list(operator)).content for _ in GARBAGE}
    assert bodies == set(GARBAGE)


async def test_a_truncated_answer_looks_whole_to_http(operator: Operator) -> None:
    await operator.token("alice", BANK)
    whole = (await _token_and_list(operator)).content
    await operator.steer(BANK, mode="truncated")
    answer = await _token_and_list(operator)
    assert answer.status_code == 200
    assert whole.startswith(answer.content)
    assert len(answer.content) < len(whole)


async def test_oversize_and_drip_do_not_end_within_reason(operator: Operator) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, mode="oversize")
    assert await _taken(operator, most=1_000_000) >= 1_000_000
    await operator.steer(BANK, mode="drip")
    assert await _taken(operator, most=2) == 2  # half a second of real time: what is tested is its passing


async def _taken(operator: Operator, most: int) -> int:
    """Bytes of a list that arrive before we have had enough."""
    token = await operator.token("alice", BANK)
    headers = {"x-api-tran-id": operator.tran_id(), "x-api-type": "user-consent", "authorization": f"Bearer {token}"}
    taken = 0
    async with operator.http.stream("GET", f"{operator.url}/{BANK}/v1/bank/accounts?org_code={BANK}", headers=headers) as answer:
        async for chunk in answer.aiter_raw():
            taken += len(chunk)
            if taken >= most:
                break
    return taken


async def test_errors_come_at_the_rate_that_was_set(operator: Operator) -> None:
    await operator.token("alice", BANK)
    await operator.steer(BANK, error_rate=0.5)
    statuses = [(await _token_and_list(operator)).status_code for _ in range(60)]
    assert 10 < statuses.count(500) < 50
    assert set(statuses) == {200, 500}


async def test_a_change_for_some_seconds_ends_by_itself(operator: Operator, clock: ManualClock) -> None:
    await operator.steer(BANK, error_rate=0.1)
    assert (await operator.steer(BANK, mode="down", for_s=5)).json()["for_s"] == 5
    clock.move(timedelta(seconds=4))
    assert (await operator.steer(BANK, error_rate=0.2)).json()["for_s"] == 1  # a change of the change ends with it
    clock.move(timedelta(seconds=1))
    state = await _state(operator)
    assert (state["mode"], state["error_rate"], state["for_s"]) == ("ok", 0.1, None)


async def _state(operator: Operator) -> dict[str, Any]:
    told = (await operator.http.get(f"{operator.url}/sandbox/providers")).json()
    return next(dict(each) for each in told["providers"] if each["org_code"] == BANK)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mode": "sick"}, "mode"),
        ({"mode": None}, "mode"),
        ({"latency_ms": {"p50": 10}}, "latency_ms"),
        ({"latency_ms": {"p50": -1, "p99": 1}}, "latency_ms.p50"),
        ({"latency_ms": {"p50": 2, "p99": 1}}, "latency_ms"),
        ({"error_rate": 1.5}, "error_rate"),
        ({"error_rate": "0.5"}, "error_rate"),
        ({"for_s": 0}, "for_s"),
        ({"enforce": ["rules"]}, "enforce[0]"),
        ({"speed": 1}, "speed"),
    ],
)
async def test_a_change_that_makes_no_sense_names_the_field(operator: Operator, change: dict[str, Any], field: str) -> None:
    before = await _state(operator)
    answer = await operator.steer(BANK, **change)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"], problem["code"]) == (422, "application/problem+json", "validation_failed")
    assert problem["errors"][0]["field"] == field
    assert await _state(operator) == before


async def test_nobody_can_be_steered_who_is_not_there(operator: Operator) -> None:
    assert (await operator.steer("A1NOBODY00", mode="ok")).status_code == 404
    answer = await operator.http.put(f"{operator.url}/sandbox/ca", content=b"{")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def test_a_ca_that_is_down_or_hangs(operator: Operator) -> None:
    await operator.steer_ca(mode="down")
    with pytest.raises(httpx.TransportError):
        await operator.ca_token()
    await operator.steer_ca(mode="hang")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(operator.ca_token(), 0.05)
    await operator.steer_ca(mode="ok")
    assert await operator.ca_token()


@pytest.mark.parametrize("since", ["nan", "inf", "1e999", "-inf", "today", "[]", "1 2"])
async def test_a_moment_that_is_none_is_refused(operator: Operator, since: str) -> None:
    assert (await operator.http.get(f"{operator.url}/sandbox/calls", params={"since": since})).status_code == 422


async def test_the_call_log_is_the_truth(operator: Operator, clock: ManualClock) -> None:
    await operator.token("alice", BANK)
    clock.move(timedelta(seconds=10))
    since = clock.now().timestamp()
    await operator.call("alice", BANK, "BA01", {"x-api-tran-id": f"ZVMOA00000M{99:014}"})
    await operator.call("alice", OTHER, "BA01", {"authorization": None})
    (call,) = await operator.calls(org_code=BANK, since=str(since))
    assert call == {
        "at": since,
        "org_code": BANK,
        "method": "GET",
        "path": f"/{BANK}/v1/bank/accounts",
        "api_code": "BA01",
        "api_type": "user-consent",
        "tran_id": f"ZVMOA00000M{99:014}",
        "user": "alice",
        "status": 200,
        "rsp_code": "00000",
        "ms": 0.0,
    }
    assert {each["org_code"] for each in await operator.calls()} == {BANK, OTHER, CA}
    assert [each["at"] for each in await operator.calls()] == sorted(each["at"] for each in await operator.calls())


async def test_nothing_secret_is_in_the_call_log(operator: Operator) -> None:
    token = await operator.token("alice", BANK)
    await operator.call("alice", BANK, "BA01")
    log = (await operator.http.get(f"{operator.url}/sandbox/calls")).text
    assert "alice" in log
    for secret in (token, "Bearer", "moa-sandbox-secret", "BWFsaWNl"):  # the last: how a user_ci of alice begins
        assert secret not in log


async def test_a_reset_forgets_modes_and_calls_and_keeps_people_and_tokens(operator: Operator) -> None:
    before = (await _token_and_list(operator)).json()
    await operator.steer(BANK, mode="down", latency_ms={"p50": 5, "p99": 9}, for_s=60)
    await operator.steer_ca(mode="never")
    assert (await operator.http.post(f"{operator.url}/sandbox/reset")).status_code == 204
    assert await operator.calls() == []
    assert (await _state(operator))["mode"] == "ok"
    assert (await _token_and_list(operator)).json() == before


async def test_the_front_page_says_how_to_steer(operator: Operator) -> None:
    page = (await operator.http.get(operator.url)).text
    assert "/sandbox/reset" in page
    assert all(provider.name in page for provider in PROVIDERS.values())


async def test_fifty_callers_at_once_are_all_answered(operator: Operator) -> None:
    await operator.token("alice", BANK)
    answers = await asyncio.gather(*(_token_and_list(operator) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
