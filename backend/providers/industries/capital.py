"""Loan companies: loans (CP01), then the detail of each (CP03). RULE: pure.

An operating lease (account_type 37xx) has no loan detail that this reads; it stays as its list shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries.loans import STATUSES, Account, LoanDetail, with_loan
from backend.providers.payloads import MOST_ROWS, Page, details, masked, named
from backend.providers.reading import Detail, Found, Listing

OPERATING_LEASE = "3710"


class Loans(Page, frozen=True, kw_only=True):
    """Answer of CP01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


def found(page: Loans) -> Iterator[Found]:
    """The loans of one page."""
    for account in page.account_list:
        if account.is_consent:
            wanted = () if account.account_type == OPERATING_LEASE else (Detail("CP03", account.named, LoanDetail, with_loan),)
            yield Found(_asset(account), wanted)


def _asset(account: Account) -> CollectedAsset:
    return CollectedAsset(
        key=account.key,
        kind=AssetKind.LOAN,
        name=account.prod_name,
        number_masked=masked(account.account_num),
        status=named(account.account_status, STATUSES),
        balance=None,
        details=details(account_type=account.account_type),
    )


LISTINGS = (Listing("CP01", Loans, found),)
