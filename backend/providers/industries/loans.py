"""Accounts as banks and loan companies list them, and the loan detail that both answer with (BA01, BA22; CP01, CP03). RULE: pure."""

from __future__ import annotations

from msgspec import Struct

from backend.providers.contract import CollectedAsset
from backend.providers.payloads import Amount, Code, Currency, Day, Identifier, Page, Text, balance, details
from backend.providers.reading import with_more

STATUSES = {"01": "active", "03": "closed"}


class Account(Struct, frozen=True, kw_only=True):
    """One row of `account_list`."""

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


class LoanDetail(Page, frozen=True, kw_only=True):
    """Answer of BA22 and CP03."""

    balance_amt: Amount
    currency_code: Currency | None = None
    loan_principal: Amount | None = None
    next_repay_date: Day | None = None


def with_loan(asset: CollectedAsset, answer: LoanDetail) -> CollectedAsset:
    """The balance is what is still owed, as a positive amount."""
    more = details(loan_principal=answer.loan_principal, next_repay_date=answer.next_repay_date)
    return with_more(asset, more, balance(answer.balance_amt, answer.currency_code))
