from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime

import pytest

from backend.events import Industry
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.consents import consent_for, consent_hash, sign_request_form, token_form, year_after
from backend.providers.contract import Consent, SignedConsent
from tests.providers.given import BANK, CA_CODE, NOW, OPERATOR, person, provider


def consent(industry: Industry = Industry.BANK, now: datetime = NOW) -> Consent:
    return consent_for(provider(industry=industry), operator=OPERATOR, ca=CA_CODE, now=now, serial=7)


def test_the_document_has_the_standards_fields_in_their_order() -> None:
    assert consent().document == (
        '{"snd_org_code":"A1MOABK001","rcv_org_code":"ZVMOA00000","is_scheduled":"true","fnd_cycle":"1/w","add_cycle":"1/w",'
        '"end_date":"20271122","purpose":"본인신용정보 통합조회","period":"99991231",'
        '"target_info":[{"scope":"bank.list"},{"scope":"bank.deposit"},{"scope":"bank.invest"},{"scope":"bank.loan"},{"scope":"bank.irp"}],'
        '"is_consent_trans_memo":"true","is_consent_merchant_name_regno":"true"}'
    )


@pytest.mark.parametrize("industry", Industry)
def test_a_consent_names_the_full_scope_of_its_industry(industry: Industry) -> None:
    told = json.loads(consent(industry).document)
    assert " ".join(each["scope"] for each in told["target_info"]) == FULL_SCOPES[industry]


def test_a_consent_ends_a_year_from_today_in_korea_not_in_utc() -> None:
    assert consent(now=datetime(2026, 12, 31, 15, 0, tzinfo=UTC)).ends_on == date(2028, 1, 1)
    assert consent(now=datetime(2026, 12, 31, 14, 59, tzinfo=UTC)).ends_on == date(2027, 12, 31)


def test_a_consent_of_a_leap_day_ends_on_the_28th() -> None:
    assert year_after(date(2028, 2, 29)) == date(2029, 2, 28)


def test_the_person_signs_the_digest_of_exactly_the_document_in_the_order_of_the_providers() -> None:
    first, second = consent(), consent(Industry.CARD)
    form = sign_request_form(person(), (first, second), sign_tx_id="S" * 49, return_scheme="moa://signature")
    assert form["consent_cnt"] == "2"
    assert form["consent_type"] == "1"
    assert [row["tx_id"] for row in form["consent_list"] if isinstance(row, dict)] == [first.tx_id, second.tx_id]
    row = form["consent_list"][0]
    assert isinstance(row, dict)
    assert row["consent"] == consent_hash(first.document) == hashlib.sha256(first.document.encode()).hexdigest()
    assert row["consent_len"] == "64"


def test_the_token_request_carries_the_document_itself_and_its_length_in_bytes() -> None:
    signed = SignedConsent(
        org_code=BANK, tx_id=consent().tx_id, document=consent().document, ends_on=date(2027, 11, 22), signed_consent="c2ln",
        cert_tx_id="cert", ca_code=CA_CODE,
    )  # fmt: skip
    form = token_form(person(), signed, client_id="id", client_secret="secret", service_id="moa")
    assert form["consent"] == signed.document
    assert int(form["consent_len"]) == len(signed.document.encode()) > len(signed.document)
    assert (form["password"], form["password_len"], form["grant_type"], form["request_type"]) == ("c2ln", "4", "password", "1")
    assert form["username"] == person().user_ci
