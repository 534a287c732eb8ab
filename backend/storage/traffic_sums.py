"""Sums of traffic as they are read: of a time, by institution, API, hour or reason. Whole hours only; nothing here changes anything."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from backend.storage.statements import Connection, Row, Statement, statement

STEPS = 13  # of the histogram; a test holds it to `providers.traffic`

_HISTOGRAM = ", ".join(f"CAST(sum(histogram[{step}]) AS bigint)" for step in range(1, STEPS + 1))
_SUMS = ", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in ("calls", "successes", "cancelled", "slow", "ms", "ms_squared"))


class By(StrEnum):
    """What sums are told apart by, beside institution and asker."""

    PROVIDER = "org_code, scheduled"
    API = "org_code, api_code, scheduled"
    HOUR = "hour, org_code, scheduled"


def _summed(by: By) -> Statement:
    return statement(
        f"SELECT {by}, {_SUMS}, ARRAY[{_HISTOGRAM}] AS histogram FROM traffic "  # noqa: S608  # our own names
        f"WHERE hour >= :begins AND hour < :ends AND api_code <> :without GROUP BY {by} ORDER BY {by}"
    )


_SUMMED = {by: _summed(by) for by in By}
_FAILURES = statement(
    """
    SELECT org_code, scheduled, reason, CAST(sum(calls) AS bigint) AS calls FROM traffic_failures
    WHERE hour >= :begins AND hour < :ends AND api_code <> :without
    GROUP BY org_code, scheduled, reason ORDER BY org_code, scheduled, reason
    """
)
_USERS = statement("SELECT org_code, scheduled, users FROM traffic_days WHERE day = :day ORDER BY org_code, scheduled")
_LOSSES = statement(
    """
    SELECT (SELECT coalesce(sum(upper(counted) - 1), 0) FROM traffic_nodes)
         - (SELECT coalesce(sum(upper(span) - lower(span)), 0) FROM traffic_nodes, unnest(counted) AS span) AS reports,
      (SELECT coalesce(sum(uncounted), 0) FROM traffic_nodes) AS calls
    """
)


async def summed(connection: Connection, by: By, begins: datetime, ends: datetime, *, without: str) -> list[Row]:
    """The columns that `by` names, and sums, of calls that began in hours from `begins` on and before `ends`.

    `without`: the code of an API that is left out; empty: none is.
    """
    return await _SUMMED[by].rows(connection, {"begins": begins, "ends": ends, "without": without})


async def failures(connection: Connection, begins: datetime, ends: datetime, *, without: str) -> list[Row]:
    """org_code, scheduled, reason, calls. `without`: as above."""
    return await _FAILURES.rows(connection, {"begins": begins, "ends": ends, "without": without})


async def users(connection: Connection, day: date) -> list[Row]:
    """org_code, scheduled, users: for how many each institution was called on a day (in Korea)."""
    return await _USERS.rows(connection, {"day": day})


async def losses(connection: Connection) -> tuple[int, int]:
    """Reports of the last days that never came (or not yet), and calls, or users of calls, for which nodes had no room."""
    row = await _LOSSES.row(connection)
    return (int(row["reports"]), int(row["calls"])) if row else (0, 0)
