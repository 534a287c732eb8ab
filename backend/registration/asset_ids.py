"""What a provider told becomes an `Asset` with our id and a balance as the wire shows it. RULE: pure; the secret is an argument."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from decimal import Decimal

from backend.clock import iso
from backend.events import Asset, Balance
from backend.providers.contract import CollectedAsset, CollectedBalance, Provider

_CENTS, _LEAST = Decimal("0.01"), Decimal("0.000001")


def asset_id(secret: bytes, user_id: str, org_code: str, asset: CollectedAsset) -> str:
    """Stable over refreshes, and no way back to the account number: a keyed hash (HMAC-SHA-256, 130 bits of it)."""
    name = "\0".join((user_id, org_code, asset.kind.value, asset.key)).encode()
    digest = hmac.digest(secret, name, hashlib.sha256)
    return "ast_" + base64.b32encode(digest)[:26].decode().lower()


def asset_of(secret: bytes, user_id: str, provider: Provider, asset: CollectedAsset, as_of: datetime) -> Asset:
    """The asset as it is stored and shown."""
    return Asset(
        id=asset_id(secret, user_id, provider.org_code, asset),
        org_code=provider.org_code,
        industry=provider.industry,
        kind=asset.kind,
        name=asset.name,
        number_masked=asset.number_masked,
        status=asset.status,
        balance=_balance(asset.balance),
        as_of=iso(as_of),
        details=asset.details,
    )


def _balance(balance: CollectedBalance | None) -> Balance | None:
    """At least two decimals, as in "123400.00"; more where the provider gives more, up to six: behind them decimals print as exponents."""
    if balance is None:
        return None
    amount = balance.amount or Decimal()  # nothing is not less than nothing: the database knows no -0.00, which an event would show
    exponent = amount.as_tuple().exponent
    places = _CENTS if not isinstance(exponent, int) or exponent > -2 else _LEAST if exponent < -6 else None
    return Balance(amount if places is None else amount.quantize(places), balance.currency)
