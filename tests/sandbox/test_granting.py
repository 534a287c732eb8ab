"""From a signature to tokens: what the CA signs, what a provider believes, how long a token lives."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from backend.clock import ManualClock
from backend.events import Industry
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.sandbox.app import tokens_of
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.signatures import BadSignature, Signer, identity_of, verified
from backend.providers.user_ci import development_user_ci
from tests.sandbox.conftest import NOON
from tests.sandbox.operator import BANK, CLIENT, FIRST, PROVIDERS, Operator, Signed

CARD = FIRST[Industry.CARD]


async def test_one_signature_opens_providers_of_every_industry(operator: Operator) -> None:
    for signed in await operator.signed("alice", *FIRST.values()):
        answer = await operator.grant(signed.org_code, signed.form())
        told = answer.json()
        assert answer.status_code == 200
        assert told["tx_id"] == signed.tx_id
        assert told["scope"] == FULL_SCOPES[PROVIDERS[signed.org_code].industry]
        assert int(told["expires_in"]) <= 90 * 86_400
        assert int(told["refresh_token_expires_in"]) <= 365 * 86_400
        assert told["access_token"].count(".") == 2  # a JWS


async def test_a_hundred_consents_are_signed_in_their_order(operator: Operator) -> None:
    documents = {f"PROVIDER{n:02}": f"document {n}" for n in range(100)}
    body = operator.sign_request("alice", documents)
    token = await operator.ca_token()
    asked = (await operator.ca("sign_request", body, token)).json()
    told = (await operator.ca("sign_result", {"cert_tx_id": asked["cert_tx_id"], "sign_tx_id": body["sign_tx_id"]}, token)).json()
    assert told["signed_consent_cnt"] == "100"
    assert [each["tx_id"] for each in told["signed_consent_list"]] == [each["tx_id"] for each in body["consent_list"]]
    assert all(each["signed_consent_len"] == str(len(each["signed_consent"])) for each in told["signed_consent_list"])


async def _signed(operator: Operator, **changed: Any) -> Signed:
    (signed,) = await operator.signed("alice", BANK, **changed)
    return signed


async def _error(operator: Operator, signed: Signed, at: str = BANK, **changed: str) -> str:
    answer = await operator.grant(at, signed.form(**changed))
    assert answer.status_code == 400
    assert answer.headers["x-api-tran-id"]
    return str(answer.json()["error"])


async def test_a_consent_that_was_changed_after_signing_is_refused(operator: Operator) -> None:
    signed = await _signed(operator)
    assert await _error(operator, signed, consent=signed.document.replace("1/w", "1/2w")) == "invalid_grant"


async def test_a_signature_of_another_person_is_refused(operator: Operator) -> None:
    signed = await _signed(operator)
    assert await _error(operator, signed, username=development_user_ci("mallory")) == "unauthorized_user"


async def test_a_consent_for_another_provider_is_refused(operator: Operator) -> None:
    signed = await _signed(operator)
    assert await _error(operator, signed, CARD, org_code=CARD) == "invalid_grant"


async def test_a_consent_whose_end_has_passed_is_refused(operator: Operator) -> None:
    assert await _error(operator, await _signed(operator, end_date="20261121")) == "invalid_grant"


async def test_a_consent_to_less_than_everything_is_refused(operator: Operator) -> None:
    assert await _error(operator, await _signed(operator, target_info=[{"scope": "bank.list"}])) == "invalid_scope"
    some = [{"scope": scope, "asset_list": [{"asset": "1"}]} for scope in FULL_SCOPES[Industry.BANK].split()]
    assert await _error(operator, await _signed(operator, target_info=some)) == "invalid_scope"


async def test_a_consent_that_lets_another_operator_ask_is_refused(operator: Operator) -> None:
    assert await _error(operator, await _signed(operator, rcv_org_code="ZVOTHER000")) == "invalid_grant"


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("client_secret", "wrong", "invalid_client"),
        ("grant_type", "authorization_code", "unsupported_grant_type"),
        ("request_type", "0", "invalid_request"),
        ("auth_type", "0", "invalid_request"),
        ("consent_type", "0", "invalid_request"),
        ("consent_len", "1", "invalid_request"),
        ("password_len", "1", "invalid_request"),
        ("ca_code", "CAOTHER001", "invalid_request"),
        ("org_code", CARD, "invalid_request"),
        ("service_id", "", "invalid_request"),
        ("cert_tx_id", "f" * 40, "unauthorized_user"),
        ("tx_id", "MD_x", "unauthorized_user"),
        ("password", "not a signature", "invalid_grant"),
    ],
)
async def test_a_token_request_with_a_wrong_field_is_refused(operator: Operator, field: str, value: str, error: str) -> None:
    assert await _error(operator, await _signed(operator), **{field: value}) == error


def test_a_changed_byte_anywhere_in_a_signature_is_noticed() -> None:
    signer = Signer("CAMOA00001", "test")
    cms = signer.sign("ci", b"digest", NOON)
    assert verified(cms, signer.root, NOON) == (b"digest", identity_of("ci"))
    der = base64.urlsafe_b64decode(cms + "==")
    survivors = 0
    for at in range(0, len(der), 7):
        changed = base64.urlsafe_b64encode(der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]).decode()
        try:
            survivors += verified(changed, signer.root, NOON) != (b"digest", identity_of("ci"))
        except BadSignature:
            continue
    assert survivors == 0


def test_a_signature_under_another_root_or_out_of_its_time_is_refused() -> None:
    signer, other = Signer("CAMOA00001", "test"), Signer("CAMOA00001", "other")
    cms = signer.sign("ci", b"digest", NOON)
    with pytest.raises(BadSignature, match="chain"):
        verified(cms, other.root, NOON)
    with pytest.raises(BadSignature, match="validity"):
        verified(cms, signer.root, NOON + timedelta(days=400))


async def test_a_newer_token_drops_the_older_pair(operator: Operator) -> None:
    old = (await operator.grant(BANK, (await _signed(operator)).form())).json()
    await operator.grant(BANK, (await _signed(operator)).form())
    assert await _rsp_code(operator, old["access_token"]) == "40101"
    assert (await _refresh(operator, old["refresh_token"]))["error"] == "invalid_grant"


async def test_a_refresh_gives_a_new_access_token_and_no_new_refresh_token(operator: Operator, clock: ManualClock) -> None:
    pair = (await operator.grant(BANK, (await _signed(operator)).form())).json()
    clock.move(timedelta(days=31))
    assert await _rsp_code(operator, pair["access_token"]) == "40101"
    told = await _refresh(operator, pair["refresh_token"])
    assert set(told) == {"token_type", "access_token", "expires_in"}
    assert await _rsp_code(operator, told["access_token"]) == "00000"


async def test_when_the_consent_has_ended_no_token_helps(operator: Operator, clock: ManualClock) -> None:
    pair = (await operator.grant(BANK, (await _signed(operator, end_date="20261130")).form())).json()
    clock.move(timedelta(days=9))
    assert await _rsp_code(operator, pair["access_token"]) == "40106"
    assert (await _refresh(operator, pair["refresh_token"]))["error"] == "invalid_grant"


async def test_a_revoked_pair_is_dead_and_cannot_be_revoked_again(operator: Operator) -> None:
    pair = (await operator.grant(BANK, (await _signed(operator)).form())).json()
    form = {"org_code": BANK, "token": pair["access_token"], **CLIENT}
    assert (await operator.form(f"/{BANK}/oauth/2.0/revoke", form)).json()["rsp_code"] == "00000"
    assert (await operator.form(f"/{BANK}/oauth/2.0/revoke", form)).json()["rsp_code"] == "99999"
    assert await _rsp_code(operator, pair["access_token"]) == "40101"
    assert (await _refresh(operator, pair["refresh_token"]))["error"] == "invalid_grant"


async def test_tokens_outlive_a_restart_of_the_sandbox(operator: Operator) -> None:
    minted = tokens_of(SandboxOptions()).issue(BANK, "bob", FULL_SCOPES[Industry.BANK], {"end_date": "20271122"}, NOON)
    assert await _rsp_code(operator, minted.access_token) == "00000"


async def _rsp_code(operator: Operator, access_token: str) -> str:
    return str((await operator.call("alice", BANK, "BA01", {"authorization": f"Bearer {access_token}"})).json()["rsp_code"])


async def _refresh(operator: Operator, refresh_token: str) -> dict[str, str]:
    form = {"org_code": BANK, "grant_type": "refresh_token", "refresh_token": refresh_token, **CLIENT}
    return dict((await operator.grant(BANK, form)).json())
