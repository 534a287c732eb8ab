"""E-money companies: prepaid wallets (EF01) with balance (EF02) and automatic charge (EF03), payment accounts (EF11, EF12). RULE: pure.

A wallet (fob) may hold several accounts, each with a balance of its own: each is one asset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries.prepaid import PrepaidBalance, with_balance
from backend.providers.payloads import MOST_ROWS, Amount, Code, Day, Identifier, Number, Page, Status, Text, details, masked
from backend.providers.reading import Detail, Found, Listing, with_more

PAYMENT_ACCOUNT = "간편결제"  # the standard gives a payment account no name


class WalletAccount(Struct, frozen=True, kw_only=True):
    account_id: Identifier


class Wallet(Struct, frozen=True, kw_only=True):
    """One row of EF01."""

    fob_id: Identifier
    fob_name: Text
    is_consent: bool
    reg_date: Day | None = None
    limit_amt: Amount | None = None
    is_charge: bool | None = None
    account_list: Annotated[tuple[WalletAccount, ...], MOST_ROWS] = ()


class Wallets(Page, frozen=True, kw_only=True):
    """Answer of EF01."""

    fob_list: Annotated[tuple[Wallet, ...], MOST_ROWS]


class Charge(Struct, frozen=True, kw_only=True):
    """One row of EF03: from where a wallet fills itself, and when."""

    charge_option: Code | None = None
    charge_org_code: Code | None = None
    charge_account_num: Number | None = None
    charge_day: Code | None = None
    charge_base_amt: Amount | None = None
    charge_amt: Amount | None = None


class Charges(Page, frozen=True, kw_only=True):
    """Answer of EF03."""

    charge_list: Annotated[tuple[Charge, ...], MOST_ROWS]


class PaymentAccount(Struct, frozen=True, kw_only=True):
    """One row of EF11."""

    sub_key: Identifier
    is_consent: bool
    account_id: Text = ""
    reg_date: Day | None = None
    is_pay: bool | None = None


class PaymentAccounts(Page, frozen=True, kw_only=True):
    """Answer of EF11."""

    account_list: Annotated[tuple[PaymentAccount, ...], MOST_ROWS]


class PaymentMethod(Struct, frozen=True, kw_only=True):
    """One row of EF12: a card or an account to pay with."""

    pay_type: Code | None = None
    pay_org_code: Code | None = None
    pay_id: Number | None = None
    is_primary: bool | None = None


class PaymentMethods(Page, frozen=True, kw_only=True):
    """Answer of EF12."""

    pay_list: Annotated[tuple[PaymentMethod, ...], MOST_ROWS]


def found_wallets(page: Wallets) -> Iterator[Found]:
    """The wallets of one page, account by account; one without accounts is an asset by itself."""
    for wallet in page.fob_list:
        if wallet.is_consent:
            for account_id in [account.account_id for account in wallet.account_list] or [""]:
                yield _wallet(wallet, account_id)


def found_payment_accounts(page: PaymentAccounts) -> Iterator[Found]:
    """The payment accounts of one page."""
    for account in page.account_list:
        if account.is_consent:
            yield Found(_payment_account(account), (Detail("EF12", {"sub_key": account.sub_key}, PaymentMethods, with_methods),))


def with_charges(asset: CollectedAsset, answer: Charges) -> CollectedAsset:
    return with_more(asset, details(charges=answer.charge_list or None))


def with_methods(asset: CollectedAsset, answer: PaymentMethods) -> CollectedAsset:
    return with_more(asset, details(methods=answer.pay_list or None))


def _wallet(wallet: Wallet, account_id: str) -> Found:
    asset = CollectedAsset(
        key=f"prepaid:{wallet.fob_id}:{account_id}",
        kind=AssetKind.PREPAID,
        name=wallet.fob_name,
        number_masked=masked(account_id),
        status=Status.ACTIVE,
        balance=None,
        details=details(reg_date=wallet.reg_date, limit_amt=wallet.limit_amt, is_charge=wallet.is_charge),
    )
    named = {"fob_id": wallet.fob_id, **({"account_id": account_id} if account_id else {})}
    left, charge = Detail("EF02", named, PrepaidBalance, with_balance), Detail("EF03", named, Charges, with_charges)
    return Found(asset, (left, charge) if wallet.is_charge else (left,))


def _payment_account(account: PaymentAccount) -> CollectedAsset:
    return CollectedAsset(
        key=f"paid:{account.sub_key}",
        kind=AssetKind.PAID,
        name=PAYMENT_ACCOUNT,
        number_masked=masked(account.account_id),
        status=Status.ACTIVE,
        balance=None,
        details=details(reg_date=account.reg_date, is_pay=account.is_pay),
    )


LISTINGS = (
    Listing("EF01", Wallets, found_wallets, kinds=frozenset({AssetKind.PREPAID})),
    Listing("EF11", PaymentAccounts, found_payment_accounts, kinds=frozenset({AssetKind.PAID})),
)
