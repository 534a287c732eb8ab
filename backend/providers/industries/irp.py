"""Personal pensions (IRP) at banks, securities firms and insurers: IR01, then the terms (IR02) and products (IR03) of each. RULE: pure.

A pension is worth its `eval_amt`. Who has none of these in the house answers that the call is not offered, and nothing is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import MOST_ROWS, Amount, Code, Day, Identifier, Page, Status, Text, balance, details, facts, masked
from backend.providers.reading import Detail, Found, Listing, with_more


class Irp(Struct, frozen=True, kw_only=True):
    """One row of IR01."""

    account_num: Identifier
    is_consent: bool
    prod_name: Text

    def __repr__(self) -> str:
        return "Irp(…)"


class Irps(Page, frozen=True, kw_only=True):
    """Answer of IR01."""

    irp_list: Annotated[tuple[Irp, ...], MOST_ROWS]


class IrpTerms(Page, frozen=True, kw_only=True):
    """Answer of IR02."""

    eval_amt: Amount | None = None
    accum_amt: Amount | None = None
    employer_amt: Amount | None = None
    employee_amt: Amount | None = None
    issue_date: Day | None = None
    first_deposit_date: Day | None = None
    rcv_start_date: Day | None = None


class IrpProduct(Struct, frozen=True, kw_only=True):
    """One row of IR03."""

    irp_name: Text
    irp_type: Code | None = None
    eval_amt: Amount | None = None
    inv_principal: Amount | None = None
    fund_num: Amount | None = None
    open_date: Day | None = None
    exp_date: Day | None = None
    int_rate: Amount | None = None


class IrpProducts(Page, frozen=True, kw_only=True):
    """Answer of IR03, one page of it."""

    irp_list: Annotated[tuple[IrpProduct, ...], MOST_ROWS]


def found(page: Irps) -> Iterator[Found]:
    """The pensions of one page."""
    for irp in page.irp_list:
        if irp.is_consent:
            named = {"account_num": irp.account_num}
            yield Found(_asset(irp), (Detail("IR02", named, IrpTerms, with_terms), Detail("IR03", named, IrpProducts, with_products)))


def with_terms(asset: CollectedAsset, answer: IrpTerms) -> CollectedAsset:
    return with_more(asset, facts(answer, "eval_amt"), balance(answer.eval_amt))


def with_products(asset: CollectedAsset, answer: IrpProducts) -> CollectedAsset:
    """Adds one page to the products that are known already."""
    return with_more(asset, details(products=(*asset.details.get("products", ()), *answer.irp_list)))


def _asset(irp: Irp) -> CollectedAsset:
    return CollectedAsset(
        key=f"irp:{irp.account_num}",
        kind=AssetKind.PENSION,
        name=irp.prod_name,
        number_masked=masked(irp.account_num),
        status=Status.ACTIVE,
        balance=None,
        details={},
    )


LISTING = Listing("IR01", Irps, found, optional=True, kinds=frozenset({AssetKind.PENSION}))
