"""Registrations and their items as rows. Rules and types live in `registration/`; here is only SQL.

Every statement names the user. `load` is used under the user's lock by whoever wants to change something, without it by readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from msgspec import Struct
from sqlalchemy import RowMapping, text, update
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


# A registration with its items is one row and one round trip; `items` holds the columns of `ITEM` in the order of choice.
_WHOLE = """
    SELECT r.*, (
      SELECT jsonb_agg(jsonb_build_array(i.org_code, i.status, i.run, i.asset_ids, i.error_code, i.retry_at) ORDER BY i.position)
      FROM registration_items i WHERE i.user_id = r.user_id AND i.registration_id = r.id) AS items
    FROM registrations r WHERE r.user_id = :user_id
"""
ITEM = ("org_code", "status", "run", "asset_ids", "error_code", "retry_at")
_LOAD = text(_WHOLE + "AND r.id = :id")
_LIST = text(_WHOLE + "AND (CAST(:before AS text) IS NULL OR r.id < :before) ORDER BY r.id DESC LIMIT :limit")
_ADD = text(
    """
    WITH registration AS (
      INSERT INTO registrations (user_id, id, status, run, completed_as, signature_status, signature_run, sign_before, request_id,
        created_at, updated_at)
      VALUES (:user_id, :id, :status, :run, :completed_as, :signature_status, :signature_run, :sign_before, :request_id,
        :created_at, :created_at))
    INSERT INTO registration_items (user_id, registration_id, org_code, position, status, run, updated_at)
    SELECT :user_id, :id, item.org_code, item.place - 1, 'waiting', :run, :created_at
    FROM unnest(CAST(:org_codes AS text[])) WITH ORDINALITY AS item(org_code, place)
    """
)
_SAVE = text(
    """
    WITH registration AS (
      UPDATE registrations SET status = :status, run = :run, completed_as = :completed_as, signature_status = :signature_status,
        signature_run = :signature_run, updated_at = :now
      WHERE :changed AND user_id = :user_id AND id = :id)
    UPDATE registration_items i SET status = item.status, run = item.run, asset_ids = item.asset_ids, error_code = item.error_code,
      retry_at = item.retry_at, updated_at = :now
    FROM jsonb_to_recordset(CAST(:items AS jsonb))
      AS item(org_code text, status text, run int, asset_ids text[], error_code text, retry_at timestamptz)
    WHERE i.user_id = :user_id AND i.registration_id = :id AND i.org_code = item.org_code
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


async def add(connection: AsyncConnection, registration: Values, org_codes: Sequence[str]) -> None:
    """Writes a new registration with its items, which wait."""
    await connection.execute(_ADD, {**registration, "org_codes": list(org_codes)})


async def load(connection: AsyncConnection, user_id: str, registration_id: str) -> RowMapping | None:
    """The registration's row, with `items`; None: this user has no such registration."""
    return (await connection.execute(_LOAD, {"user_id": user_id, "id": registration_id})).mappings().one_or_none()


async def listed(connection: AsyncConnection, user_id: str, page: Page) -> Sequence[RowMapping]:
    """This user's registrations with their `items`, newest first."""
    values = {"user_id": user_id, "before": page.before, "limit": page.limit}
    return (await connection.execute(_LIST, values)).mappings().all()


async def save(connection: AsyncConnection, registration: Values, items: Sequence[Values], *, changed: bool, now: datetime) -> None:
    """Writes the state of a registration, unless it has not `changed`, and of those of its items that have."""
    await connection.execute(_SAVE, {**registration, "items": orjson.dumps(items).decode(), "changed": changed, "now": now})


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
