"""Telecoms: contracts (TC01), then the bills of each over the last three months (TC02). RULE: pure.

A contract has no balance; its newest bill is `charge_amt` in the details.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import MOST_ROWS, Amount, Code, Day, Identifier, Page, Status, Text, details, masked, named
from backend.providers.reading import Detail, Found, Listing, with_more

STATUSES = {"01": Status.ACTIVE, "03": Status.CLOSED}
CONTRACT = "통신 서비스"  # the standard gives a contract no name


class Contract(Struct, frozen=True, kw_only=True):
    """One row of TC01."""

    mgmt_id: Identifier
    is_consent: bool
    telecom_num: Text = ""
    type: Code | None = None
    status: Code | None = None


class Contracts(Page, frozen=True, kw_only=True):
    """Answer of TC01."""

    telecom_list: Annotated[tuple[Contract, ...], MOST_ROWS]


class Bill(Struct, frozen=True, kw_only=True):
    """One row of TC02."""

    charge_month: Code
    charge_amt: Amount
    charge_date: Day | None = None


class Bills(Page, frozen=True, kw_only=True):
    """Answer of TC02."""

    charge_list: Annotated[tuple[Bill, ...], MOST_ROWS]


def found(page: Contracts) -> Iterator[Found]:
    """The contracts of one page."""
    for contract in page.telecom_list:
        if contract.is_consent:
            yield Found(_asset(contract), (Detail("TC02", {"mgmt_id": contract.mgmt_id}, Bills, with_bills),))


def with_bills(asset: CollectedAsset, answer: Bills) -> CollectedAsset:
    """Newest bill first."""
    bills = tuple(sorted(answer.charge_list, key=lambda bill: bill.charge_month, reverse=True))
    if not bills:
        return asset
    return with_more(asset, details(charge_amt=bills[0].charge_amt, charge_month=bills[0].charge_month, bills=bills))


def _asset(contract: Contract) -> CollectedAsset:
    return CollectedAsset(
        key=f"telecom:{contract.mgmt_id}",
        kind=AssetKind.TELECOM,
        name=CONTRACT,
        number_masked=masked(contract.telecom_num),
        status=named(contract.status, STATUSES),
        balance=None,
        details=details(telecom_type=contract.type),
    )


LISTINGS = (Listing("TC01", Contracts, found, kinds=frozenset({AssetKind.TELECOM})),)
