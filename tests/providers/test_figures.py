"""Per industry: everything that the sandbox holds, through the real transport over several pages, figure by figure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from backend.clock import KST
from backend.events import Industry
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import masked
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.people import Listing, People
from tests.providers.journey import Journey
from tests.providers.standard_walk import Row, Walk

# What is not told to the person: envelopes, names of people, what another call says better, and what names an asset to its provider.
LEFT_OUT = {
    *("rsp_code", "rsp_msg", "search_timestamp", "next_page", "is_consent", "seqno"),
    *("insured_name", "subject", "relation", "contract_no"),
    *("card_id", "pp_id", "fob_id", "sub_key", "mgmt_id"),
}
NAMES = {"prod_name", "account_name", "card_name", "point_name", "pp_name", "fob_name", "loan_name"}
NUMBERS = {"account_num", "card_num", "insu_num", "telecom_num", "account_id", "loan_num"}
SECRETS = {"repay_account_num", "charge_account_num", "pay_id", "car_number"}
WORTH = {"balance_amt", "eval_amt", "total_balance_amt"}
STATUSES = {"01": "active", "02": "active", "03": "closed", "04": "lapsed"}
OURS = {"telecom_type": "type", "cash_amt": "withholdings_amt", "currency": "currency_code", "amount": "balance_amt"}  # our word: theirs
Pairs = set[tuple[str, str]]


def normal(name: str, value: object) -> str:
    """One form for what stands on the wire and for what we made of it."""
    if name in SECRETS and isinstance(value, str) and "*" not in value:
        return masked(value)
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d\+09:00)?", text):
        return re.sub(r"[-T:]|\+09:00", "", text)
    try:
        return f"{Decimal(text).normalize():f}"
    except InvalidOperation:
        return text


def dicts(value: Any) -> Iterator[Row]:
    """A dictionary and every one inside it."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dicts(each)


def pairs(row: Row) -> Pairs:
    """What a row tells by itself."""
    counts = {name.removesuffix("_list") + "_cnt" for name in row if name.endswith("_list")}
    return {(name, normal(name, value)) for name, value in row.items() if not isinstance(value, dict | list) and name not in counts}


def shown(asset: CollectedAsset) -> tuple[Pairs, list[Pairs]]:
    """What the asset as a whole tells, and each of its rows, in the standard's words."""
    whole = {(name, asset.name) for name in NAMES} | {(name, asset.number_masked) for name in NUMBERS}
    whole |= {
        (name, normal(name, code))
        for name in ("account_status", "insu_status", "status")
        for code, word in STATUSES.items()
        if word == asset.status
    }
    if asset.balance is not None:
        whole |= {(name, normal(name, asset.balance.amount)) for name in WORTH} | {("currency_code", asset.balance.currency)}
    rows = []
    for row in dicts(asset.details):
        told = pairs(row)
        told |= {(OURS[name], value) for name, value in told if name in OURS}
        rows.append(told)
    return whole | rows[0], rows


def missing(asset: CollectedAsset, answer: Row) -> list[Pairs]:
    """What an answer told and the asset does not."""
    whole, rows = shown(asset)
    gaps = []
    for row in dicts(answer):
        # the account that a card draws on is another provider's secret
        left_out = {*LEFT_OUT, "account_num"} if "linked_bank_code" in row else LEFT_OUT
        told = {(name, masked(value) if name in NUMBERS else value) for name, value in pairs(row) if name not in left_out}
        gap = min((told - whole - each for each in rows), key=len)
        if gap:
            gaps.append(gap)
    return gaps


def somebody(industry: Industry, org_code: str) -> str:
    """A person of many pages who has something on every other list too."""
    people = People("moa", CATALOGUE)
    lists = [code for code, resource in CATALOGUE[industry].items() if isinstance(resource, Listing)]
    for user in (f"many-pages-{n}" for n in range(1000)):
        revolving = people.figures(org_code, user).pick("is_revolving", ("true", "false")) == "true"
        if all(people.holdings(industry, org_code, user, code) for code in lists) and (revolving or industry is not Industry.CARD):
            return user
    raise LookupError(industry)


@pytest.mark.parametrize("industry", Industry)
async def test_every_figure_is_the_one_that_the_provider_holds(journey: Journey, industry: Industry) -> None:
    provider = journey.first(industry)
    user = somebody(industry, provider.org_code)
    token = await journey.token(user, provider)
    assets = {asset.key: asset for answer in await journey.collected(provider, token) for asset in answer}
    today = journey.clock.now().astimezone(KST)
    first = today.year * 12 + today.month - 3
    months = f"{first // 12}{first % 12 + 1:02}", f"{today:%Y%m}"
    held = await Walk(journey.sandbox, provider.org_code, industry, token.access_token, months).everything()
    assert len(held) >= 120
    assert held.keys() == assets.keys()
    gaps = {key: [gap for answer in answers for gap in missing(assets[key], answer)] for key, answers in held.items()}
    assert {key: gap for key, gap in gaps.items() if gap} == {}


async def test_a_securities_account_of_many_pages_is_worth_the_sum_of_its_products_and_cash(journey: Journey) -> None:
    provider = journey.first(Industry.INVEST)
    assets = await journey.assets("many-pages", provider)
    many = max(assets.values(), key=lambda asset: len(asset.details["products"]))
    assert len(many.details["products"]) == 120
    worth = sum(Decimal(each["eval_amt"]) for each in many.details["products"]) + Decimal(many.details["cash_amt"])
    assert many.balance is not None
    assert many.balance.amount == worth
