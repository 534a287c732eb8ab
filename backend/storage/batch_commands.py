"""Commands of the batch as rows: one for each minute of a provider, made and closed here by the coordinator.

In: a minute and how many links are wanted. Out: a range of positions, behind the limit of the provider's last command, and its row. The
plan's row is locked meanwhile and a command is never made for a minute before the last one's, so two coordinators that both believe to
lead make no two ranges that overlap, as long as their clocks are not further apart than `until` (`newest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from backend.storage.batch_due import STILL_DUE, Due
from backend.storage.statements import Connection, Row, Values, statement

# What commands took of a course: links that were begun, less those that are due again. Of a minute that is not over, all that it is
# meant to take. Links that needed nothing are left out, since a plan does not count them.
_TAKEN = "CAST(coalesce(sum(CASE state WHEN 'ended' THEN sent ELSE size END - failed - unknown), 0) AS bigint)"
_LOCK = statement("SELECT planned_at FROM batch_plans WHERE week = :week AND org_code = :org_code FOR UPDATE")
_NEWEST = statement(
    """
    SELECT week, minute, limit_due, limit_link FROM batch_commands WHERE org_code = :org_code AND minute <= :until
    ORDER BY minute DESC LIMIT 1
    """
)
_TAKEN_SINCE = statement(f"SELECT {_TAKEN} FROM batch_commands WHERE org_code = :org_code AND minute >= :since AND minute < 'infinity'")  # noqa: S608
_TAKEN_BY_EACH = statement(
    f"""
    SELECT asked.org_code, made.taken
    FROM unnest(CAST(:org_codes AS text[]), CAST(:since AS timestamptz[])) AS asked(org_code, since) CROSS JOIN LATERAL (
      SELECT {_TAKEN} AS taken FROM batch_commands
      WHERE org_code = asked.org_code AND minute >= asked.since AND minute < 'infinity' HAVING count(*) > 0) made
    """  # noqa: S608
)
_ENDED_SINCE = statement(
    f"""
    SELECT org_code, {_TAKEN} AS taken, count(*) AS commands FROM batch_commands
    WHERE org_code = ANY(CAST(:org_codes AS text[])) AND minute >= :since AND minute < 'infinity' AND state = 'ended' GROUP BY org_code
    """  # noqa: S608
)
_RANGE = statement(
    f"""
    SELECT due_on, link_id, count(*) OVER () AS size FROM (
      SELECT link.due_on, link.link_id FROM links link
      WHERE {STILL_DUE} AND (link.due_on, link.link_id) > (:after_due, :after_link)
      ORDER BY link.due_on, link.link_id LIMIT :most) AS wanted
    ORDER BY due_on DESC, link_id DESC LIMIT 1
    """  # noqa: S608
)
_MAKE = statement(
    """
    INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms, per_minute,
      state, at_due, at_link, created_at)
    VALUES (:org_code, :minute, :week, :day, :start_due, :start_link, :limit_due, :limit_link, :size, :per_tenth, :per_minute,
      'waiting', :start_due, :start_link, :now)
    ON CONFLICT DO NOTHING
    """
)
_OPEN = statement("SELECT org_code, minute, week, run, beat_at FROM batch_commands WHERE state <> 'ended'")
# Whoever carries it out still is overtaken: its run is another's.
_CLOSE = statement(
    """
    UPDATE batch_commands SET state = 'ended', ended_at = :now, run = run + 1
    WHERE org_code = :org_code AND minute = :minute AND state <> 'ended' AND run = :run
      AND beat_at IS NOT DISTINCT FROM CAST(:beat_at AS timestamptz)
    RETURNING run
    """
)
_RECOUNT = statement(
    """
    UPDATE batch_commands made SET recorded = found.recorded
    FROM (
      SELECT died.org_code, died.minute, (
        SELECT count(*) FROM batch_refreshes WHERE org_code = died.org_code AND minute = died.minute AND state = 'recorded') AS recorded
      FROM batch_commands died WHERE died.week = :week AND died.minute >= :since AND died.run > 1 AND died.state = 'ended') AS found
    WHERE made.org_code = found.org_code AND made.minute = found.minute AND made.recorded < found.recorded
    """
)
_USER_CALLS = statement(
    """
    SELECT org_code, CAST(sum(calls) AS bigint) AS calls FROM traffic
    WHERE NOT scheduled AND hour >= :since AND hour < 'infinity' AND api_code <> :without GROUP BY org_code
    """
)


async def locked(connection: Connection, week: date, org_code: str) -> datetime | None:
    """When the plan was made that is now locked until the transaction ends; None: there is none."""
    planned_at: datetime | None = await _LOCK.value(connection, {"week": week, "org_code": org_code})
    return planned_at


async def newest(connection: Connection, org_code: str, until: datetime) -> Row | None:
    """week, minute, limit_due, limit_link of a provider's last command of a minute up to then; None: it never had one."""
    return await _NEWEST.row(connection, {"org_code": org_code, "until": until})


