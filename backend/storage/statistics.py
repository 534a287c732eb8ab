"""What the weekly report is made of: sums by day and time of day in Korea, and consents. Nothing is changed here, and nobody is named."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backend.storage.statements import Connection, Row, statement

# Korea is ahead of UTC by nine whole hours, and has no summer time.
_KST = "(hour AT TIME ZONE 'UTC' + interval '9 hours')"
_SUMS = ", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in ("calls", "successes", "cancelled", "slow", "ms", "ms_squared"))
_BY_SLOT = statement(
    f"""
    SELECT CAST({_KST} AS date) AS day, extract(hour FROM {_KST}) BETWEEN 9 AND 17 AS at_work, org_code, api_code, scheduled, {_SUMS}
    FROM traffic WHERE hour >= :begins AND hour < :ends
    GROUP BY 1, 2, org_code, api_code, scheduled ORDER BY org_code, api_code, scheduled, 1, 2 DESC
    """  # noqa: S608  # our own names
)
# A consent is held from when it was granted until what happened next, or its last day is over.
_CONSENTS = statement(
    """
    WITH spans AS (
      SELECT org_code, happened, at AS begins, least(lead(at) OVER (PARTITION BY user_id, org_code ORDER BY at, id),
        (CAST(ends_on AS timestamp) - interval '9 hours') AT TIME ZONE 'UTC') AS ends
      FROM consent_history WHERE at < :ends),
    days AS (
      SELECT number, CAST(:begins AS timestamptz) + number * interval '1 day' AS begins,
        CAST(:begins AS timestamptz) + (number + 1) * interval '1 day' AS ends
      FROM generate_series(0, 6) AS number)
    SELECT days.number, spans.org_code,
      count(*) FILTER (WHERE spans.happened = 'granted' AND spans.begins >= days.begins) AS new,
      count(*) FILTER (WHERE spans.happened IN ('revoked', 'withdrawn') AND spans.begins >= days.begins) AS revoked,
      count(*) FILTER (WHERE spans.happened = 'granted' AND (spans.ends IS NULL OR spans.ends >= days.ends)) AS held
    FROM days JOIN spans ON spans.begins < days.ends
    GROUP BY days.number, spans.org_code ORDER BY days.number, spans.org_code
    """
)


async def by_slot(connection: Connection, begins: datetime, ends: datetime) -> Sequence[Row]:
    """day, at_work (from 09:00 to 18:00), org_code, api_code, scheduled, and sums without a histogram."""
    return await _BY_SLOT.rows(connection, {"begins": begins, "ends": ends})


async def consents(connection: Connection, begins: datetime, ends: datetime) -> Sequence[Row]:
    """number (of the day, from 0), org_code, new, revoked (by the person, here or at the provider), held (when the day ends): of a week."""
    return await _CONSENTS.rows(connection, {"begins": begins, "ends": ends})
