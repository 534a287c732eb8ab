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


def with_answer(found: Found, code: str, answer: dict[str, Any], asset: CollectedAsset | None = None) -> CollectedAsset:
    detail: Detail[Any] = next(each for each in found.details if each.api_code == code)
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


def test_an_overdraft_is_told_beside_the_deposit_whose_balance_it_leaves_alone() -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account(is_minus="true")]})
    asset = with_answer(found, "BA03", {"detail_list": [{"balance_amt": "-500"}]})
    asset = with_answer(found, "BA22", {"balance_amt": "500", "loan_principal": "1000"}, asset)
    asset = with_answer(found, "BA21", {"exp_date": "20300101"}, asset)
    assert asset.balance == CollectedBalance(Decimal(-500), WON)
    assert asset.details["overdraft"] == {"balance_amt": "500", "loan_principal": "1000", "exp_date": "2030-01-01"}


def test_an_account_without_consent_is_left_out() -> None:
    assert found_in(bank.LISTINGS[0], {"account_list": [account(is_consent="false")]}) == []


def test_two_loans_on_one_account_number_are_two_assets() -> None:
    one, two = found_in(bank.LISTINGS[0], {"account_list": [account(seqno="1"), account(seqno="2")]})
    assert one.asset.key != two.asset.key


@pytest.mark.parametrize(
    ("row", "kind", "codes"),
    [
        ({"account_type": "1002"}, AssetKind.DEPOSIT, ["BA03", "BA02"]),
        ({"account_type": "2001"}, AssetKind.INVESTMENT, ["BA12", "BA11"]),
        ({"account_type": "3100"}, AssetKind.LOAN, ["BA22", "BA21"]),
        ({"account_type": "3100", "is_minus": "true"}, AssetKind.DEPOSIT, ["BA03", "BA02", "BA22", "BA21"]),
        ({"account_type": "9"}, AssetKind.DEPOSIT, []),
    ],
)
def test_the_type_of_an_account_says_what_it_is_and_which_calls_it_has(row: dict[str, str], kind: AssetKind, codes: list[str]) -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account(**row)]})
    assert found.asset.kind is kind
    assert [detail.api_code for detail in found.details] == codes


def test_a_foreign_deposit_shows_won_first_and_every_currency() -> None:
    [found] = found_in(bank.LISTINGS[0], {"account_list": [account()]})
    parts = [{"currency_code": "USD", "balance_amt": "10.25"}, {"currency_code": "KRW", "balance_amt": "-5000.00"}]
    asset = with_answer(found, "BA03", {"detail_list": parts})
    assert asset.balance == CollectedBalance(Decimal("-5000.00"), WON)
    assert asset.details["balances"] == [{"currency": "USD", "amount": "10.25"}, {"currency": "KRW", "amount": "-5000"}]


def test_a_fund_is_worth_its_valuation_and_a_loan_what_is_owed() -> None:
    fund, loan = found_in(bank.LISTINGS[0], {"account_list": [account(account_type="2001"), account(account_type="3100", seqno="2")]})
    assert with_answer(fund, "BA12", {"balance_amt": "100", "eval_amt": "120.00"}).balance == CollectedBalance(Decimal("120.00"), WON)
    owed = with_answer(loan, "BA22", {"balance_amt": "3000", "next_repay_date": "20270101"})
    assert owed.balance == CollectedBalance(Decimal(3000), WON)
    assert owed.details["next_repay_date"] == "2027-01-01"


def test_a_loan_company_reads_like_a_bank() -> None:
    [found] = found_in(capital.LISTINGS[0], {"account_list": [account(account_type="3100", account_status="03")]})
    assert (found.asset.kind, found.asset.status, found.details[0].api_code) == (AssetKind.LOAN, "closed", "CP03")


def test_an_operating_lease_has_terms_and_no_debt() -> None:
    [found] = found_in(capital.LISTINGS[0], {"account_list": [account(account_type="3710")]})
    assert [detail.api_code for detail in found.details] == ["CP05"]
    asset = with_answer(found, "CP05", {"repay_amt": "350000", "repay_account_num": "110123456789"})
    assert (asset.balance, asset.details["repay_amt"], asset.details["repay_account_num"]) == (None, "350000", "********6789")


