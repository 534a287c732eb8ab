"""Traffic as rows: sums of calls by hour, users by day, and which reports are in them.

In: increments, as plain rows that `jsonb_to_recordset` takes. Out: they are in the sums, with the numbers of the reports that they came in
and the place in the stream, by one statement, or nothing of them is. Whoever writes says at which version of the cursor they have
looked; another one means that somebody else wrote, and nothing happens. A person who is forgotten changes the version too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from msgspec import Struct

from backend.clock import KST
from backend.storage.statements import Connection, Statement, Values, statement

STREAM = "outcomes"
START = ""  # the place before a stream's first entry
LATE = timedelta(days=7)  # that a report may be, or come again: as long is known what was counted, and who is forgotten
USERS_KEPT = timedelta(days=35)  # digests of users; how many they were is kept with the sums
SUMS_KEPT = timedelta(days=800)  # two years and the days to compare with
WINDING_DOWN = timedelta(minutes=10)  # in which calls for a person who was forgotten can still be under way

_BEGIN = statement("INSERT INTO traffic_cursor (stream, position, version) VALUES (:stream, '', 0) ON CONFLICT DO NOTHING")
_HELD = statement(
    """
    SELECT cursor.position, cursor.version, known.node, known.counted
    FROM traffic_cursor cursor LEFT JOIN traffic_nodes known ON known.node = ANY(CAST(:nodes AS text[]))
    WHERE cursor.stream = :stream
    """
)
_ADD = statement(
    """
    WITH held AS (
      UPDATE traffic_cursor SET position = :position, version = version + 1
      WHERE stream = :stream AND version = :version RETURNING version),
    reports AS (
      INSERT INTO traffic_nodes AS known (node, counted, uncounted, heard_at)
      SELECT node.node, node.counted, node.uncounted, CAST(:now AS timestamptz)
      FROM held, jsonb_to_recordset(CAST(:nodes AS jsonb)) AS node(node text, counted int8multirange, uncounted bigint)
      ON CONFLICT (node) DO UPDATE SET counted = known.counted + excluded.counted, uncounted = known.uncounted + excluded.uncounted,
        heard_at = excluded.heard_at),
    sums AS (
      INSERT INTO traffic AS known (hour, org_code, api_code, scheduled, calls, successes, cancelled, slow, ms, ms_squared, histogram)
      SELECT to_timestamp(sum.hour / 1000), sum.org_code, sum.api_code, sum.scheduled,
        sum.calls, sum.successes, sum.cancelled, sum.slow, sum.ms, sum.ms_squared, sum.histogram
      FROM held, jsonb_to_recordset(CAST(:sums AS jsonb)) AS sum(hour bigint, org_code text, api_code text, scheduled boolean,
        calls bigint, successes bigint, cancelled bigint, slow bigint, ms bigint, ms_squared bigint, histogram bigint[])
      ON CONFLICT (hour, org_code, api_code, scheduled) DO UPDATE SET
        calls = known.calls + excluded.calls, successes = known.successes + excluded.successes,
        cancelled = known.cancelled + excluded.cancelled, slow = known.slow + excluded.slow,
        ms = known.ms + excluded.ms, ms_squared = known.ms_squared + excluded.ms_squared,
        histogram = (SELECT array_agg(step.one + step.other ORDER BY step.place)
          FROM unnest(known.histogram, excluded.histogram) WITH ORDINALITY AS step(one, other, place))),
    failures AS (
      INSERT INTO traffic_failures AS known (hour, org_code, api_code, scheduled, reason, calls)
      SELECT to_timestamp(failed.hour / 1000), failed.org_code, failed.api_code, failed.scheduled, failed.reason, failed.calls
      FROM held, jsonb_to_recordset(CAST(:failures AS jsonb)) AS failed(hour bigint, org_code text, api_code text, scheduled boolean,
        reason text, calls bigint)
      ON CONFLICT (hour, org_code, api_code, scheduled, reason) DO UPDATE SET calls = known.calls + excluded.calls),
    named AS (
      INSERT INTO traffic_users (user_key, day, org_code, scheduled)
      SELECT named.user_key, DATE '1970-01-01' + seen.day, seen.org_code, seen.scheduled
      FROM held, jsonb_to_recordset(CAST(:seen AS jsonb)) AS seen(org_code text, scheduled boolean, day int, users text[]),
        unnest(seen.users) AS named(user_key)
      WHERE NOT EXISTS (SELECT FROM traffic_forgotten gone
        WHERE gone.user_key = named.user_key AND gone.last_day >= DATE '1970-01-01' + seen.day)
      ON CONFLICT DO NOTHING RETURNING day, org_code, scheduled),
    days AS (
      INSERT INTO traffic_days AS known (day, org_code, scheduled, users)
      SELECT day, org_code, scheduled, count(*) FROM named GROUP BY day, org_code, scheduled
      ON CONFLICT (day, org_code, scheduled) DO UPDATE SET users = known.users + excluded.users)
    SELECT version FROM held
    """
)

_NOBODY_WRITES = statement("UPDATE traffic_cursor SET version = version + 1")
_FORGET = statement("DELETE FROM traffic_users WHERE user_key = :user_key")
_NOT_AGAIN = statement(
    """
    INSERT INTO traffic_forgotten (user_key, last_day, forgotten_at) VALUES (:user_key, :last_day, :now)
    ON CONFLICT (user_key) DO UPDATE SET last_day = excluded.last_day, forgotten_at = excluded.forgotten_at
    """
)


def _too_old(table: str, column: str) -> Statement:
    """Some of what is too old: all of a day at once might take longer than a statement may."""
    old = f"ARRAY(SELECT ctid FROM {table} WHERE {column} < :before AND {column} > '-infinity' LIMIT :limit)"  # noqa: S608  # our own names
    return statement(f"DELETE FROM {table} WHERE ctid = ANY({old})")  # noqa: S608


_BY_MOMENT = (
    (_too_old("traffic_nodes", "heard_at"), LATE),
    (_too_old("traffic_forgotten", "forgotten_at"), LATE + timedelta(days=1)),
    (_too_old("traffic", "hour"), SUMS_KEPT),
    (_too_old("traffic_failures", "hour"), SUMS_KEPT),
)
_BY_DAY = ((_too_old("traffic_users", "day"), USERS_KEPT), (_too_old("traffic_days", "day"), SUMS_KEPT))


class Held(Struct, frozen=True):
    """How far the sums are."""

    position: str  # in the stream; `START`: nothing of it
    version: int
    counted: Mapping[str, tuple[range, ...]]  # the numbers of reports that are in the sums, by node, of those asked for


async def held(connection: Connection, nodes: Sequence[str] = ()) -> Held:
    """How far the sums are, and what is in them of these nodes."""
    values = {"stream": STREAM, "nodes": list(nodes)}
    rows = await _HELD.rows(connection, values)
    if not rows:
        await _BEGIN.run(connection, values)
        rows = await _HELD.rows(connection, values)
    counted = {row["node"]: tuple(map(_numbers, row["counted"])) for row in rows if row["node"] is not None}
    return Held(rows[0]["position"], rows[0]["version"], counted)


async def add(connection: Connection, increments: Mapping[str, Sequence[Values]], *, position: str, version: int, now: datetime) -> bool:
    """Adds `increments` (rows of `nodes`, `sums`, `failures`, `seen`) and moves to `position`. False: not at this `version` any more.

    Each may name a key once. Raises `ValueError` for a value that no column takes.
    """
    values = {"stream": STREAM, "position": position, "version": version, "now": now, **increments}
    return await _ADD.value(connection, values) is not None


async def forget(connection: Connection, user_key: str, now: datetime) -> None:
    """Erases what traffic knows of a user, and what reports may still tell of the time before now. How many users there were stays.

    In a transaction, late: no sums are written until its commit. A statement that waits for it will find another version.
    """
    await _NOBODY_WRITES.run(connection)
    await _FORGET.run(connection, {"user_key": user_key})
    last_day = (now + WINDING_DOWN).astimezone(KST).date()
    await _NOT_AGAIN.run(connection, {"user_key": user_key, "last_day": last_day, "now": now})


async def forget_old(connection: Connection, now: datetime, *, limit: int) -> int:
    """Deletes what is older than the times above, `limit` rows of a table at most; returns how many. Best outside of a transaction."""
    deleted, today = 0, now.astimezone(KST).date()
    for old, kept in _BY_MOMENT:
        deleted += await old.run(connection, {"before": now - kept, "limit": limit})
    for old, kept in _BY_DAY:
        deleted += await old.run(connection, {"before": today - kept, "limit": limit})
    return deleted


def oldest_day(now: datetime) -> date:
    """Users of an earlier day (in Korea) are not to be added: it is no longer known who of them is forgotten."""
    return now.astimezone(KST).date() - LATE


def _numbers(between: Any) -> range:
    return range(between.lower, between.upper)  # PostgreSQL gives ranges of whole numbers with their lower end and without their upper
