"""Links: one row per (user, provider) with its consent's end and its sealed tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.storage.tables import links as table

Values = Mapping[str, Any]  # columns to write

_FIND = text("SELECT * FROM links WHERE user_id = :user_id AND org_code = :org_code")
_USABLE = text(
    """
    SELECT org_code FROM links WHERE user_id = :user_id AND org_code = ANY(:org_codes) AND status = 'active'
      AND consent_ends_on > :today AND refresh_expires_at > :now
    """
)
_REFRESHED = text("UPDATE links SET last_refreshed_at = :now, updated_at = :now WHERE user_id = :user_id AND org_code = :org_code")


@cache
def _save(columns: tuple[str, ...]) -> Insert:
    """Writing the statement takes as long as running it."""
    statement = upsert(table)
    changed = {name: statement.excluded[name] for name in columns if name not in {"user_id", "org_code", "created_at"}}
    return statement.on_conflict_do_update(index_elements=["user_id", "org_code"], set_=changed)


async def save(connection: AsyncConnection, row: Values) -> None:
    """Makes or replaces the one link of (user, provider). When it was made is kept."""
    await connection.execute(_save(tuple(row)), row)


async def find(connection: AsyncConnection, user_id: str, org_code: str) -> RowMapping | None:
    """The link; None: this user has none at this provider."""
    return (await connection.execute(_FIND, {"user_id": user_id, "org_code": org_code})).mappings().one_or_none()


async def usable(connection: AsyncConnection, user_id: str, org_codes: Sequence[str], *, today: date, now: datetime) -> frozenset[str]:
    """Providers whose link can be read without another signature."""
    values = {"user_id": user_id, "org_codes": list(org_codes), "today": today, "now": now}
    return frozenset((await connection.execute(_USABLE, values)).scalars())


async def refreshed(connection: AsyncConnection, user_id: str, org_code: str, now: datetime) -> None:
    """Notes that everything was read."""
    await connection.execute(_REFRESHED, {"user_id": user_id, "org_code": org_code, "now": now})