def test_a_cards_detail_never_tells_the_account_that_it_draws_on() -> None:
    row = {"card_id": "c/1", "card_num": "123456******9876", "is_consent": "true", "card_name": "카드"}
    [found] = found_in(card.LISTINGS[0], {"card_list": [row]})
    asset = with_answer(found, "CD02", {"account_num": "999888777666", "annual_fee": "10000.00", "is_cash_card": "true"})
    assert asset.details == {"annual_fee": "10000", "is_cash_card": True}
    assert asset.number_masked == "************9876"


def test_points_are_assets_without_a_balance() -> None:
    [found] = found_in(card.LISTINGS[1], {"point_list": [{"point_name": "모음포인트", "remain_point_amt": "120"}]})
    assert (found.asset.kind, found.asset.balance, found.asset.details) == (AssetKind.POINT, None, {"remain_point_amt": "120"})


def test_a_securities_account_is_worth_its_cash_and_its_products_over_all_pages() -> None:
    row = {"account_num": "12345678901", "is_consent": "true", "account_name": "종합", "account_type": "101"}
    [found] = found_in(invest.LISTINGS[0], {"account_list": [row]})
    product = {"prod_name": "하늘전자", "eval_amt": "700.50"}
    asset = with_answer(found, "IV04", {"prod_list": [product], "next_page": "n"})
    assert asset.balance is None
    asset = with_answer(found, "IV04", {"prod_list": [product, {**product, "currency_code": "USD"}]}, asset)
    asset = with_answer(
        found, "IV02", {"basic_list": [{"withholdings_amt": "99"}, {"withholdings_amt": "5", "currency_code": "USD"}]}, asset
    )
    assert asset.balance == CollectedBalance(Decimal("1500.00"), WON)
    assert len(asset.details["products"]) == 3
    assert asset.details["cash"][1] == {"currency": "USD", "amount": "5"}


def test_a_policy_keeps_its_terms_beside_its_premium_and_forgets_who_is_insured() -> None:
    row = {"insu_num": "P123456789", "is_consent": "true", "prod_name": "보험", "insu_type": "01", "insu_status": "02"}
    [found] = found_in(insu.LISTINGS[0], {"insu_list": [row]})
    asset = with_answer(found, "IS05", {"pay_amt": "30000", "is_auto_pay": "true"})
    asset = with_answer(found, "IS02", {"face_amt": "1000000", "insured_list": [{"insured_no": "01", "insured_name": "김모아"}]}, asset)
    assert asset.details == {"insu_type": "01", "pay_amt": "30000", "is_auto_pay": True, "face_amt": "1000000"}


def test_each_insured_person_of_a_policy_has_contracts_that_are_shown_in_one_order() -> None:
    row = {"insu_num": "P123456789", "is_consent": "true", "prod_name": "보험", "insu_type": "15", "insu_status": "02"}
    [found] = found_in(insu.LISTINGS[0], {"insu_list": [row]})
    assert [detail.api_code for detail in found.details] == ["IS02", "IS05", "IS08", "IS04"]
    terms = decode(insu.Terms, orjson.dumps({"insured_list": [{"insured_no": "01"}, {"insured_no": "02"}]}))
    first, second = found.details[0].then(terms)
    assert (first.api_code, second.named) == ("IS03", {"insu_num": "P123456789", "insured_no": "02"})
    told = decode(first.answer, orjson.dumps({"contract_list": [{"contract_name": "주계약", "contract_face_amt": "10"}]}))
    one_way, other_way = second.add(first.add(found.asset, told), told), first.add(second.add(found.asset, told), told)
    assert one_way == other_way
    assert one_way.details["contracts"][0] == {"insured_no": "01", "contract_name": "주계약", "contract_face_amt": "10"}


