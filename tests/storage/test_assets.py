"""The newest state of each asset, by page and by filter."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from backend.events import Asset, AssetKind, Balance, Industry
from backend.storage import assets
from backend.storage.assets import AssetQuery
from backend.storage.database import Database

BANK, CARD = "A1MOABK001", "B1MOACD001"


def asset(name: str, org_code: str = BANK, *, as_of: str = "2026-11-22T03:00:00.000Z", amount: str = "10.00") -> Asset:
    return Asset(
        id=name,
        org_code=org_code,
        industry=Industry.BANK if org_code == BANK else Industry.CARD,
        kind=AssetKind.DEPOSIT,
        name="자유 입출금",
        number_masked="***-1",
        status="01",
        balance=Balance(Decimal(amount), "KRW"),
        as_of=as_of,
        details={"rates": ["1.25", {"from": None}], "joint": True},
    )


async def save(database: Database, *shown: Asset, user_id: str = "anna") -> None:
    await database.transaction(lambda connection: assets.save(connection, user_id, shown))


async def listed(database: Database, user_id: str = "anna", limit: int = 100, **filters: object) -> list[Asset]:
    async with database.reading() as connection:
        return await assets.listed(connection, user_id, AssetQuery(limit=limit, **filters))  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["0.00", "-12345678901234567890.12", "0.000000000000000001", "123400.00"])
async def test_an_asset_comes_back_as_it_was_saved_to_the_last_digit(database: Database, amount: str) -> None:
    await save(database, asset("x", amount=amount))
    (found,) = await listed(database)
    assert found == asset("x", amount=amount)
    assert str(found.balance.amount) == str(Decimal(amount))  # type: ignore[union-attr]


async def test_no_balance_is_not_a_balance_of_nothing(database: Database) -> None:
    await save(database, replace(asset("x"), balance=None))
    assert (await listed(database))[0].balance is None


async def test_what_commits_later_stays_as_it_does_for_whoever_follows_the_feed(database: Database) -> None:
    earlier = asset("x", as_of="2026-11-22T03:00:01.000Z", amount="2.00")
    later = asset("x", as_of="2026-11-22T03:00:00.000Z", amount="3.00")  # was on its way for longer
    await save(database, asset("x"))
    await save(database, earlier)
    await save(database, later)
    assert await listed(database) == [later]


async def test_filters_narrow_and_join(database: Database) -> None:
    await save(database, asset("x"), asset("y", CARD))
    assert [found.id for found in await listed(database, industry="card")] == ["y"]
    assert [found.id for found in await listed(database, org_code=BANK)] == ["x"]
    assert await listed(database, industry="card", org_code=BANK) == []


async def test_pages_by_key_show_everything_once_whatever_is_added_meanwhile(database: Database) -> None:
    everything = [(org_code, f"{org_code}-{number}") for org_code in (BANK, CARD) for number in range(5)]
    await save(database, *(asset(name, org_code) for org_code, name in everything))
    seen: list[tuple[str, str]] = []
    while page := await listed(database, limit=3, after=seen[-1] if seen else None):
        seen += [(found.org_code, found.id) for found in page]
        await save(database, asset("A", BANK))  # lies before what was seen already
    assert seen == everything


async def test_nobody_sees_or_changes_anothers(database: Database) -> None:
    await save(database, asset("x"))
    await save(database, asset("x", amount="9.00"), user_id="berta")
    assert await listed(database) == [asset("x")]
    assert await listed(database, "nobody") == []
