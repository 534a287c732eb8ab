"""How many users of a day each institution had been called for by an hour of that day, noted when the hour came.

Users are counted by the day; these notes make a part of a day comparable with the same part of another. A note that was not made in time
is not made: it would have the users of later hours in it. Nothing here changes a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from backend.storage.statements import Connection, Row, statement

KEPT = timedelta(days=35)

_NOTE = statement(
    """
    INSERT INTO traffic_marks (until, org_code, scheduled, users)
    SELECT CAST(:until AS timestamptz), org_code, scheduled, users FROM traffic_days WHERE day = :day ON CONFLICT DO NOTHING
    """
)
_READ = statement("SELECT org_code, scheduled, users FROM traffic_marks WHERE until = :until ORDER BY org_code, scheduled")
_KNOWN_SINCE = statement("SELECT min(hour) FROM traffic")
_FAILED = statement(
    """
    SELECT org_code, hour, CAST(sum(calls) AS bigint) AS calls FROM traffic_failures
    WHERE hour >= :since AND hour < 'infinity' AND reason = :reason AND scheduled GROUP BY org_code, hour
    """
)
_FORGET = statement(
    """
    DELETE FROM traffic_marks WHERE (until, org_code, scheduled) IN (
      SELECT until, org_code, scheduled FROM traffic_marks WHERE until < :before ORDER BY until LIMIT 10000)
    """
)


async def note(connection: Connection, day: date, until: datetime) -> int:
    """Notes the users of `day` so far under the hour that begins at `until`; those that are noted stay. How many notes are new."""
    return await _NOTE.run(connection, {"day": day, "until": until})


async def read(connection: Connection, until: datetime) -> Sequence[Row]:
    """org_code, scheduled, users; none at all: it was not noted, or nobody had been called for."""
    return await _READ.rows(connection, {"until": until})


async def known_since(connection: Connection) -> datetime | None:
    """The first hour of which there are sums; None: there are none."""
    found = await _KNOWN_SINCE.value(connection)
    return found if isinstance(found, datetime) else None


async def scheduled_failed(connection: Connection, since: datetime, reason: str) -> Sequence[Row]:
    """org_code, hour, calls: scheduled calls that failed so, of hours from `since` on."""
    return await _FAILED.rows(connection, {"since": since, "reason": reason})


async def forget(connection: Connection, *, before: datetime) -> int:
    """Deletes some of what is older."""
    return await _FORGET.run(connection, {"before": before})
