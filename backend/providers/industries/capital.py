"""Loan companies: loans and leases (CP01), then the detail of each (CP03). RULE: pure.

A company that has no loan detail for an operating lease answers 40402; the lease then stays as its list shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries.loans import STATUSES, Account, LoanDetail, with_loan
from backend.providers.payloads import MOST_ROWS, Page, details, masked, named
from backend.providers.reading import Detail, Found, Listing


class Loans(Page, frozen=True, kw_only=True):
    """Answer of CP01."""

    account_list: Annotated[tuple[Account, ...], MOST_ROWS]


def found(page: Loans) -> Iterator[Found]:
    """The loans of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(_asset(account), (Detail("CP03", account.named, LoanDetail, with_loan),))


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