async def taken_since(connection: Connection, org_code: str, since: datetime) -> int:
    """Links that a provider's commands took, of minutes from then on."""
    return int(await _TAKEN_SINCE.value(connection, {"org_code": org_code, "since": since}))


async def taken_by_each(connection: Connection, since: Sequence[tuple[str, datetime]]) -> dict[str, int]:
    """The same for many, each since another moment; one that is not in it took none."""
    values = {"org_codes": [org_code for org_code, _ in since], "since": [moment for _, moment in since]}
    return {row["org_code"]: row["taken"] for row in await _TAKEN_BY_EACH.rows(connection, values)}


async def ended_since(connection: Connection, org_codes: Sequence[str], since: datetime) -> dict[str, tuple[int, int]]:
    """By provider: links that its commands of minutes from then on took, of those that have ended, and how many these are."""
    rows = await _ENDED_SINCE.rows(connection, {"org_codes": list(org_codes), "since": since})
    return {row["org_code"]: (row["taken"], row["commands"]) for row in rows}


async def find_range(
    connection: Connection, org_code: str, due: Due, after: tuple[date, int], most: int
) -> tuple[tuple[date, int], int] | None:
    """The position of the last of the next `most` links that are due behind `after`, and how many they are; None: there is none."""
    values = {**due.values(org_code), "after_due": after[0], "after_link": after[1], "most": most}
    row = await _RANGE.row(connection, values)
    return None if row is None else ((row["due_on"], row["link_id"]), row["size"])


async def make(connection: Connection, command: Values) -> bool:
    """False: this minute has one. `per_tenth`: the column `per_100ms`."""
    return await _MAKE.run(connection, command) > 0


async def open_commands(connection: Connection) -> list[Row]:
    """org_code, minute, week, run, beat_at (NULL: it was not heard of) of those that have not ended."""
    return await _OPEN.rows(connection)


async def close(connection: Connection, row: Row, now: datetime) -> int | None:
    """Ends a command whose worker is gone, as `open_commands` told of it. Its new run; None: it was heard of meanwhile, or has ended."""
    values = {name: row[name] for name in ("org_code", "minute", "run", "beat_at")} | {"now": now}
    run: int | None = await _CLOSE.value(connection, values)
    return run


async def recount(connection: Connection, week: date, since: datetime) -> None:
    """Counts anew what was recorded by commands of which a worker died between two checkpoints, of minutes from `since` on."""
    await _RECOUNT.run(connection, {"week": week, "since": since})


async def user_calls(connection: Connection, since: datetime, *, without: str) -> dict[str, int]:
    """Calls that people made in hours from `since` on, by provider. `without`: the code of an API that nobody asks for."""
    return {row["org_code"]: row["calls"] for row in await _USER_CALLS.rows(connection, {"since": since, "without": without})}
