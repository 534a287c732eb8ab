"""What the weekly report is made of: sums by day and time of day in Korea. Nothing is changed here, and nobody is named.

Consents are in `consent_days.py`.
"""

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


async def by_slot(connection: Connection, begins: datetime, ends: datetime) -> Sequence[Row]:
    """day, at_work (from 09:00 to 18:00), org_code, api_code, scheduled, and sums without a histogram."""
    return await _BY_SLOT.rows(connection, {"begins": begins, "ends": ends})
