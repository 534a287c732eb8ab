"""Banks: accounts (BA01), then for each its deposit (BA03), fund (BA12) or loan (BA22) detail. RULE: pure.

`account_type` 1xxx is a deposit, 2xxx an investment, 3xxx a loan. A minus account is both deposit and loan: we read it as the deposit
that it is, so its balance may be negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries.loans import STATUSES, Account, LoanDetail, with_loan
from backend.providers.payloads import MOST_ROWS, WON, Amount, Count, Currency, Page, balance, details, masked, named, plain
from backend.providers.reading import Detail, Found, Listing, with_more

_KINDS = {"1": AssetKind.DEPOSIT, "2": AssetKind.INVESTMENT, "3": AssetKind.LOAN}


class Accounts(Page, frozen=True, kw_only=True):
    """Answer of BA01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


class DepositRow(Struct, frozen=True, kw_only=True):
    """The part of an account in one currency."""

    balance_amt: Amount
    currency_code: Currency = WON
    withdrawable_amt: Amount | None = None
    offered_rate: Amount | None = None
    last_paid_in_cnt: Count | None = None


class DepositDetail(Page, frozen=True, kw_only=True):
    """Answer of BA03."""

    detail_list: Annotated[tuple[DepositRow, ...], MOST_ROWS]


class FundDetail(Page, frozen=True, kw_only=True):
    """Answer of BA12."""

    balance_amt: Amount | None = None
    eval_amt: Amount | None = None
    currency_code: Currency | None = None
    inv_principal: Amount | None = None
    fund_num: Amount | None = None


def found(page: Accounts) -> Iterator[Found]:
    """The accounts of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(_asset(account), _wanted(account))


def with_deposit(asset: CollectedAsset, answer: DepositDetail) -> CollectedAsset:
    """The balance is the won part, or the first; every part is in `balances` when there are several."""
    rows = answer.detail_list
    if not rows:
        return asset
    main = next((row for row in rows if row.currency_code == WON), rows[0])
    parts = [{"currency": row.currency_code, "amount": plain(row.balance_amt)} for row in rows]
    more = details(
        withdrawable_amt=main.withdrawable_amt,
        offered_rate=main.offered_rate,
        last_paid_in_cnt=None if main.last_paid_in_cnt is None else str(main.last_paid_in_cnt),
        balances=parts if len(parts) > 1 else None,
    )
    return with_more(asset, more, balance(main.balance_amt, main.currency_code))


def with_fund(asset: CollectedAsset, answer: FundDetail) -> CollectedAsset:
    """The balance is what the fund is worth today."""
    worth = answer.balance_amt if answer.eval_amt is None else answer.eval_amt
    more = details(inv_principal=answer.inv_principal, fund_num=answer.fund_num)
    return with_more(asset, more, balance(worth, answer.currency_code))


def _asset(account: Account) -> CollectedAsset:
    return CollectedAsset(
        key=account.key,
        kind=_kind(account),
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


def _kind(account: Account) -> AssetKind:
    if account.is_minus:
        return AssetKind.DEPOSIT
    return _KINDS.get(account.account_type[:1], AssetKind.DEPOSIT)


def _wanted(account: Account) -> tuple[Detail[DepositDetail] | Detail[FundDetail] | Detail[LoanDetail], ...]:
    if account.is_minus or account.account_type.startswith("1"):
        return (Detail("BA03", account.named, DepositDetail, with_deposit),)
    if account.account_type.startswith("2"):
        return (Detail("BA12", account.named, FundDetail, with_fund),)
    if account.account_type.startswith("3"):
        return (Detail("BA22", account.named, LoanDetail, with_loan),)
    return ()


LISTINGS = (Listing("BA01", Accounts, found),)
