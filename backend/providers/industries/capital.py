"""Loan companies: loans and leases (CP01), then the terms (CP02) and the debt (CP03) of each. RULE: pure.

An operating lease is no debt: it has terms of its own (CP05), and no balance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from backend.events import AssetKind
from backend.providers.industries.loans import Account, account_asset, loan_details, with_facts
from backend.providers.payloads import MOST_ROWS, Amount, Code, Day, Number, Page
from backend.providers.reading import Detail, Found, Listing

OPERATING_LEASE = "3710"


class Loans(Page, frozen=True, kw_only=True):
    """Answer of CP01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


class LeaseTerms(Page, frozen=True, kw_only=True):
    """Answer of CP05."""

    issue_date: Day | None = None
    exp_date: Day | None = None
    repay_date: Code | None = None  # day of the month
    repay_method: Code | None = None
    repay_amt: Amount | None = None
    repay_org_code: Code | None = None
    repay_account_num: Number | None = None
    next_repay_date: Day | None = None


def found(page: Loans) -> Iterator[Found]:
    """The loans of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(account_asset(account, AssetKind.LOAN), _wanted(account))


def _wanted(account: Account) -> tuple[Detail[Any], ...]:
    if account.account_type == OPERATING_LEASE:
        return (Detail("CP05", account.named, LeaseTerms, with_facts),)
    return loan_details(account, "CP02", "CP03")


LISTINGS = (Listing("CP01", Loans, found, kinds=frozenset({AssetKind.LOAN})),)
