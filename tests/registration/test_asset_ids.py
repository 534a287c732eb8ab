"""What a provider told is shown the same by an event and by the database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import Amount, balance
from backend.registration.asset_ids import asset_of
from backend.storage.database import Database
from tests.providers.given import provider
from tests.storage.test_assets import listed, save

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("-0", "0.00"),
        ("-0.000", "0.00"),
        ("0.0000000", "0.00"),
        ("0.0000001", "0.000000"),
        ("12.5", "12.50"),
        ("-12.125", "-12.125"),
        ("999999999999999999.9999999999", "1000000000000000000.000000"),
    ],
)
async def test_a_balance_is_a_plain_decimal_and_as_an_event_shows_it_so_does_the_database(
    database: Database, told: str, shown: str
) -> None:
    """The law of the feed: the snapshot and the events after it are a fresh snapshot, to the letter."""
    collected = CollectedAsset(
        key="k", kind=AssetKind.DEPOSIT, name="n", number_masked="", status="active", balance=balance(Amount(told)), details={}
    )
    asset = asset_of(b"s", "anna", provider(), collected, NOW)
    assert asset.balance is not None
    assert str(asset.balance.amount) == shown
    await save(database, asset)
    [stored] = await listed(database)
    assert stored.balance is not None
    assert str(stored.balance.amount) == shown
    assert Decimal(shown) == stored.balance.amount
