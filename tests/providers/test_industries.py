from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.events import AssetKind, Industry
from backend.providers.api_codes import by_code
from backend.providers.contract import CollectedAsset, CollectedBalance
from backend.providers.industries import LISTINGS, bank, capital, card, efin, insu, invest, telecom
from backend.providers.payloads import Malformed, decode
from backend.providers.reading import Detail, Found, Listing

WON = "KRW"
WANTED = [(industry, listing) for industry in Industry for listing in LISTINGS[industry]]

GOOD = {
    "account_num": "110123",
    "seqno": "1",
    "is_consent": "true",
    "prod_name": "통장",
    "account_type": "1001",
    "account_status": "01",
    "is_minus": "false",
    "card_id": "c1",
    "card_num": "1234******5678",
    "card_name": "카드",
    "account_name": "종합",
    "sub_key": "s",
    "insu_num": "P1",
    "insu_type": "01",
    "insu_status": "02",
    "fob_id": "f",
    "fob_name": "머니",
    "account_list": [{"account_id": "x"}],
    "mgmt_id": "m",
    "telecom_num": "010****1234",
    "point_name": "포인트",
    "remain_point_amt": "10",
}
VALUES = ("true", "false", "1001", "2001", "3100", "9", "", "0", "-5.5", "20260101", None, 7, [], [{"account_id": "y"}], "통장", "..", "\0")

changes = st.dictionaries(st.sampled_from(sorted(GOOD)), st.sampled_from(VALUES), max_size=2)
rows = changes.map(lambda changed: {**GOOD, **changed})
pages = st.fixed_dictionaries(
    {name: st.lists(rows, max_size=3) for name in ("account_list", "card_list", "point_list", "insu_list", "fob_list", "telecom_list")}
)


def found_in(listing: Listing[Any], page: dict[str, Any]) -> list[Found]:
    return list(listing.found(decode(listing.answer, orjson.dumps(page))))


def with_answer(found: Found, number: int, answer: dict[str, Any], asset: CollectedAsset | None = None) -> CollectedAsset:
    detail: Detail[Any] = found.details[number]
    return detail.add(asset or found.asset, decode(detail.answer, orjson.dumps(answer)))


def account(**more: str) -> dict[str, str]:
    row = {"account_num": "110123456789", "is_consent": "true", "prod_name": "급여통장", "account_type": "1001", "account_status": "01"}
    return {**row, **more}


@pytest.mark.parametrize(("industry", "listing"), WANTED)
@settings(max_examples=40)
@given(st.one_of(st.binary(), pages.map(orjson.dumps)))
def test_any_page_of_any_list_gives_assets_or_is_malformed(industry: Industry, listing: Listing[Any], body: bytes) -> None:
    try:
        page = decode(listing.answer, body)
    except Malformed:
        return
    for found in listing.found(page):
        assert found.asset.key
        for detail in found.details:
            assert by_code(industry, detail.api_code)


@pytest.mark.parametrize(("industry", "listing"), WANTED)
def test_a_list_without_rows_is_no_assets(industry: Industry, listing: Listing[Any]) -> None:
    names = [name for name in listing.answer.__struct_fields__ if name.endswith("_list")]
    assert found_in(listing, {name: [] for name in names}) == []


def test_an_account_becomes_a_deposit_whose_number_is_masked() -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account(seqno="1")]})
    assert found.asset.kind is AssetKind.DEPOSIT
    assert (found.asset.number_masked, found.asset.status, found.asset.balance) == ("********6789", "active", None)
    assert found.details[0].named == {"account_num": "110123456789", "seqno": "1"}
    assert "110123456789" not in repr(found.asset)


def test_an_account_without_consent_is_left_out() -> None:
    assert found_in(bank.LISTINGS[0], {"account_list": [account(is_consent="false")]}) == []


def test_two_loans_on_one_account_number_are_two_assets() -> None:
    one, two = found_in(bank.LISTINGS[0], {"account_list": [account(seqno="1"), account(seqno="2")]})
    assert one.asset.key != two.asset.key


@pytest.mark.parametrize(
    ("row", "kind", "api_code"),
    [
        ({"account_type": "1002"}, AssetKind.DEPOSIT, "BA03"),
        ({"account_type": "2001"}, AssetKind.INVESTMENT, "BA12"),
        ({"account_type": "3100"}, AssetKind.LOAN, "BA22"),
        ({"account_type": "3100", "is_minus": "true"}, AssetKind.DEPOSIT, "BA03"),
    ],
)
def test_the_type_of_an_account_says_what_it_is_and_which_detail_it_has(row: dict[str, str], kind: AssetKind, api_code: str) -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account(**row)]})
    assert found.asset.kind is kind
    assert [detail.api_code for detail in found.details] == [api_code]


