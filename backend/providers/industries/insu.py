"""Insurers: policies (IS01), then for each its terms (IS02) and its premium (IS05). RULE: pure.

A policy has no balance: what it pays out (`face_amt`) and what it costs (`pay_amt`) are details. Names of insured people are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import MOST_ROWS, Amount, Code, Currency, Day, Identifier, Page, Text, details, masked, named
from backend.providers.reading import Detail, Found, Listing, with_more

STATUSES = {"02": "active", "04": "lapsed"}


class Policy(Struct, frozen=True, kw_only=True):
    """One row of IS01."""

    insu_num: Identifier
    is_consent: bool
    prod_name: Text
    insu_type: Code
    insu_status: Code


class Policies(Page, frozen=True, kw_only=True):
    """Answer of IS01."""

    insu_list: Annotated[tuple[Policy, ...], MOST_ROWS]


class Terms(Page, frozen=True, kw_only=True):
    """Answer of IS02."""

    issue_date: Day | None = None
    exp_date: Day | None = None
    face_amt: Amount | None = None
    currency_code: Currency | None = None
    is_renewable: bool | None = None
    is_variable: bool | None = None
    is_universal: bool | None = None
    is_loanable: bool | None = None


class Premium(Page, frozen=True, kw_only=True):
    """Answer of IS05."""

    pay_amt: Amount | None = None
    pay_due: Code | None = None
    pay_cycle: Code | None = None
    pay_date: Code | None = None
    pay_end_date: Day | None = None
    is_auto_pay: bool | None = None


def found(page: Policies) -> Iterator[Found]:
    """The policies of one page."""
    for policy in page.insu_list:
        if policy.is_consent:
            named_so = {"insu_num": policy.insu_num}
            yield Found(_asset(policy), (Detail("IS02", named_so, Terms, with_terms), Detail("IS05", named_so, Premium, with_premium)))


def with_terms(asset: CollectedAsset, answer: Terms) -> CollectedAsset:
    return with_more(
        asset,
        details(
            issue_date=answer.issue_date,
            exp_date=answer.exp_date,
            face_amt=answer.face_amt,
            currency_code=answer.currency_code,
            is_renewable=answer.is_renewable,
            is_variable=answer.is_variable,
            is_universal=answer.is_universal,
            is_loanable=answer.is_loanable,
        ),
    )


def with_premium(asset: CollectedAsset, answer: Premium) -> CollectedAsset:
    return with_more(
        asset,
        details(
            pay_amt=answer.pay_amt,
            pay_due=answer.pay_due,
            pay_cycle=answer.pay_cycle,
            pay_date=answer.pay_date,
            pay_end_date=answer.pay_end_date,
            is_auto_pay=answer.is_auto_pay,
        ),
    )


def _asset(policy: Policy) -> CollectedAsset:
    return CollectedAsset(
        key=f"insurance:{policy.insu_num}",
        kind=AssetKind.INSURANCE,
        name=policy.prod_name,
        number_masked=masked(policy.insu_num),
        status=named(policy.insu_status, STATUSES),
        balance=None,
        details=details(insu_type=policy.insu_type),
    )


LISTINGS = (Listing("IS01", Policies, found),)
