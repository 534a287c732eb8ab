from __future__ import annotations

from dataclasses import replace
from datetime import date

import orjson
import pytest

from backend.events import Industry
from backend.providers.contract import ApiType, Timestamps
from backend.providers.industries import bank, card, telecom
from backend.providers.industries.loans import with_facts
from backend.providers.reading import Asking, Detail
from tests.providers.given import BANK, provider

TODAY = date(2027, 1, 15)


def asking(industry: Industry = Industry.BANK) -> Asking:
    return Asking(provider=provider(industry=industry), token="tok", api_type=ApiType.USER_CONSENT, today=TODAY)


def test_a_first_page_carries_the_timestamp_and_a_following_one_the_cursor() -> None:
    first = asking().call(bank.LISTINGS[0])
    assert (first.method, first.path, first.api_type, first.token) == ("GET", "/v1/bank/accounts", "user-consent", "tok")
    assert dict(first.query) == {"org_code": BANK, "search_timestamp": "0", "limit": "500"}
    assert dict(asking().call(bank.LISTINGS[0], "c").query) == {"org_code": BANK, "next_page": "c", "limit": "500"}


def test_a_list_carries_what_its_link_reached_and_a_detail_does_not() -> None:
    known = Timestamps({"BA01": "20261122100000", "BA03": "20261122100000"})
    asked = Asking(provider=provider(), token="tok", api_type=ApiType.USER_REFRESH, today=TODAY, timestamps=known)
    assert asked.call(bank.LISTINGS[0]).query["search_timestamp"] == "20261122100000"
    detail = asked.call(Detail("BA03", {"account_num": "1"}, bank.DepositDetail, bank.with_deposit))
    assert orjson.loads(detail.body or b"")["search_timestamp"] == "0"


def test_a_detail_names_its_asset_in_the_body_never_in_the_url() -> None:
    detail = Detail("BA03", {"account_num": "110123456789", "seqno": "1"}, bank.DepositDetail, bank.with_deposit)
    call = asking().call(detail)
    assert (call.method, call.path, dict(call.query)) == ("POST", "/v1/bank/accounts/deposit/detail", {})
    assert orjson.loads(call.body or b"") == {"org_code": BANK, "account_num": "110123456789", "seqno": "1", "search_timestamp": "0"}
    assert "110123456789" not in repr(call) + repr(detail)


def test_a_seqno_that_the_list_did_not_give_is_not_sent() -> None:
    call = asking().call(Detail("BA03", {"account_num": "1"}, bank.DepositDetail, bank.with_deposit))
    assert "seqno" not in orjson.loads(call.body or b"")


def test_a_card_is_one_quoted_segment_of_the_path() -> None:
    call = asking(Industry.CARD).call(Detail("CD02", {"card_id": "a/b?c%2e#"}, card.CardDetail, with_facts))
    assert call.path == "/v1/card/cards/a%2Fb%3Fc%252e%23"


def test_bills_are_asked_for_over_three_months() -> None:
    call = asking(Industry.TELECOM).call(Detail("TC02", {"mgmt_id": "m"}, telecom.Bills, telecom.with_bills))
    told = orjson.loads(call.body or b"")
    assert (told["from_month"], told["to_month"]) == ("202611", "202701")


@pytest.mark.parametrize("code", ["00000", "00001"])
def test_nothing_new_is_no_answer_and_not_an_error(code: str) -> None:
    call = replace(asking(), timestamps=Timestamps({"BA01": "20261122100000"})).call(bank.LISTINGS[0])
    assert code in call.accepts
    answer = call.read(code, b'{"account_list":[]}')
    assert (answer is None) == (code == "00001")
    assert asking().call(bank.LISTINGS[0]).accepts == {"00000"}, "who asks for everything is told everything"
