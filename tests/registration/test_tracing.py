"""From the click to the bank's answer by log lines alone: one request id, one tran-id per call."""

from __future__ import annotations

import json
from typing import Any

from tests.registration.house import ALL_SEVEN, BANK, CARD, Client, Following, House


def calls_in(house: House, request_id: str) -> list[dict[str, Any]]:
    """The lines of outside calls that this request led to."""
    lines = [json.loads(line) for line in house.logs.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "provider.call" and line.get("request_id") == request_id]


async def test_a_request_id_leads_to_every_call_that_the_institutions_have_seen(house: House, anna: Client) -> None:
    answer = await anna.http.post("/v1/registrations", json={"providers": ALL_SEVEN})
    following = Following(anna, answer.json())
    await following.ended("completed")
    lines = {line["tran_id"]: line for line in calls_in(house, answer.headers["x-request-id"])}
    seen = [call for call in await house.calls() if call.get("user") == anna.sub]
    assert {call["org_code"] for call in seen} >= set(ALL_SEVEN)
    for call in seen:
        line = lines[call["tran_id"]]
        assert (line["org_code"], line["status"], line["outcome"]) == (call["org_code"], call["status"], "ok")
        assert following.id in line["job_id"]
    assert {line["function"] for line in lines.values()} == {"sign", "collect"}
    assert set(lines) <= {call["tran_id"] for call in await house.calls()}, "no line tells of a call that nobody has seen"


async def test_the_stages_of_a_registration_are_a_handful_of_lines(house: House, anna: Client) -> None:
    following = await anna.register(*ALL_SEVEN, **{"X-Request-Id": "click-of-anna-0"})
    ended = await following.ended("completed")
    lines = [json.loads(line) for line in house.logs.getvalue().splitlines()]
    told = [line for line in lines if line.get("registration_id") == following.id]
    stages = ["registration.accepted", "signature.requested", "signature.completed", "registration.completed"]
    assert [line["event"] for line in told] == stages
    assert {line["request_id"] for line in told} == {"click-of-anna-0"}
    last = told[-1]
    assert (last["status"], last["providers"]) == ("completed", {"completed": 7})
    assert last["assets"] == sum(provider["assets"] for provider in ended["providers"])
    assert 0 < last["seconds"] < 15


async def test_the_callers_own_request_id_is_kept_and_a_retry_has_its_own(house: House, anna: Client) -> None:
    await house.provider(CARD, mode="http500")
    following = await anna.register(BANK, CARD, **{"X-Request-Id": "click-of-anna-1"})
    await following.ended("partial")
    failed = [line for line in calls_in(house, "click-of-anna-1") if line["org_code"] == CARD]
    assert [line["outcome"] for line in failed] != []
    assert "ok" not in {line["outcome"] for line in failed}
    await house.provider(CARD, mode="ok")
    answer = await anna.http.post(f"{following.path}/retry", headers={"X-Request-Id": "click-of-anna-2"})
    assert answer.status_code == 202
    await following.ended("completed", times=2)
    assert {line["org_code"] for line in calls_in(house, "click-of-anna-2")} == {CARD}
