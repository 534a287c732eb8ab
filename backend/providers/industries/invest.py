"""Securities firms: accounts (IV01), for each its cash (IV02) and its products (IV04, in pages), pensions (IV05, IR01). RULE: pure.

An account is worth its cash plus what its products are worth, in won. The balance is shown once both are known; before that, and in
other currencies, the parts are in the details.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries import irp
from backend.providers.industries.loans import with_facts
from backend.providers.payloads import (
    MOST_ROWS,
    WON,
    Amount,
    Code,
    Currency,
    Day,
    Identifier,
    Page,
    Status,
    Text,
    balance,
    details,
    facts,
    masked,
)
from backend.providers.reading import Detail, Found, Listing, with_more

PENSION = "105"


class Account(Struct, frozen=True, kw_only=True):
    """One row of IV01."""

    account_num: Identifier
    is_consent: bool
    account_name: Text
    account_type: Code
    issue_date: Day | None = None
    is_tax_benefits: bool | None = None
    is_cma: bool | None = None
    is_stock_trans: bool | None = None
    is_account_link: bool | None = None


class Accounts(Page, frozen=True, kw_only=True):
    """Answer of IV01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


class CashRow(Struct, frozen=True, kw_only=True):
    """The cash of an account in one currency."""

    withholdings_amt: Amount
    currency_code: Currency = WON
    credit_loan_amt: Amount | None = None
    mortgage_amt: Amount | None = None
    avail_balance: Amount | None = None


class Cash(Page, frozen=True, kw_only=True):
    """Answer of IV02."""

    basic_list: Annotated[tuple[CashRow, ...], MOST_ROWS]


class Product(Struct, frozen=True, kw_only=True):
    """One row of IV04."""

    prod_name: Text
    eval_amt: Amount
    currency_code: Currency = WON
    prod_type: Code | None = None
    prod_code: Text | None = None
    purchase_amt: Amount | None = None
    holding_num: Amount | None = None


class Products(Page, frozen=True, kw_only=True):
    """Answer of IV04, one page of it."""

    prod_list: Annotated[tuple[Product, ...], MOST_ROWS]
    base_date: Day | None = None


class PensionTerms(Page, frozen=True, kw_only=True):
    """Answer of IV05."""

    issue_date: Day | None = None
    paid_in_amt: Amount | None = None
    withdrawal_amt: Amount | None = None
    last_paid_in_date: Day | None = None
    rcv_amt: Amount | None = None
    pension_rcv_start_date: Day | None = None


def found(page: Accounts) -> Iterator[Found]:
    """The accounts of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(_asset(account), _wanted(account))


def with_cash(asset: CollectedAsset, answer: Cash) -> CollectedAsset:
    """The won part counts; every part is in `cash` when there are others."""
    won = [row for row in answer.basic_list if row.currency_code == WON]
    parts = [details(currency=row.currency_code, amount=row.withholdings_amt) | _credit(row) for row in answer.basic_list]
    more = details(
        cash_amt=sum((row.withholdings_amt for row in won), Decimal(0)),
        cash=parts if len(won) < len(parts) else None,
    )
    return _valued(with_more(asset, more | (_credit(won[0]) if won else {})))


def with_products(asset: CollectedAsset, answer: Products) -> CollectedAsset:
    """Adds one page to the products that are known already."""
    worth = Decimal(asset.details.get("eval_amt", 0)) + sum(
        (each.eval_amt for each in answer.prod_list if each.currency_code == WON), Decimal(0)
    )
    products = (*asset.details.get("products", ()), *answer.prod_list)
    return _valued(with_more(asset, details(base_date=answer.base_date, eval_amt=worth, products=products)))


def _wanted(account: Account) -> tuple[Detail[Any], ...]:
    known = {"account_num": account.account_num}
    cash, products = Detail("IV02", known, Cash, with_cash), Detail("IV04", known, Products, with_products)
    return (cash, products, Detail("IV05", known, PensionTerms, with_facts)) if account.account_type == PENSION else (cash, products)


def _credit(row: CashRow) -> dict[str, Any]:
    return facts(row, "withholdings_amt", "currency_code")


def _valued(asset: CollectedAsset) -> CollectedAsset:
    known = asset.details
    if "cash_amt" not in known or "eval_amt" not in known:
        return asset
    return with_more(asset, {}, balance(Decimal(known["cash_amt"]) + Decimal(known["eval_amt"])))


def _asset(account: Account) -> CollectedAsset:
    return CollectedAsset(
        key=f"account:{account.account_num}",
        kind=AssetKind.PENSION if account.account_type == PENSION else AssetKind.INVESTMENT,
        name=account.account_name,
        number_masked=masked(account.account_num),
        status=Status.ACTIVE,
        balance=None,
        details=facts(account, "account_num", "account_name", "is_consent"),
    )


LISTINGS = (Listing("IV01", Accounts, found, kinds=frozenset({AssetKind.INVESTMENT, AssetKind.PENSION})), irp.LISTING)