def test_a_foreign_deposit_shows_won_first_and_every_currency() -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account()]})
    parts = [{"currency_code": "USD", "balance_amt": "10.25"}, {"currency_code": "KRW", "balance_amt": "-5000.00"}]
    asset = with_answer(found, 0, {"detail_list": parts})
    assert asset.balance == CollectedBalance(Decimal("-5000.00"), WON)
    assert asset.details["balances"] == [{"currency": "USD", "amount": "10.25"}, {"currency": "KRW", "amount": "-5000"}]


def test_a_fund_is_worth_its_valuation_and_a_loan_what_is_owed() -> None:
    fund, loan = found_in(bank.LISTINGS[0], {"account_list": [account(account_type="2001"), account(account_type="3100", seqno="2")]})
    assert with_answer(fund, 0, {"balance_amt": "100", "eval_amt": "120.00"}).balance == CollectedBalance(Decimal("120.00"), WON)
    owed = with_answer(loan, 0, {"balance_amt": "3000", "next_repay_date": "20270101"})
    assert owed.balance == CollectedBalance(Decimal(3000), WON)
    assert owed.details["next_repay_date"] == "2027-01-01"


def test_a_loan_company_reads_like_a_bank() -> None:
    [found] = found_in(capital.LISTINGS[0], {"account_list": [account(account_type="3100", account_status="03")]})
    assert (found.asset.kind, found.asset.status, found.details[0].api_code) == (AssetKind.LOAN, "closed", "CP03")


def test_a_cards_detail_never_tells_the_account_that_it_draws_on() -> None:
    row = {"card_id": "c/1", "card_num": "123456******9876", "is_consent": "true", "card_name": "카드"}
    [found] = found_in(card.LISTINGS[0], {"card_list": [row]})
    asset = with_answer(found, 0, {"account_num": "999888777666", "annual_fee": "10000.00", "is_cash_card": "true"})
    assert asset.details == {"annual_fee": "10000", "is_cash_card": True}
    assert asset.number_masked == "************9876"


def test_points_are_assets_without_a_balance() -> None:
    [found] = found_in(card.LISTINGS[1], {"point_list": [{"point_name": "모음포인트", "remain_point_amt": "120"}]})
    assert (found.asset.kind, found.asset.balance, found.asset.details) == (AssetKind.POINT, None, {"remain_point_amt": "120"})


def test_a_securities_account_is_worth_its_cash_and_its_products_over_all_pages() -> None:
    row = {"account_num": "12345678901", "is_consent": "true", "account_name": "종합", "account_type": "101"}
    [found] = found_in(invest.LISTINGS[0], {"account_list": [row]})
    product = {"prod_name": "하늘전자", "eval_amt": "700.50"}
    asset = with_answer(found, 1, {"prod_list": [product], "next_page": "n"})
    assert asset.balance is None
    asset = with_answer(found, 1, {"prod_list": [product, {**product, "currency_code": "USD"}]}, asset)
    asset = with_answer(found, 0, {"basic_list": [{"withholdings_amt": "99"}, {"withholdings_amt": "5", "currency_code": "USD"}]}, asset)
    assert asset.balance == CollectedBalance(Decimal("1500.00"), WON)
    assert len(asset.details["products"]) == 3
    assert asset.details["cash"][1] == {"currency": "USD", "amount": "5"}


def test_a_policy_keeps_its_terms_beside_its_premium_and_forgets_who_is_insured() -> None:
    row = {"insu_num": "P123456789", "is_consent": "true", "prod_name": "보험", "insu_type": "01", "insu_status": "02"}
    [found] = found_in(insu.LISTINGS[0], {"insu_list": [row]})
    asset = with_answer(found, 1, {"pay_amt": "30000", "is_auto_pay": "true"})
    asset = with_answer(found, 0, {"face_amt": "1000000", "insured_list": [{"insured_name": "김모아"}]}, asset)
    assert asset.details == {"insu_type": "01", "pay_amt": "30000", "is_auto_pay": True, "face_amt": "1000000"}


def test_each_account_of_a_wallet_is_an_asset() -> None:
    row = {"fob_id": "f", "fob_name": "머니", "is_consent": "true", "account_list": [{"account_id": "user1"}, {"account_id": "user2"}]}
    one, two = found_in(efin.LISTINGS[0], {"fob_list": [row]})
    assert one.asset.key != two.asset.key
    assert one.details[0].named == {"fob_id": "f", "account_id": "user1"}
    assert with_answer(one, 0, {"total_balance_amt": "900"}).balance == CollectedBalance(Decimal(900), WON)


def test_a_telephone_contract_tells_its_newest_bill_first() -> None:
    [found] = found_in(telecom.LISTINGS[0], {"telecom_list": [{"mgmt_id": "m", "is_consent": "true", "telecom_num": "010****1234"}]})
    bills = [{"charge_month": month, "charge_amt": amount} for month, amount in (("202610", "100"), ("202611", "200"))]
    asset = with_answer(found, 0, {"charge_list": bills})
    assert (asset.details["charge_amt"], asset.details["charge_month"]) == ("200", "202611")
    assert asset.number_masked == "*******1234"
