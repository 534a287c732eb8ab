"""Banks: accounts (BA01), for each the basic and the detail call of its kind, and personal pensions (IR01). RULE: pure.

`account_type` 1xxx is a deposit (BA02, BA03), 2xxx an investment (BA11, BA12), 3xxx a loan (BA21, BA22). A minus account is both
deposit and loan: we read it as the deposit that it is, so its balance may be negative, and what it is as a loan is its `overdraft`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries import irp
from backend.providers.industries.loans import Account, LoanDetail, LoanTerms, account_asset, loan_details, with_facts
from backend.providers.payloads import MOST_ROWS, WON, Amount, Code, Count, Currency, Day, Page, balance, details, facts
from backend.providers.reading import Detail, Found, Listing, with_more

_KINDS = {"1": AssetKind.DEPOSIT, "2": AssetKind.INVESTMENT, "3": AssetKind.LOAN}


class Accounts(Page, frozen=True, kw_only=True):
    """Answer of BA01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


class InCurrency(Struct, frozen=True, kw_only=True):
    """The part of an account in one currency."""

    currency_code: Currency = WON


class DepositTerms(InCurrency, frozen=True, kw_only=True):
    """One row of BA02."""

    saving_method: Code | None = None
    issue_date: Day | None = None
    exp_date: Day | None = None
    commit_amt: Amount | None = None
    monthly_paid_in_amt: Amount | None = None


class DepositBasic(Page, frozen=True, kw_only=True):
    """Answer of BA02."""

    basic_list: Annotated[tuple[DepositTerms, ...], MOST_ROWS]


class DepositRow(InCurrency, frozen=True, kw_only=True):
    """One row of BA03."""

    balance_amt: Amount
    withdrawable_amt: Amount | None = None
    offered_rate: Amount | None = None
    last_paid_in_cnt: Count | None = None


class DepositDetail(Page, frozen=True, kw_only=True):
    """Answer of BA03."""

    detail_list: Annotated[tuple[DepositRow, ...], MOST_ROWS]


class FundTerms(Page, frozen=True, kw_only=True):
    """Answer of BA11."""

    standard_fund_code: Code | None = None
    paid_in_type: Code | None = None
    issue_date: Day | None = None
    exp_date: Day | None = None


class FundDetail(Page, frozen=True, kw_only=True):
    """Answer of BA12."""

    balance_amt: Amount | None = None
    eval_amt: Amount | None = None
    currency_code: Currency | None = None
    inv_principal: Amount | None = None
    fund_num: Amount | None = None


R = TypeVar("R", bound=InCurrency)


def found(page: Accounts) -> Iterator[Found]:
    """The accounts of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(account_asset(account, _kind(account)), _wanted(account))


def with_deposit_terms(asset: CollectedAsset, answer: DepositBasic) -> CollectedAsset:
    """The terms of the won part, or of the first."""
    rows = answer.basic_list
    return with_more(asset, facts(_main(rows), "currency_code")) if rows else asset


def with_deposit(asset: CollectedAsset, answer: DepositDetail) -> CollectedAsset:
    """The balance is the won part, or the first; every part is in `balances` when there are several."""
    rows = answer.detail_list
    if not rows:
        return asset
    main = _main(rows)
    parts = [details(currency=row.currency_code, amount=row.balance_amt) | facts(row, "currency_code", "balance_amt") for row in rows]
    more = facts(main, "currency_code", "balance_amt") | details(balances=parts if len(parts) > 1 else None)
    return with_more(asset, more, balance(main.balance_amt, main.currency_code))


def with_fund(asset: CollectedAsset, answer: FundDetail) -> CollectedAsset:
    """The balance is what the fund is worth today."""
    worth = answer.balance_amt if answer.eval_amt is None else answer.eval_amt
    return with_more(asset, facts(answer, "eval_amt", "currency_code"), balance(worth, answer.currency_code))


def with_overdraft(asset: CollectedAsset, answer: LoanTerms | LoanDetail) -> CollectedAsset:
    """What a minus account is as a loan, beside what it is as a deposit."""
    return with_more(asset, {"overdraft": {**asset.details.get("overdraft", {}), **facts(answer)}})


def _main(rows: Sequence[R]) -> R:
    return next((row for row in rows if row.currency_code == WON), rows[0])


def _kind(account: Account) -> AssetKind:
    if account.is_minus:
        return AssetKind.DEPOSIT
    return _KINDS.get(account.account_type[:1], AssetKind.DEPOSIT)


def _wanted(account: Account) -> tuple[Detail[Any], ...]:
    known = account.named
    deposit = (
        Detail("BA03", known, DepositDetail, with_deposit),
        Detail("BA02", known, DepositBasic, with_deposit_terms),
    )
    if account.is_minus:
        return (*deposit, Detail("BA22", known, LoanDetail, with_overdraft), Detail("BA21", known, LoanTerms, with_overdraft))
    match account.account_type[:1]:
        case "1":
            return deposit
        case "2":
            return Detail("BA12", known, FundDetail, with_fund), Detail("BA11", known, FundTerms, with_facts)
        case "3":
            return loan_details(account, "BA21", "BA22")
    return ()


LISTINGS = (Listing("BA01", Accounts, found, kinds=frozenset(_KINDS.values())), irp.LISTING)
