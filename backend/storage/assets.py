"""Assets: the newest state of everything a person owns or owes."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from backend.clock import iso
from backend.events import Asset, AssetKind, Balance, Industry
from backend.storage.statements import Connection, Row, statement
from backend.storage.tables import assets as table


class AssetQuery(Struct, frozen=True, kw_only=True):
    """Which assets; a filter that is None does not filter."""

    limit: int
    industry: str | None = None
    org_code: str | None = None
    after: tuple[str, str] | None = None  # (org_code, id) of the last one seen


_LIST = statement(
    """
    SELECT * FROM assets WHERE user_id = :user_id
      AND (CAST(:industry AS text) IS NULL OR industry = :industry)
      AND (CAST(:org_code AS text) IS NULL OR org_code = :org_code)
      AND (CAST(:after_id AS text) IS NULL OR (org_code, id) > (:after_org, :after_id))
    ORDER BY org_code, id LIMIT :limit
    """
)


_HELD = statement("SELECT * FROM assets WHERE user_id = :user_id AND org_code = :org_code")

_CHANGED = ", ".join(f"{column} = excluded.{column}" for column in table.c.keys() if column not in {"user_id", "id"})  # noqa: SIM118
# A step of a statement; what commits later stays, as in the feed.
SAVED = f"""saved AS (
    INSERT INTO assets (user_id, id, org_code, industry, kind, name, number_masked, status, balance_amount, balance_currency, as_of,
      details)
    SELECT :user_id, asset.* FROM numbered, jsonb_to_recordset(CAST(:assets AS jsonb)) AS asset(id text, org_code text, industry text,
      kind text, name text, number_masked text, status text, balance_amount numeric, balance_currency text, as_of timestamptz,
      details jsonb)
    ORDER BY asset.id
    ON CONFLICT (user_id, id) DO UPDATE SET {_CHANGED})"""  # noqa: S608  # constants
_SAVE = statement(f"WITH numbered AS (SELECT), {SAVED} SELECT")


async def save(connection: Connection, user_id: str, assets: Sequence[Asset]) -> None:
    """Replaces by id."""
    await _SAVE.run(connection, {"user_id": user_id, "assets": rows(assets)})


def rows(assets: Sequence[Asset]) -> list[dict[str, object]]:
    """What `SAVED` takes: the last of each id."""
    return [_row(asset) for asset in {asset.id: asset for asset in assets}.values()]


async def listed(connection: Connection, user_id: str, query: AssetQuery) -> list[Asset]:
    """This user's assets by provider, then id."""
    after_org, after_id = query.after or (None, None)
    values = {"industry": query.industry, "org_code": query.org_code, "after_org": after_org, "after_id": after_id, "limit": query.limit}
    return [asset_in(row) for row in await _LIST.rows(connection, {"user_id": user_id, **values})]


async def held(connection: Connection, user_id: str, org_code: str) -> dict[str, Asset]:
    """All that this user has at one provider, by id."""
    rows = await _HELD.rows(connection, {"user_id": user_id, "org_code": org_code})
    return {row["id"]: asset_in(row) for row in rows}


def _row(asset: Asset) -> dict[str, object]:
    return {
        "id": asset.id,
        "org_code": asset.org_code,
        "industry": asset.industry.value,
        "kind": asset.kind.value,
        "name": asset.name,
        "number_masked": asset.number_masked,
        "status": asset.status,
        "balance_amount": str(asset.balance.amount) if asset.balance else None,
        "balance_currency": asset.balance.currency if asset.balance else None,
        "as_of": asset.as_of,
        "details": asset.details,
    }


def asset_in(row: Row) -> Asset:
    """The asset that a whole row of `assets` holds."""
    return Asset(
        id=row["id"],
        org_code=row["org_code"],
        industry=Industry(row["industry"]),
        kind=AssetKind(row["kind"]),
        name=row["name"],
        number_masked=row["number_masked"],
        status=row["status"],
        balance=Balance(row["balance_amount"], row["balance_currency"]) if row["balance_currency"] else None,
        as_of=iso(row["as_of"]),
        details=row["details"],
    )
