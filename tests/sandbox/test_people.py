"""Invented people: always the same, with figures that agree, and the corner cases by name."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from backend.clock import KST, ManualClock
from backend.events import Industry
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.people import People, Trait, trait_of
from tests.sandbox.operator import BANK, FIRST, Operator

CARD, INVEST, EFIN = FIRST[Industry.CARD], FIRST[Industry.INVEST], FIRST[Industry.EFIN]
MAIN = {
    Industry.BANK: "BA01",
    Industry.CARD: "CD01",
    Industry.INVEST: "IV01",
    Industry.INSU: "IS01",
    Industry.EFIN: "EF01",
    Industry.CAPITAL: "CP01",
    Industry.TELECOM: "TC01",
}


def _numbers(people: People, industry: Industry, user: str) -> list[dict[str, str]]:
    return [holding.ref for holding in people.holdings(industry, FIRST[industry], user, MAIN[industry])]


@pytest.mark.parametrize("industry", list(Industry))
def test_a_person_owns_the_same_things_in_every_run(industry: Industry) -> None:
    assert _numbers(People("moa", CATALOGUE), industry, "alice") == _numbers(People("moa", CATALOGUE), industry, "alice")
    assert _numbers(People("moa", CATALOGUE), industry, "alice") != _numbers(People("moa", CATALOGUE), industry, "bob")
    assert _numbers(People("moa", CATALOGUE), industry, "alice") != _numbers(People("other", CATALOGUE), industry, "alice")


@pytest.mark.parametrize("industry", list(Industry))
def test_counts_follow_the_name(industry: Industry) -> None:
    people = People("moa", CATALOGUE)
    assert all(1 <= len(_numbers(people, industry, f"person{n}")) <= 4 for n in range(50))
    assert len(_numbers(people, industry, "rich")) >= 30
    assert len(_numbers(people, industry, "rich-7")) >= 30
    assert len(_numbers(people, industry, "many-pages")) == 120
    assert _numbers(people, industry, "empty") == []


def test_a_name_is_special_alone_or_with_a_number() -> None:
    assert trait_of("rich") is trait_of("rich-12") is Trait.RICH
    assert trait_of("minus-account-3") is Trait.MINUS_ACCOUNT
    assert trait_of("richard") is trait_of("rich-uncle") is trait_of("") is Trait.ORDINARY


@pytest.mark.parametrize("industry", list(Industry))
async def test_somebody_without_assets_has_lists_of_none(operator: Operator, industry: Industry) -> None:
    told = (await operator.call("empty", FIRST[industry], MAIN[industry])).json()
    counts = [value for name, value in told.items() if name.endswith("_cnt")]
    assert (told["rsp_code"], counts) == ("00000", ["0"])


async def test_an_overdrawn_account_is_deposit_and_loan_at_once(operator: Operator) -> None:
    account = (await operator.call("minus-account", BANK, "BA01")).json()["account_list"][0]
    assert account["is_minus"] == "true"
    deposit = (await operator.call("minus-account", BANK, "BA03", account_num=account["account_num"])).json()["detail_list"][0]
    loan = (await operator.call("minus-account", BANK, "BA22", account_num=account["account_num"])).json()
    assert Decimal(deposit["balance_amt"]) == -Decimal(loan["balance_amt"]) < 0
    period = {"from_date": "20261001", "to_date": "20261122"}
    moves = (await operator.call("minus-account", BANK, "BA04", account_num=account["account_num"], **period)).json()["trans_list"]
    assert moves[0]["balance_amt"] == deposit["balance_amt"]
    assert (await operator.call("minus-account", BANK, "BA23", account_num=account["account_num"], **period)).json()["rsp_code"] == "40402"


async def test_a_closed_account_is_listed_and_has_no_details(operator: Operator) -> None:
    account = (await operator.call("closed-account", BANK, "BA01")).json()["account_list"][-1]
    assert account["account_status"] == "03"
    code = {"1": "BA03", "2": "BA12", "3": "BA22"}[account["account_type"][0]]
    answer = await operator.call("closed-account", BANK, code, account_num=account["account_num"])
    assert (answer.status_code, answer.json()["rsp_code"]) == (403, "40305")


async def test_a_consent_that_ended_is_told_with_a_good_token(operator: Operator) -> None:
    answer = await operator.call("consent-expired", BANK, "BA01")
    assert (answer.status_code, answer.json()["rsp_code"]) == (401, "40106")


async def test_todays_balance_follows_from_the_movements(operator: Operator) -> None:
    account = (await operator.call("alice", BANK, "BA01")).json()["account_list"][0]["account_num"]
    balance = (await operator.call("alice", BANK, "BA03", account_num=account)).json()["detail_list"][0]["balance_amt"]
    period = {"from_date": "20260101", "to_date": "20261122"}
    moves = (await operator.call("alice", BANK, "BA04", account_num=account, **period)).json()["trans_list"]
    assert moves[0]["balance_amt"] == balance
    assert [move["trans_dtime"] for move in moves] == sorted((move["trans_dtime"] for move in moves), reverse=True)
    for later, earlier in pairwise(moves):
        sign = 1 if later["trans_type"] == "03" else -1
        assert Decimal(later["balance_amt"]) == Decimal(earlier["balance_amt"]) + sign * Decimal(later["trans_amt"])


async def test_amounts_move_on_three_days_of_a_month_and_the_past_stays_as_it_was(operator: Operator, clock: ManualClock) -> None:
    accounts = (await operator.call("alice", BANK, "BA01")).json()["account_list"]
    account = next(each["account_num"] for each in accounts if each["account_type"] == "1001")
    period = {"from_date": "20261001", "to_date": "20261122"}
    past = (await operator.call("alice", BANK, "BA04", account_num=account, **period)).json()["trans_list"]
    days = []
    balance = None
    for _ in range(28):
        clock.move(timedelta(days=1))
        told = (await operator.call("alice", BANK, "BA03", account_num=account)).json()["detail_list"][0]["balance_amt"]
        if told != balance and balance is not None:
            days.append(f"{clock.now().astimezone(KST):%d}")
        balance = told
    assert 1 <= len(days) <= 3
    assert set(days) <= {f"{day:02}" for day in People("moa", CATALOGUE).figures(BANK, "alice").changes}
    assert (await operator.call("alice", BANK, "BA04", account_num=account, **period)).json()["trans_list"] == past


async def test_card_loans_and_revolving_are_told_where_they_are(operator: Operator) -> None:
    for user in ("rich", "rich-1", "rich-2", "empty"):
        flags = (await operator.call(user, CARD, "CD31")).json()
        for flag, code in (("is_loan_short_term", "CD32"), ("is_loan_long_term", "CD33")):
            (count,) = [value for name, value in (await operator.call(user, CARD, code)).json().items() if name.endswith("_cnt")]
            assert (flags[flag] == "true") == (count != "0")
        revolving = (await operator.call(user, CARD, "CD23")).json()["is_revolving"] == "true"
        assert user == "empty" or revolving == ((await operator.call(user, CARD, "CD24")).json()["revolving_cnt"] != "0")


async def test_a_bill_is_the_sum_of_the_month_befores_approvals(operator: Operator) -> None:
    cards = (await operator.call("alice", CARD, "CD01")).json()["card_list"]
    september = {"from_date": "20260901", "to_date": "20260930"}
    approved = [
        Decimal(each["approved_amt"])
        for card in cards
        for each in (await operator.call("alice", CARD, "CD03", card_id=card["card_id"], **september)).json()["approved_list"]
    ]
    (bill,) = (await operator.call("alice", CARD, "CD21", from_month="202610", to_month="202610")).json()["bill_list"]
    details = (await operator.call("alice", CARD, "CD22", seqno=bill["seqno"], charge_month="202610")).json()["bill_detail_list"]
    assert Decimal(bill["charge_amt"]) == sum(approved) == sum(Decimal(each["paid_amt"]) for each in details) > 0


async def test_a_wallets_total_is_what_was_charged_and_earned(operator: Operator) -> None:
    wallet = (await operator.call("alice", EFIN, "EF01")).json()["fob_list"][0]
    told = (await operator.call("alice", EFIN, "EF02", fob_id=wallet["fob_id"], account_id=wallet["account_list"][0]["account_id"])).json()
    assert Decimal(told["total_balance_amt"]) == Decimal(told["charge_balance_amt"]) + Decimal(told["reserve_balance_amt"])


async def test_a_foreign_account_has_a_row_per_currency(operator: Operator) -> None:
    accounts = (await operator.call("rich", BANK, "BA01")).json()["account_list"]
    foreign = next(each for each in accounts if each["is_foreign_deposit"] == "true")
    rows = (await operator.call("rich", BANK, "BA03", account_num=foreign["account_num"])).json()["detail_list"]
    assert [row["currency_code"] for row in rows] == ["USD", "EUR"]