def test_what_is_to_be_paid_is_one_asset_with_its_bills_newest_first() -> None:
    payments = [{"pay_due_date": day, "pay_amt": amount} for day, amount in (("20261214", "20"), ("20261201", "10"))]
    [found] = found_in(card.LISTINGS[2], {"is_revolving": "true", "pay_list": payments})
    assert (found.asset.kind, found.asset.balance, [each.api_code for each in found.details]) == (AssetKind.CARD, None, ["CD21", "CD24"])
    assert [each["pay_amt"] for each in found.asset.details["payments"]] == ["10", "20"]
    pages = [[{"charge_month": "202610", "charge_amt": "7"}], [{"charge_month": "202611", "charge_amt": "8"}]]
    asset = found.asset
    for page in pages:
        asset = with_answer(found, "CD21", {"bill_list": page}, asset)
    assert (asset.details["charge_amt"], [each["charge_month"] for each in asset.details["bills"]]) == ("8", ["202611", "202610"])
    assert found_in(card.LISTINGS[2], {"is_revolving": "true", "pay_list": []}) == []


def test_card_loans_are_asked_for_where_there_are_any() -> None:
    flags = {"is_loan_short_term": "true", "is_loan_long_term": "false"}
    [short] = card.LISTINGS[3].then(decode(card.LISTINGS[3].answer, orjson.dumps(flags)))
    [found] = found_in(short, {"short_term_list": [{"loan_dtime": "20261101093000", "balance_amt": "300000", "loan_amt": "500000"}]})
    assert (short.api_code, found.asset.kind, found.asset.balance) == ("CD32", AssetKind.LOAN, CollectedBalance(Decimal(300000), WON))
    assert found.asset.details == {"loan_dtime": "2026-11-01T09:30:00+09:00", "loan_amt": "500000"}


@pytest.mark.parametrize("industry", [Industry.BANK, Industry.INVEST, Industry.INSU])
def test_a_personal_pension_is_worth_its_valuation_and_tells_its_products(industry: Industry) -> None:
    listing = LISTINGS[industry][-1]
    [found] = found_in(listing, {"irp_list": [{"account_num": "77001122", "is_consent": "true", "prod_name": "개인형 퇴직연금"}]})
    asset = with_answer(found, "IR02", {"eval_amt": "900.00", "accum_amt": "800", "issue_date": "20200101"})
    asset = with_answer(found, "IR03", {"irp_list": [{"irp_name": "예금", "eval_amt": "900"}], "next_page": "n"}, asset)
    asset = with_answer(found, "IR03", {"irp_list": [{"irp_name": "펀드", "open_date": "20210101"}]}, asset)
    assert (asset.kind, asset.balance) == (AssetKind.PENSION, CollectedBalance(Decimal("900.00"), WON))
    assert asset.details == {
        "accum_amt": "800",
        "issue_date": "2020-01-01",
        "products": [{"irp_name": "예금", "eval_amt": "900"}, {"irp_name": "펀드", "open_date": "2021-01-01"}],
    }


def test_each_account_of_a_wallet_is_an_asset() -> None:
    row = {"fob_id": "f", "fob_name": "머니", "is_consent": "true", "account_list": [{"account_id": "user1"}, {"account_id": "user2"}]}
    one, two = found_in(efin.LISTINGS[0], {"fob_list": [row]})
    assert one.asset.key != two.asset.key
    assert one.details[0].named == {"fob_id": "f", "account_id": "user1"}
    assert with_answer(one, "EF02", {"total_balance_amt": "900"}).balance == CollectedBalance(Decimal(900), WON)


def test_a_telephone_contract_tells_its_newest_bill_first() -> None:
    [found] = found_in(telecom.LISTINGS[0], {"telecom_list": [{"mgmt_id": "m", "is_consent": "true", "telecom_num": "010****1234"}]})
    bills = [{"charge_month": month, "charge_amt": amount} for month, amount in (("202610", "100"), ("202611", "200"))]
    asset = with_answer(found, "TC02", {"charge_list": bills})
    assert (asset.details["charge_amt"], asset.details["charge_month"]) == ("200", "202611")
    assert asset.number_masked == "*******1234"
