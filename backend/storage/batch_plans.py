"""Plans of the batch as rows, and what they are made from: links that are due, counted in slices, and what calls there were.

In: providers, days, a plan. Out: counts and sums; a plan is replaced whole, in one transaction. A slice looks at so many links whether
they are due or not, so no statement takes long, however many links a provider has.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from backend.storage.batch_due import STILL_DUE, Due
from backend.storage.statements import Connection, Row, Values, statement

SLICE = 100_000  # links
HISTORY = timedelta(days=200)  # of calls that forecasts are made from
MEASURED = timedelta(days=14)  # over which the cost of a link is measured

_COUNT = statement(
    f"""
    WITH slice AS (
      SELECT link.* FROM links link
      WHERE link.org_code = :org_code AND link.status = 'active' AND link.due_on <= :due_by
        AND (link.due_on, link.link_id) > (:after_due, :after_link)
      ORDER BY link.due_on, link.link_id LIMIT :slice)
    SELECT due_on, CASE WHEN :min_age > 0 THEN CAST(last_refreshed_at AT TIME ZONE 'Asia/Seoul' AS date) + :min_age END AS ripe_on,
      count(*) FILTER (WHERE {STILL_DUE}) AS links, count(*) AS seen, max(link_id) AS last
    FROM slice link GROUP BY 1, 2 ORDER BY 1, 2
    """  # noqa: S608  # our own constant
)
_PAST = statement(
    """
    WITH called AS (
      SELECT CAST(hour AT TIME ZONE 'Asia/Seoul' AS date) AS day, org_code, sum(calls) AS calls FROM traffic
      WHERE NOT scheduled AND hour >= :begins AND hour < :ends AND org_code = ANY(CAST(:org_codes AS text[])) AND api_code <> :without
      GROUP BY 1, 2)
    SELECT called.org_code, called.day, CAST(called.calls AS bigint) AS calls, counted.users
    FROM called LEFT JOIN traffic_days counted ON counted.day = called.day AND counted.org_code = called.org_code AND NOT counted.scheduled
    ORDER BY called.org_code, called.day
    """
)
# What a link costs is measured in hours in which most came to their end. Whatever fails at its first call, or at its last, says nothing of
# the others; an hour without commands has the last calls of the one before.
_SCHEDULED = statement(
    """
    WITH called AS (
      SELECT org_code, hour, sum(calls) AS calls FROM traffic
      WHERE scheduled AND hour >= :begins AND org_code = ANY(CAST(:org_codes AS text[])) GROUP BY 1, 2),
    begun AS (
      SELECT org_code, date_trunc('hour', minute) AS hour, sum(sent) AS sent, sum(recorded) AS recorded FROM batch_commands
      WHERE org_code = ANY(CAST(:org_codes AS text[])) AND minute >= :begins GROUP BY 1, 2)
    SELECT org_code, CAST(coalesce(sum(calls) FILTER (WHERE hour >= :today), 0) AS bigint) AS today,
      CAST(sum(calls) FILTER (WHERE sent IS NULL OR 2 * recorded >= sent) AS bigint) AS calls,
      CAST(sum(recorded) FILTER (WHERE 2 * recorded >= sent) AS bigint) AS recorded
    FROM called LEFT JOIN begun USING (org_code, hour) GROUP BY org_code
    """
)
_PLAN = statement(
    """
    INSERT INTO batch_plans (week, org_code, links, calls_per_link, gap, impossible_on, missing, left_over, forecast_error, planned_at)
    VALUES (:week, :org_code, :links, :calls_per_link, :gap, :impossible_on, :missing, :left_over, :forecast_error, :planned_at)
    ON CONFLICT (week, org_code) DO UPDATE SET links = excluded.links, calls_per_link = excluded.calls_per_link, gap = excluded.gap,
      impossible_on = excluded.impossible_on, missing = excluded.missing, left_over = excluded.left_over,
      forecast_error = excluded.forecast_error, planned_at = excluded.planned_at, is_stale = false
    """
)
_DAYS = statement(
    """
    INSERT INTO batch_days (week, org_code, day, links, batch_calls, user_calls, already, room, reason, planned_at)
    SELECT :week, :org_code, given.day, given.links, given.batch_calls, given.user_calls, given.already, given.room, given.reason,
      :planned_at
    FROM jsonb_to_recordset(CAST(:days AS jsonb)) AS given(day date, links bigint, batch_calls bigint, user_calls bigint, already bigint,
      room bigint, reason text)
    ON CONFLICT (week, org_code, day) DO UPDATE SET links = excluded.links, batch_calls = excluded.batch_calls,
      user_calls = excluded.user_calls, already = excluded.already, room = excluded.room, reason = excluded.reason,
      planned_at = excluded.planned_at
    """
)
_PLANS = statement(
    """
    SELECT plan.*, day.links AS today, newest.minute AS newest
    FROM batch_plans plan
    LEFT JOIN batch_days day ON day.week = plan.week AND day.org_code = plan.org_code AND day.day = :today
    LEFT JOIN LATERAL (
      SELECT minute FROM batch_commands WHERE org_code = plan.org_code AND minute <= coalesce(CAST(:until AS timestamptz), 'infinity')
      ORDER BY minute DESC LIMIT 1) newest ON true
    WHERE plan.week = :week
    """
)
_DAYS_OF_WEEK = statement("SELECT * FROM batch_days WHERE week = :week ORDER BY org_code, day")
_COUNTED = statement("UPDATE batch_windows SET links = :links, counted_at = :now WHERE org_code = :org_code AND begins = :begins")
_OPEN_WINDOWS = statement("SELECT * FROM batch_windows WHERE ends > :now ORDER BY org_code, begins DESC")
_ADD_WINDOWS = statement(
    """
    WITH noted AS (
      INSERT INTO operator_actions (at, who, action, org_code, reason, request_id)
      SELECT :now, :who, 'batch.run', org_code, :reason, :request_id FROM unnest(CAST(:org_codes AS text[])) AS org_code),
    opened AS (
      INSERT INTO batch_windows (org_code, begins, ends, asked_by, asked_at)
      SELECT given.org_code, :begins, given.ends, :who, :now
      FROM unnest(CAST(:org_codes AS text[]), CAST(:ends AS timestamptz[])) AS given(org_code, ends)
      ON CONFLICT (org_code, begins) DO UPDATE SET ends = excluded.ends)
    UPDATE batch_windows SET ends = :begins
    WHERE org_code = ANY(CAST(:org_codes AS text[])) AND begins < :begins AND ends > :begins RETURNING org_code
    """
)


async def count_slice(connection: Connection, org_code: str, due: Due, after: tuple[date, int], *, min_age_days: int) -> list[Row]:
    """due_on, ripe_on, links (that are due), seen, last (link_id), of the links behind a position; none: there are no more.

    `ripe_on` is the day from which on they are old enough, NULL: they are; `due.ripe_before` must be None if it is asked for.
    """
    values = {**due.values(org_code), "after_due": after[0], "after_link": after[1], "slice": SLICE, "min_age": min_age_days}
    return await _COUNT.rows(connection, values)


async def past_days(connection: Connection, org_codes: Sequence[str], today: datetime, *, without: str) -> list[Row]:
    """org_code, day, calls, users (NULL: not counted) of people's calls on days before `today`, its first moment.

    `without`: the code of an API that nobody asks for.
    """
    values = {"org_codes": list(org_codes), "begins": today - HISTORY, "ends": today, "without": without}
    return await _PAST.rows(connection, values)


async def scheduled_calls(connection: Connection, org_codes: Sequence[str], today: datetime) -> dict[str, tuple[int, float | None]]:
    """By provider: calls that the batch made today, and its calls per recorded link of the last days; None: not measured."""
    values = {"org_codes": list(org_codes), "begins": today - MEASURED, "today": today}
    rows = await _SCHEDULED.rows(connection, values)
    return {row["org_code"]: (row["today"], row["calls"] / row["recorded"] if row["recorded"] else None) for row in rows}


async def save_plan(connection: Connection, plan: Values, days: Sequence[Values]) -> None:
    """Replaces a provider's plan, and its days from the plan's first one on. Within one transaction."""
    await _PLAN.run(connection, plan)
    await _DAYS.run(connection, {name: plan[name] for name in ("week", "org_code", "planned_at")} | {"days": list(days)})


async def plans(connection: Connection, week: date, today: date, *, until: datetime | None = None) -> list[Row]:
    """Columns of `batch_plans`; today (its links; NULL: that day is not planned), newest (minute of the provider's last command).

    `until`: later minutes are not looked at; None: all are.
    """
    return await _PLANS.rows(connection, {"week": week, "today": today, "until": until})


async def days_of(connection: Connection, week: date) -> list[Row]:
    """Rows of `batch_days`."""
    return await _DAYS_OF_WEEK.rows(connection, {"week": week})


async def open_windows(connection: Connection, now: datetime) -> list[Row]:
    """Rows of `batch_windows` that have not ended, a provider's newest first."""
    return await _OPEN_WINDOWS.rows(connection, {"now": now})


async def window_counted(connection: Connection, org_code: str, begins: datetime, links: int, now: datetime) -> None:
    """So many links are due in it."""
    await _COUNTED.run(connection, {"org_code": org_code, "begins": begins, "links": links, "now": now})


async def add_windows(connection: Connection, ends: dict[str, datetime], begins: datetime, done: Values) -> frozenset[str]:
    """Opens a window from `begins` for each provider, and notes who did; returns where one that was open ends with it.

    `done`: now, who, reason, request_id.
    """
    values = {**done, "begins": begins, "org_codes": list(ends), "ends": list(ends.values())}
    return frozenset(await _ADD_WINDOWS.column(connection, values))
