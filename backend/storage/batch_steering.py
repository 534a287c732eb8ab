"""What operators say about the batch, noted with who said it, and what they look at: sums of a week, and what is in trouble.

In: pauses and their ends; a week. Out: rows. A word and the note of who said it are one statement, so that neither is there without the
other. Links are named by number here, never by person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from backend.storage.batch_due import STILL_DUE, Due
from backend.storage.operators import Action
from backend.storage.statements import Connection, Row, Values, statement

ALL = ""  # the provider of a pause of everything
# A hold that ends by itself is over, too, once somebody has asked for a rehearsal after it began.
IN_FORCE = """(until IS NULL OR until > :now AND NOT EXISTS (
    SELECT FROM batch_windows asked WHERE asked.org_code = batch_pauses.org_code AND asked.asked_at > batch_pauses.asked_at))"""

_NOTED = """noted AS (
    INSERT INTO operator_actions (at, who, action, org_code, reason, request_id)
    VALUES (:now, :who, :action, :org_code, :reason, :request_id))"""
_PAUSE = statement(
    f"""
    WITH {_NOTED}
    INSERT INTO batch_pauses (org_code, asked_by, asked_at) VALUES (:org_code, :who, :now)
    ON CONFLICT (org_code) DO UPDATE SET asked_by = excluded.asked_by, asked_at = excluded.asked_at, reason = excluded.reason, until = NULL
    WHERE batch_pauses.until IS NOT NULL
    """  # noqa: S608  # our own constant
)
# Who lets everything go on lets each go on. What was held is planned anew.
_RESUME = statement(
    f"""
    WITH {_NOTED},
    stale AS (UPDATE batch_plans SET is_stale = true WHERE week = :week AND :org_code IN ('', org_code))
    DELETE FROM batch_pauses WHERE :org_code IN ('', org_code)
    """  # noqa: S608
)
_HOLD = statement(
    """
    INSERT INTO batch_pauses (org_code, asked_by, asked_at, reason, until) VALUES (:org_code, 'moa', :now, :reason, :until)
    ON CONFLICT (org_code) DO UPDATE SET asked_at = excluded.asked_at, reason = excluded.reason, until = excluded.until
    WHERE batch_pauses.until <= excluded.until
    """
)
_PAUSES = statement(f"SELECT org_code, reason, until FROM batch_pauses WHERE {IN_FORCE}")  # noqa: S608  # our own constant
_SUMS = statement(
    """
    SELECT made.org_code, CAST(sum(recorded) AS bigint) AS recorded, CAST(sum(skipped) AS bigint) AS skipped,
      CAST(coalesce(sum(sent - failed - unknown) FILTER (WHERE minute >= plan.planned_at), 0) AS bigint) AS taken,
      CAST(coalesce(sum(sent - failed - unknown + skipped) FILTER (WHERE minute > plan.planned_at - interval '1 minute'), 0) AS bigint)
        AS gone
    FROM batch_commands made JOIN batch_plans plan ON plan.week = made.week AND plan.org_code = made.org_code
    WHERE made.week = :week GROUP BY made.org_code
    """
)
_SUM_SINCE = statement(
    """
    SELECT asked.org_code, made.taken
    FROM unnest(CAST(:org_codes AS text[]), CAST(:since AS timestamptz[])) AS asked(org_code, since) CROSS JOIN LATERAL (
      SELECT CAST(sum(sent - failed - unknown) AS bigint) AS taken FROM batch_commands
      WHERE org_code = asked.org_code AND minute >= asked.since AND minute < 'infinity' HAVING count(*) > 0) made
    """
)
_TROUBLED = statement(
    """
    SELECT org_code, count(*) FILTER (WHERE state = 'unknown') AS unknown, count(*) FILTER (WHERE state <> 'unknown') AS failed
    FROM batch_refreshes WHERE week = :week AND state IN ('failed', 'unknown', 'left') GROUP BY org_code
    """
)
_UNKNOWN = statement(
    """
    SELECT org_code, link_id, attempt, minute, sent_at FROM batch_refreshes
    WHERE week = :week AND state IN ('failed', 'unknown', 'left') AND state = 'unknown' ORDER BY org_code, link_id LIMIT :limit
    """
)
_RUNNING = statement(
    """
    SELECT DISTINCT ON (org_code) org_code, minute, size, sent, skipped, state, beat_at, eased FROM batch_commands
    WHERE minute > :since AND minute <= :now ORDER BY org_code, minute DESC
    """
)
_FEW = statement(
    f"""
    SELECT asked.org_code, (
      SELECT count(*)
      FROM (SELECT FROM links link WHERE {STILL_DUE.replace(":org_code", "asked.org_code")} LIMIT asked.most) AS few) AS links
    FROM unnest(CAST(:org_codes AS text[]), CAST(:most AS integer[])) AS asked(org_code, most)
    """  # noqa: S608
)


async def pause(connection: Connection, done: Action) -> None:
    """Holds a provider's batch, or all (`ALL`), until `resume`."""
    await _PAUSE.run(connection, _values(done))


