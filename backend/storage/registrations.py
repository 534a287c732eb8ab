"""Registrations and their items as rows. Rules and types live in `registration/`; here is only SQL.

Every statement names the user. `load` is used under the user's lock by whoever wants to change something, without it by readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import RowMapping, bindparam, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.storage.tables import registration_items as items_table
from backend.storage.tables import registrations as table

Values = Mapping[str, Any]  # columns to write


class Page(Struct, frozen=True):
    """Where a listing goes on: registrations older than `before`. None: from the newest."""

    limit: int
    before: str | None = None


class OpenWork(Struct, frozen=True):
    """Something that was begun and not ended, as the sweeper finds it."""

    user_id: str
    registration_id: str
    run: int
    request_id: str
    org_code: str | None  # None: the signature


_LOAD = text("SELECT * FROM registrations WHERE user_id = :user_id AND id = :id")
_ITEMS = text(
    "SELECT * FROM registration_items WHERE user_id = :user_id AND registration_id = ANY(:ids) ORDER BY registration_id, position"
)
_LIST = text(
    """
    SELECT * FROM registrations WHERE user_id = :user_id AND (CAST(:before AS text) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
    """
)
_UNSIGNED = text(
    """
    SELECT user_id, id AS registration_id, run, request_id FROM registrations
    WHERE status = 'signing' AND updated_at < :idle_since ORDER BY updated_at LIMIT :limit
    """
)
_UNCOLLECTED = text(
    """
    SELECT i.user_id, i.registration_id, i.run, r.request_id, i.org_code
    FROM registration_items i JOIN registrations r ON r.user_id = i.user_id AND r.id = i.registration_id
    WHERE i.status IN ('waiting', 'connecting', 'collecting', 'deferred') AND i.updated_at < :idle_since
      AND (i.run < r.run OR r.status NOT IN ('signing', 'denied', 'expired'))
      AND (i.status <> 'deferred' OR coalesce(i.retry_at, :now) <= :now)
    ORDER BY i.updated_at LIMIT :limit
    """
)


async def add(connection: AsyncConnection, registration: Values, items: Sequence[Values]) -> None:
    """Writes a new registration with its items."""
    await connection.execute(insert(table), registration)
    await connection.execute(insert(items_table), items)


async def load(connection: AsyncConnection, user_id: str, registration_id: str) -> tuple[RowMapping, Sequence[RowMapping]] | None:
    """The registration's row and its items' rows in the order of choice; None: this user has no such registration."""
    row = (await connection.execute(_LOAD, {"user_id": user_id, "id": registration_id})).mappings().one_or_none()
    if row is None:
        return None
    return row, (await connection.execute(_ITEMS, {"user_id": user_id, "ids": [registration_id]})).mappings().all()


async def listed(connection: AsyncConnection, user_id: str, page: Page) -> Sequence[tuple[RowMapping, Sequence[RowMapping]]]:
    """This user's registrations, newest first."""
    values = {"user_id": user_id, "before": page.before, "limit": page.limit}
    rows = (await connection.execute(_LIST, values)).mappings().all()
    items: dict[str, list[RowMapping]] = {row["id"]: [] for row in rows}
    for item in (await connection.execute(_ITEMS, {"user_id": user_id, "ids": list(items)})).mappings():
        items[item["registration_id"]].append(item)
    return [(row, items[row["id"]]) for row in rows]


async def change(connection: AsyncConnection, user_id: str, registration_id: str, changes: Values) -> None:
    """Writes the named columns of one registration."""
    where = (table.c.user_id == user_id) & (table.c.id == registration_id)
    await connection.execute(update(table).where(where).values(**changes))


_REQUEST = text(
    """
    SELECT sign_tx_id, cert_tx_id, sign_web_url AS web_url, sign_ios_url AS ios_app_scheme_url, sign_aos_url AS aos_app_scheme_url
    FROM registrations WHERE user_id = :user_id AND id = :id
    """
)


async def kept_request(connection: AsyncConnection, user_id: str, registration_id: str) -> RowMapping:
    """What the CA answered to the last sign_request of this registration."""
    return (await connection.execute(_REQUEST, {"user_id": user_id, "id": registration_id})).mappings().one()


_CHANGE_ITEM = (
    update(items_table)
    .where(
        (items_table.c.user_id == bindparam("of_user"))
        & (items_table.c.registration_id == bindparam("of_registration"))
        & (items_table.c.org_code == bindparam("of_org"))
    )
    .values(
        status=bindparam("status"),
        run=bindparam("run"),
        asset_ids=bindparam("asset_ids"),
        error_code=bindparam("error_code"),
        retry_at=bindparam("retry_at"),
        updated_at=bindparam("updated_at"),
    )
)


async def change_items(connection: AsyncConnection, user_id: str, registration_id: str, changed: Mapping[str, Values]) -> None:
    """Writes whole items by org_code."""
    if changed:
        rows = [{"of_user": user_id, "of_registration": registration_id, "of_org": org_code, **row} for org_code, row in changed.items()]
        await connection.execute(_CHANGE_ITEM, rows)


async def touch_item(
    connection: AsyncConnection, user_id: str, registration_id: str, org_code: str, *, retry_at: datetime, now: datetime
) -> None:
    """Puts off a deferred item without telling anybody: its deferral was announced already."""
    where = (items_table.c.user_id == user_id) & (items_table.c.registration_id == registration_id) & (items_table.c.org_code == org_code)
    await connection.execute(update(items_table).where(where, items_table.c.status == "deferred").values(retry_at=retry_at, updated_at=now))


async def open_work(connection: AsyncConnection, *, idle_since: datetime, now: datetime, limit: int) -> list[OpenWork]:
    """Signatures and providers on which nothing was written since `idle_since`, and deferred providers whose time has come."""
    unsigned = (await connection.execute(_UNSIGNED, {"idle_since": idle_since, "limit": limit})).mappings().all()
    uncollected = (await connection.execute(_UNCOLLECTED, {"idle_since": idle_since, "now": now, "limit": limit})).mappings().all()
    return [OpenWork(**row, org_code=None) for row in unsigned] + [OpenWork(**row) for row in uncollected]
