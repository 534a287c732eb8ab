"""Alerts as rows: what is wrong, since when, and what of it was told.

In: that something is so, or is so no more, as often as anybody likes to say it. Out: at most one open row per key, whoever says it; rows
that wait to be told. A row whose end was told is kept for a while, for whoever looks back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from backend.storage.statements import Connection, statement

_COLUMNS = "id, key, kind, facts, opened_at, closed_at, told_at, end_told_at"
_OPEN = statement(
    """
    INSERT INTO alerts AS known (key, kind, facts, opened_at) VALUES (:key, :kind, :facts, :now)
    ON CONFLICT (key) WHERE closed_at IS NULL DO UPDATE SET facts = known.facts || excluded.facts
    WHERE known.facts || excluded.facts <> known.facts
    RETURNING xmax = 0
    """
)
_CLOSE = statement("UPDATE alerts SET closed_at = greatest(:now, opened_at) WHERE key = :key AND closed_at IS NULL")
_OPEN_KEYS = statement("SELECT key, facts FROM alerts WHERE kind = :kind AND closed_at IS NULL")
_LATELY = statement(
    f"""
    SELECT DISTINCT ON (key) {_COLUMNS} FROM alerts WHERE kind = :kind AND (closed_at IS NULL OR closed_at >= :since)
    ORDER BY key, opened_at DESC, id DESC
    """  # noqa: S608  # our own names
)
_LISTED = statement(
    f"""
    SELECT {_COLUMNS} FROM alerts WHERE closed_at IS NULL OR NOT :only_open
    ORDER BY closed_at IS NULL DESC, opened_at DESC, id DESC LIMIT :limit
    """  # noqa: S608  # our own names
)
_UNTOLD = statement(
    f"""
    SELECT {_COLUMNS} FROM alerts WHERE told_at IS NULL OR (closed_at IS NOT NULL AND end_told_at IS NULL)
    ORDER BY opened_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)
_LAST_TOLD = statement(
    "SELECT kind, max(greatest(told_at, end_told_at)) AS at FROM alerts WHERE told_at >= :since OR end_told_at >= :since GROUP BY kind"
)
_TOLD = statement(
    """
    UPDATE alerts SET told_at = coalesce(told_at, :now), end_told_at = CASE WHEN closed_at IS NOT NULL THEN CAST(:now AS timestamptz) END
    WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)
_FORGET = statement(
    """
    DELETE FROM alerts WHERE id IN (
      SELECT id FROM alerts WHERE opened_at < :before AND end_told_at IS NOT NULL ORDER BY opened_at LIMIT 1000)
    """
)


class Alert(Struct, frozen=True, kw_only=True):
    """Something that is wrong, or was."""

    id: int
    key: str
    kind: str
    facts: Mapping[str, Any]
    opened_at: datetime
    closed_at: datetime | None = None  # None: it is still so
    told_at: datetime | None = None
    end_told_at: datetime | None = None


async def raise_alert(connection: Connection, key: str, kind: str, facts: Mapping[str, Any], now: datetime) -> bool:
    """From now on it is so. False: it was already; then these facts go over those that are known."""
    return bool(await _OPEN.value(connection, {"key": key, "kind": kind, "facts": dict(facts), "now": now}))


async def end_alert(connection: Connection, key: str, now: datetime) -> bool:
    """It is so no more. False: it was not."""
    return await _CLOSE.run(connection, {"key": key, "now": now}) > 0


async def open_facts(connection: Connection, kind: str) -> dict[str, dict[str, Any]]:
    """What is so, by key."""
    return {row["key"]: row["facts"] for row in await _OPEN_KEYS.rows(connection, {"kind": kind})}


async def lately(connection: Connection, kind: str, *, since: datetime) -> Sequence[Alert]:
    """What is so, or was so after `since`: the last of each key."""
    return [Alert(**row) for row in await _LATELY.rows(connection, {"kind": kind, "since": since})]


async def listed(connection: Connection, *, only_open: bool, limit: int) -> Sequence[Alert]:
    """Those that are open first, the newest first."""
    return [Alert(**row) for row in await _LISTED.rows(connection, {"only_open": only_open, "limit": limit})]


async def untold(connection: Connection, *, limit: int) -> Sequence[Alert]:
    """Those of which something is to be told, locked; what somebody else has locked is theirs."""
    return [Alert(**row) for row in await _UNTOLD.rows(connection, {"limit": limit})]


async def last_told(connection: Connection, *, since: datetime) -> dict[str, datetime]:
    """When each kind was told of last, if that was after `since`."""
    return {row["kind"]: row["at"] for row in await _LAST_TOLD.rows(connection, {"since": since})}


async def told(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    """What is known of these was told."""
    await _TOLD.run(connection, {"ids": list(ids), "now": now})


async def forget(connection: Connection, *, before: datetime) -> int:
    """Deletes some of what is older and was told to its end."""
    return await _FORGET.run(connection, {"before": before})
