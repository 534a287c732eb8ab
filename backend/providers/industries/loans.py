"""Accounts as banks, insurers and loan companies list them, and what all three answer about a loan. RULE: pure.

BA01, IS11 and CP01 list accounts; BA21 and CP02 tell the terms of a loan, BA22, IS13 and CP03 what is owed.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import (
    Amount,
    Code,
    Currency,
    Day,
    Identifier,
    Number,
    Page,
    Status,
    Text,
    balance,
    details,
    facts,
    masked,
    named,
)
from backend.providers.reading import Detail, with_more

STATUSES = {"01": Status.ACTIVE, "03": Status.CLOSED}


class Account(Struct, frozen=True, kw_only=True):
    """One row of `account_list`, or of an insurer's `loan_list`."""

    account_num: Identifier
    is_consent: bool
    prod_name: Text
    account_type: Code
    account_status: Code
    seqno: Identifier | None = None
    is_foreign_deposit: bool | None = None
    is_minus: bool | None = None

    @property
    def named(self) -> dict[str, str]:
        """What the provider wants to hear to know the account again."""
        return {"account_num": self.account_num, **({"seqno": self.seqno} if self.seqno else {})}

    @property
    def key(self) -> str:
        return f"account:{self.account_num}:{self.seqno or ''}"

    def __repr__(self) -> str:
        return f"Account({self.account_type})"


class LoanTerms(Page, frozen=True, kw_only=True):
    """Answer of BA21 and CP02."""

    issue_date: Day | None = None
    exp_date: Day | None = None
    last_offered_rate: Amount | None = None
    repay_date: Code | None = None  # day of the month
    repay_method: Code | None = None
    repay_org_code: Code | None = None
    repay_account_num: Number | None = None


class LoanDetail(Page, frozen=True, kw_only=True):
    """Answer of BA22, IS13 and CP03."""

    balance_amt: Amount
    currency_code: Currency | None = None
    loan_principal: Amount | None = None
    next_repay_date: Day | None = None


def account_asset(account: Account, kind: AssetKind) -> CollectedAsset:
    """The account as its list shows it."""
    return CollectedAsset(
        key=account.key,
        kind=kind,
        name=account.prod_name,
        number_masked=masked(account.account_num),
        status=named(account.account_status, STATUSES),
        balance=None,
        details=details(
            account_type=account.account_type,
            is_minus=account.is_minus,
            is_foreign_deposit=account.is_foreign_deposit,
        ),
    )


def loan_details(account: Account, terms: str, owed: str) -> tuple[Detail[Any], ...]:
    """The two calls about a loan, by their API codes."""
    return Detail(owed, account.named, LoanDetail, with_loan), Detail(terms, account.named, LoanTerms, with_facts)


def with_facts(asset: CollectedAsset, answer: Page) -> CollectedAsset:
    """Whatever the answer tells."""
    return with_more(asset, facts(answer))


def with_loan(asset: CollectedAsset, answer: LoanDetail) -> CollectedAsset:
    """The balance is what is still owed, as a positive amount."""
    return with_more(asset, facts(answer, "balance_amt", "currency_code"), balance(answer.balance_amt, answer.currency_code))
