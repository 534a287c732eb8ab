"""Refreshes: which linked providers are read again at the person's wish, and how each of them ended.

Whoever writes here holds the user's lock (`users.lock`): so the last provider that ends is known to be the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from backend.events import Asset, Event
from backend.storage import assets, links
from backend.storage.outbox import NUMBERED, Entry, published, publishing
from backend.storage.statements import Connection, Row, Values, statement

KEPT_FOR = timedelta(days=7)

_WHOLE = """
    SELECT r.id, r.request_id, r.created_at, r.completed_at, (
      SELECT jsonb_agg(jsonb_build_array(i.org_code, i.status, i.error_code) ORDER BY i.position)
      FROM refresh_items i WHERE i.user_id = r.user_id AND i.refresh_id = r.id) AS items
    FROM refreshes r WHERE r.user_id = :user_id
"""
_LOAD = statement(_WHOLE + "AND r.id = :id")
_UNDER_WAY = statement(_WHOLE + "AND r.completed_at IS NULL ORDER BY r.id DESC LIMIT 100")
_FORGET_OLD = statement("DELETE FROM refreshes WHERE user_id = :user_id AND created_at < :before")
_ADD = statement(
    """
    WITH refresh AS (
      INSERT INTO refreshes (user_id, id, request_id, created_at) VALUES (:user_id, :id, :request_id, :now))
    INSERT INTO refresh_items (user_id, refresh_id, org_code, position, status, updated_at)
    SELECT :user_id, :id, item.org_code, item.place - 1, 'refreshing', :now
    FROM unnest(CAST(:org_codes AS text[])) WITH ORDINALITY AS item(org_code, place)
    """
)
_LEFT = statement(
    """
    SELECT i.user_id, i.refresh_id, i.org_code, r.request_id
    FROM refresh_items i JOIN refreshes r ON r.user_id = i.user_id AND r.id = i.refresh_id
    WHERE i.status = 'refreshing' AND i.updated_at < :idle_since ORDER BY i.updated_at, i.user_id, i.refresh_id, i.position
    LIMIT :limit OFFSET :skip
    """
)
# Steps of a statement.
_ITEM = """ended AS (
    UPDATE refresh_items SET status = :status, error_code = :error_code, updated_at = :now FROM numbered
    WHERE user_id = :user_id AND refresh_id = :refresh_id AND org_code = :org_code)"""
_REFRESH = """over AS (
    UPDATE refreshes SET completed_at = CASE WHEN :is_last THEN CAST(:now AS timestamptz) END FROM numbered
    WHERE user_id = :user_id AND id = :refresh_id)"""
_STEPS = (_ITEM, _REFRESH, links.READ)
_TELL = publishing(NUMBERED, *_STEPS)
_TELL_ASSETS = publishing(NUMBERED, *_STEPS, assets.SAVED)
_SILENT = statement(f"WITH numbered AS (SELECT), {', '.join(_STEPS)} SELECT")


class Left(Struct, frozen=True):
    """A provider that is still to be read."""

    user_id: str
    refresh_id: str
    org_code: str
    request_id: str


class Ending(Struct, frozen=True, kw_only=True):
    """How one provider ends, and what is written with it."""

    user_id: str
    refresh_id: str
    org_code: str
    status: str
    error_code: str | None
    is_last: bool  # whether the refresh ends with it
    read: tuple[Values, ...] = ()  # as in `changes.Writes`
    assets: tuple[Asset, ...] = ()
    events: Sequence[Event] = ()


async def load(connection: Connection, user_id: str, refresh_id: str) -> Row | None:
    """The refresh with its `items` (org_code, status, error_code) in the order of asking; None: this user has no such refresh."""
    return await _LOAD.row(connection, {"user_id": user_id, "id": refresh_id})


async def under_way(connection: Connection, user_id: str) -> list[Row]:
    """This user's refreshes that have not ended, newest first."""
    return await _UNDER_WAY.rows(connection, {"user_id": user_id})


async def add(connection: Connection, user_id: str, refresh_id: str, org_codes: Sequence[str], *, request_id: str, now: datetime) -> None:
    """Writes a refresh of these providers, and forgets this user's old ones."""
    await _FORGET_OLD.run(connection, {"user_id": user_id, "before": now - KEPT_FOR})
    values = {"user_id": user_id, "id": refresh_id, "org_codes": list(org_codes), "request_id": request_id, "now": now}
    await _ADD.run(connection, values)


async def end(connection: Connection, ending: Ending, now: datetime) -> list[Entry]:
    """Writes how a provider ended, and what is told of it; without assets, no asset is touched."""
    values: dict[str, object] = {
        "refresh_id": ending.refresh_id,
        "org_code": ending.org_code,
        "status": ending.status,
        "error_code": ending.error_code,
        "is_last": ending.is_last,
        "read": list(ending.read),
    }
    if not ending.events:
        await _SILENT.run(connection, {**values, "user_id": ending.user_id, "now": now})
        return []
    if not ending.assets:
        return await published(_TELL, connection, ending.user_id, ending.events, now, values)
    values["assets"] = assets.rows(ending.assets)
    return await published(_TELL_ASSETS, connection, ending.user_id, ending.events, now, values)


async def left(connection: Connection, *, idle_since: datetime, limit: int, skip: int = 0) -> list[Left]:
    """Providers on which nothing was written since `idle_since`, the oldest first, but for the first `skip`."""
    return [Left(**row) for row in await _LEFT.rows(connection, {"idle_since": idle_since, "limit": limit, "skip": skip})]