async def hold(connection: Connection, org_code: str, *, reason: str, until: datetime, now: datetime) -> None:
    """Holds a provider's batch by itself until then, or until `resume`, or a rehearsal. What is held for longer stays so."""
    await _HOLD.run(connection, {"org_code": org_code, "reason": reason, "until": until, "now": now})


async def resume(connection: Connection, done: Action, week: date) -> None:
    """Lets it go on, and has its plan made anew."""
    await _RESUME.run(connection, {**_values(done), "week": week})


async def paused(connection: Connection, now: datetime) -> dict[str, Row]:
    """By provider that is held then: reason, until (NULL: an operator ends it). `ALL` among them: every one."""
    return {row["org_code"]: row for row in await _PAUSES.rows(connection, {"now": now})}


async def sums(connection: Connection, week: date) -> dict[str, Row]:
    """By provider: recorded, skipped; taken (links, since its plan was made).

    And gone: taken or skipped since then; of the minute in which it was made, all, so that it is never too few.
    """
    return {row["org_code"]: row for row in await _SUMS.rows(connection, {"week": week})}


async def troubled(connection: Connection, week: date) -> dict[str, Row]:
    """By provider: links whose last attempt failed, and those of which nobody knows how it ended."""
    return {row["org_code"]: row for row in await _TROUBLED.rows(connection, {"week": week})}


async def unknown_attempts(connection: Connection, week: date, limit: int) -> list[Row]:
    """org_code, link_id, attempt, minute, sent_at."""
    return await _UNKNOWN.rows(connection, {"week": week, "limit": limit})


async def latest(connection: Connection, since: datetime, now: datetime) -> dict[str, Row]:
    """By provider, its last command of a minute that has begun after `since`."""
    return {row["org_code"]: row for row in await _RUNNING.rows(connection, {"since": since, "now": now})}


async def taken_since(connection: Connection, since: Sequence[tuple[str, datetime]]) -> dict[str, int]:
    """By provider: links that its commands took so far, of minutes from a moment on."""
    values = {"org_codes": [org_code for org_code, _ in since], "since": [moment for _, moment in since]}
    return {row["org_code"]: row["taken"] for row in await _SUM_SINCE.rows(connection, values)}


async def few_due(connection: Connection, most: Mapping[str, int], due: Due) -> dict[str, int]:
    """By provider: how many links are due; its `most`, if they are as many or more. A link costs some microseconds."""
    values = {name: value for name, value in due.values("").items() if name != "org_code"}
    asked = {**values, "org_codes": list(most), "most": list(most.values())}
    return {row["org_code"]: row["links"] for row in await _FEW.rows(connection, asked)}


def _values(done: Action) -> Values:
    return {
        "now": done.at,
        "who": done.who,
        "action": done.action,
        "org_code": done.org_code,
        "reason": done.reason,
        "request_id": done.request_id,
    }
