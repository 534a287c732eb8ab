"""The CA: who may ask, when a signature is there, and the page where a person decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backend.clock import ManualClock
from tests.sandbox.operator import BANK, CLIENT, Operator


async def _asked(operator: Operator) -> tuple[dict[str, str], dict[str, Any]]:
    """The ids that sign_result wants, and the answer of sign_request."""
    body = operator.sign_request("alice", {BANK: "document"})
    told = (await operator.ca("sign_request", body)).json()
    return {"cert_tx_id": told["cert_tx_id"], "sign_tx_id": body["sign_tx_id"]}, told


async def _result(operator: Operator, ids: dict[str, str]) -> str:
    answer = await operator.ca("sign_result", ids)
    assert answer.status_code == 200
    return str(answer.json()["rsp_code"])


async def test_the_signature_is_there_after_the_time_that_was_set(operator: Operator, clock: ManualClock) -> None:
    await operator.steer_ca(approve_after_ms=300)
    ids, told = await _asked(operator)
    assert len(told["cert_tx_id"]) <= 40
    assert told["sign_web_url"] == f"{operator.url}/sandbox/sign/{told['cert_tx_id']}"
    clock.move(timedelta(milliseconds=299))
    assert await _result(operator, ids) == "10001"
    clock.move(timedelta(milliseconds=1))
    assert await _result(operator, ids) == "00000"


@pytest.mark.parametrize(("button", "rsp_code"), [("approve", "00000"), ("deny", "10002")])
async def test_a_person_decides_at_the_signing_page(operator: Operator, button: str, rsp_code: str) -> None:
    await operator.steer_ca(approve_after_ms=None)
    ids, told = await _asked(operator)
    assert await _result(operator, ids) == "10001"
    assert "Approve" in (await operator.http.get(told["sign_web_url"])).text
    await operator.http.post(told["sign_web_url"], data={"decision": button})
    assert await _result(operator, ids) == rsp_code
    assert "Approve" not in (await operator.http.get(told["sign_web_url"])).text


async def test_the_signing_page_of_nothing_is_404(operator: Operator) -> None:
    assert (await operator.http.get(f"{operator.url}/sandbox/sign/none")).status_code == 404
    assert (await operator.http.post(f"{operator.url}/sandbox/sign/none", data={"decision": "approve"})).status_code == 404


@pytest.mark.parametrize(("mode", "rsp_code"), [("deny", "10002"), ("never", "10001"), ("ok", "00000")])
async def test_the_mode_decides_what_the_person_does(operator: Operator, mode: str, rsp_code: str) -> None:
    await operator.steer_ca(mode=mode)
    ids, _ = await _asked(operator)
    assert await _result(operator, ids) == rsp_code


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("consent_type", "0"),
        ("consent_cnt", "2"),
        ("consent_cnt", 1),
        ("sign_tx_id", "short"),
        ("device_code", "XX"),
        ("user_ci", ""),
        ("consent_list", []),
    ],
)
async def test_a_sign_request_with_a_wrong_field_is_refused(operator: Operator, field: str, value: object) -> None:
    answer = await operator.ca("sign_request", operator.sign_request("alice", {BANK: "document"}) | {field: value})
    assert (answer.status_code, answer.json()["rsp_code"]) == (400, "40001")


async def test_the_ca_wants_its_own_token(operator: Operator) -> None:
    body = operator.sign_request("alice", {BANK: "document"})
    assert (await operator.ca("sign_request", body, await operator.token("alice", BANK))).json()["rsp_code"] == "40101"
    wrong = {"grant_type": "client_credentials", **CLIENT, "scope": "bank.list"}
    assert (await operator.form("/oauth/2.0/token", wrong)).json()["error"] == "invalid_scope"


async def test_another_transactions_signature_cannot_be_had(operator: Operator) -> None:
    ids, _ = await _asked(operator)
    other, _ = await _asked(operator)
    answer = await operator.ca("sign_result", {**ids, "sign_tx_id": other["sign_tx_id"]})
    assert answer.json()["rsp_code"] == "40001"
