"""What a sender writes and reads: its command, the pages of its links, the intent of each call, and how each ended.

In: a command's name and the `run` of whoever carries it out. Out: rows. A run that was overtaken changes nothing any more: every
statement asks for its number. What is recorded once is never recorded again, whoever comes with it, and however late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum

from msgspec import Struct, structs

from backend.events import Asset, Event
from backend.storage import assets
from backend.storage.assets import asset_in
from backend.storage.batch_due import RIPE, STILL_DUE, Due
from backend.storage.batch_steering import IN_FORCE
from backend.storage.outbox import Entry, published, publishing
from backend.storage.statements import Connection, Row, Values, statement


class State(StrEnum):
    """What became of a link in a week: `batch_refreshes.state`."""

    SENT = "sent"  # it is being read, or whoever read it died
    RECORDED = "recorded"
    FAILED = "failed"
    UNKNOWN = "unknown"  # whoever read it died
    LEFT = "left"  # the provider has counted it: not again this week


class Run(Struct, frozen=True):
    """Who writes: one beginning of one command."""

    org_code: str
    minute: datetime
    run: int

    def values(self) -> Values:
        """Of the parameters that name it."""
        return structs.asdict(self)


class Counts(Struct, frozen=True, kw_only=True):
    """What a run came to, as it is added to its command's."""

    sent: int = 0
    recorded: int = 0
    failed: int = 0
    skipped: int = 0


class Ended(Struct, frozen=True, kw_only=True):
    """An attempt without a record."""

    user_id: str
    org_code: str
    week: date
    minute: datetime
    run: int
    attempt: int
    state: State  # failed or left
    error_code: str | None
    counted: bool  # whether it is one of the attempts that a link has: not if nothing left the house
    due_on: date | None  # when the link is due again, if it is given up for this week; None: it is not


class Done(Struct, frozen=True, kw_only=True):
    """A link that was read to its end, as its rows are to say."""

    user_id: str
    org_code: str
    week: date
    consent_tx_id: str
    search_timestamps: dict[str, str]
    due_on: date


class Known(Struct, frozen=True):
    """What is stored of one link: all at one moment, which `offset` names."""

    offset: int  # of its user's feed: any change of their data moves it
    consent_tx_id: str
    recorded: bool  # whether somebody has recorded it this week
    assets: dict[str, Asset]  # by id


_OF_RUN = "org_code = :org_code AND minute = :minute AND run = :run"
_HELD = f"EXISTS (SELECT FROM batch_pauses WHERE batch_pauses.org_code IN (:org_code, '') AND {IN_FORCE}) AS paused"  # constant
_BEGIN = statement(
    f"""
    UPDATE batch_commands SET run = run + 1, state = 'running', beat_at = :now
    WHERE org_code = :org_code AND minute = :minute AND state <> 'ended' RETURNING *, {_HELD}
    """  # noqa: S608  # constants
)
# Whose worker died. Those that are not tried again are done with for this week.
_LOST = statement(
    """
    WITH lost AS (
      UPDATE batch_refreshes SET state = 'unknown', ended_at = :now
      WHERE org_code = :org_code AND minute = :minute AND state = 'sent' AND run < :run
      RETURNING user_id, org_code, attempt),
    given_up AS (
      UPDATE links SET due_on = :due_on FROM lost
      WHERE links.user_id = lost.user_id AND links.org_code = lost.org_code AND lost.attempt >= :unknown_attempts
        AND links.due_on < :due_on),
    counted AS (
      UPDATE batch_commands SET unknown = unknown + (SELECT count(*) FROM lost) WHERE org_code = :org_code AND minute = :minute)
    SELECT count(*) FROM lost
    """
)
_FURTHEST = statement(
    """
    SELECT link.due_on, link.link_id FROM batch_refreshes tried CROSS JOIN LATERAL (
      SELECT due_on, link_id FROM links WHERE links.user_id = tried.user_id AND links.org_code = tried.org_code OFFSET 0) link
    WHERE tried.org_code = :org_code AND tried.minute = :minute AND tried.state = 'sent' AND tried.run < :run
    ORDER BY link.due_on DESC, link.link_id DESC LIMIT 1
    """
)
_BEHIND = "(link.due_on, link.link_id) > (:at_due, :at_link) AND (link.due_on, link.link_id) <= (:limit_due, :limit_link)"
_LEFT = statement(f"SELECT count(*) FROM links link WHERE {STILL_DUE} AND {_BEHIND}")  # noqa: S608  # constants
_PAGE = statement(
    f"""
    SELECT link.due_on, link.link_id, link.user_id FROM links link WHERE {STILL_DUE} AND {_BEHIND}
    ORDER BY link.due_on, link.link_id LIMIT :size
    """  # noqa: S608  # constants
)
_SKIP = statement(
    f"""
    UPDATE links link SET due_on = CASE WHEN :max_age > 0
        THEN least(:next_due, greatest(:next_week, CAST(link.last_refreshed_at AT TIME ZONE 'Asia/Seoul' AS date) + :max_age))
        ELSE :next_due END
    WHERE link.org_code = :org_code AND link.status = 'active' AND {_BEHIND}
      AND link.last_refreshed_at >= :fresh_since
    """  # noqa: S608  # constants
)
# The command is locked, so that who begins it anew waits for this, and then finds every intent. A user is locked, too: one who is being
# erased gets no new row. One whose data are being changed at this moment is passed over: nobody here waits for anybody.
# Links are found one by one, by user: `OFFSET 0` keeps PostgreSQL from looking through all that are due. What was tried before is asked of
# the row that is written, since only that one is sure not to change meanwhile.
_INTEND = statement(
    f"""
    WITH command AS MATERIALIZED (SELECT FROM batch_commands WHERE {_OF_RUN} FOR SHARE),
    wanted AS MATERIALIZED (
      SELECT users.user_id FROM command, users WHERE users.user_id = ANY(CAST(:user_ids AS text[])) FOR SHARE OF users SKIP LOCKED),
    meant AS (
      INSERT INTO batch_refreshes AS known (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
      SELECT link.user_id, :org_code, :week, link.link_id, :minute, :run, 1, 'sent', :now
      FROM wanted CROSS JOIN LATERAL (
        SELECT * FROM links WHERE links.user_id = wanted.user_id AND links.org_code = :org_code OFFSET 0) link
      WHERE {RIPE} ORDER BY link.user_id
      ON CONFLICT (user_id, org_code, week) DO UPDATE SET minute = excluded.minute, run = excluded.run, attempt = known.attempt + 1,
        state = 'sent', error_code = NULL, sent_at = excluded.sent_at, ended_at = NULL
      WHERE known.state = 'failed' AND known.attempt < :attempts OR known.state = 'unknown' AND known.attempt < :unknown_attempts
      RETURNING user_id, attempt)
    SELECT link.*, meant.attempt FROM meant CROSS JOIN LATERAL (
      SELECT * FROM links WHERE links.user_id = meant.user_id AND links.org_code = :org_code OFFSET 0) link
    ORDER BY link.due_on, link.link_id
    """  # noqa: S608  # constants
)
# How far it is, and what was counted since the last time. Nothing: another run has begun.
_BEAT = statement(
    f"""
    UPDATE batch_commands SET at_due = :at_due, at_link = :at_link, beat_at = :now, sent = sent + :sent, recorded = recorded + :recorded,
      failed = failed + :failed, skipped = skipped + :skipped, eased = :eased
    WHERE {_OF_RUN}
    RETURNING {_HELD}
    """  # noqa: S608  # constants
)
_END = statement(f"UPDATE batch_commands SET state = 'ended', ended_at = :now WHERE {_OF_RUN}")  # noqa: S608  # constants
# Of the week that it was read for, though its Saturday may be over when it is written: in the next one nobody has read it yet.
_WITHIN = "least(CAST(:now AS timestamptz), CAST({week} + 7 AS timestamp) AT TIME ZONE 'Asia/Seoul' - interval '1 microsecond')"
# Nothing new: no fact, so no user is locked, and many links are written at once. Who was linked anew meanwhile was not read.
_RECORD = statement(
    f"""
    WITH done AS (
      SELECT done.* FROM jsonb_to_recordset(CAST(:done AS jsonb)) AS done(user_id text, org_code text, week date, consent_tx_id text,
        search_timestamps jsonb, due_on date)
      JOIN links USING (user_id, org_code) WHERE links.status = 'active' AND links.consent_tx_id = done.consent_tx_id),
    recorded AS (
      UPDATE batch_refreshes SET state = 'recorded', error_code = NULL, ended_at = :now FROM done
      WHERE batch_refreshes.user_id = done.user_id AND batch_refreshes.org_code = done.org_code AND batch_refreshes.week = done.week
        AND batch_refreshes.state <> 'recorded'
      RETURNING done.*),
    moved AS (
      UPDATE links SET last_refreshed_at = {_WITHIN.format(week="recorded.week")}, updated_at = :now,
        search_timestamps = recorded.search_timestamps, due_on = recorded.due_on
      FROM recorded
      WHERE links.user_id = recorded.user_id AND links.org_code = recorded.org_code AND links.status = 'active'
        AND links.consent_tx_id = recorded.consent_tx_id)
    SELECT user_id, org_code FROM recorded
    """  # noqa: S608  # constants
)
_KNOWN = statement(
    """
    SELECT asked.place, users.feed_offset, links.consent_tx_id, tried.state = 'recorded' AS recorded, assets.*
    FROM unnest(CAST(:user_ids AS text[]), CAST(:org_codes AS text[]), CAST(:weeks AS date[])) WITH ORDINALITY
      AS asked(user_id, org_code, week, place)
    JOIN users ON users.user_id = asked.user_id
    JOIN links ON links.user_id = asked.user_id AND links.org_code = asked.org_code AND links.status = 'active'
    JOIN batch_refreshes tried ON tried.user_id = asked.user_id AND tried.org_code = asked.org_code AND tried.week = asked.week
    LEFT JOIN assets ON assets.user_id = asked.user_id AND assets.org_code = asked.org_code
    """
)
# The attempt is locked before it is looked at: of two who come with the same link, the second finds it recorded, and has nothing to tell.
_TELL = publishing(
    """mine AS MATERIALIZED (
    SELECT FROM batch_refreshes WHERE user_id = :user_id AND org_code = :org_code AND week = :week AND state <> 'recorded' FOR UPDATE)""",
    """numbered AS (
    UPDATE users SET feed_offset = feed_offset + :count FROM mine WHERE user_id = :user_id AND feed_offset = :since
      AND EXISTS (SELECT FROM links WHERE links.user_id = :user_id AND links.org_code = :org_code AND links.status = 'active'
        AND links.consent_tx_id = :consent_tx_id)
    RETURNING feed_offset - :count AS before)""",
    """recorded AS (
    UPDATE batch_refreshes SET state = 'recorded', error_code = NULL, ended_at = :now FROM numbered
    WHERE user_id = :user_id AND org_code = :org_code AND week = :week)""",
    f"""moved AS (
    UPDATE links SET last_refreshed_at = {_WITHIN.format(week="CAST(:week AS date)")}, updated_at = :now,
      search_timestamps = :search_timestamps, due_on = :due_on
    FROM numbered WHERE user_id = :user_id AND org_code = :org_code)""",  # noqa: S608  # constants
    assets.SAVED,
)
_FAIL = statement(
    """
    WITH ended AS (
      UPDATE batch_refreshes SET state = given.state, error_code = given.error_code, ended_at = :now,
        attempt = batch_refreshes.attempt - CASE WHEN given.counted THEN 0 ELSE 1 END
      FROM jsonb_to_recordset(CAST(:ended AS jsonb)) AS given(user_id text, org_code text, week date, minute timestamptz, run integer,
        attempt integer, state text, error_code text, counted boolean, due_on date)
      WHERE batch_refreshes.user_id = given.user_id AND batch_refreshes.org_code = given.org_code AND batch_refreshes.week = given.week
        AND batch_refreshes.minute = given.minute AND batch_refreshes.run = given.run AND batch_refreshes.attempt = given.attempt
        AND batch_refreshes.state IN ('sent', 'unknown')
      RETURNING given.user_id, given.org_code, given.due_on)
    UPDATE links SET due_on = ended.due_on FROM ended
    WHERE links.user_id = ended.user_id AND links.org_code = ended.org_code AND links.due_on < ended.due_on
    """
)


async def begin(connection: Connection, org_code: str, minute: datetime, now: datetime) -> Row | None:
    """The command's row with its new `run`, and whether it is `paused`: no earlier run changes anything now. None: none is to begin."""
    return await _BEGIN.row(connection, {"org_code": org_code, "minute": minute, "now": now})


async def lose(connection: Connection, run: Run, *, due_on: date, unknown_attempts: int, now: datetime) -> int:
    """How many attempts of earlier runs nobody knows the end of. `due_on`: when those are due again that are not repeated."""
    values = {**run.values(), "due_on": due_on, "unknown_attempts": unknown_attempts, "now": now}
    return int(await _LOST.value(connection, values))


async def furthest(connection: Connection, run: Run) -> tuple[date, int] | None:
    """The last position that earlier runs began and did not end. None: they ended all. Ask before `lose`."""
    row = await _FURTHEST.row(connection, run.values())
    return None if row is None else (row["due_on"], row["link_id"])


async def left(connection: Connection, org_code: str, due: Due, between: Values) -> int:
    """How many links are still due. `between`: at_due, at_link (outside), limit_due, limit_link."""
    return int(await _LEFT.value(connection, {**due.values(org_code), **between}))


async def page(connection: Connection, org_code: str, due: Due, between: Values, size: int) -> list[Row]:
    """The next links that are still due, in their order: due_on, link_id, user_id. `between` as in `left`."""
    return await _PAGE.rows(connection, {**due.values(org_code), **between, "size": size})


async def skip(connection: Connection, org_code: str, between: Values, *, due: Due, max_age_days: int) -> int:
    """Puts off to the next week what its person has refreshed in this one. Returns how many links that are. `between` as in `left`.

    `max_age_days`: that they may be then at most, as far as the week lets them; 0: any.
    """
    next_week = due.due_by + timedelta(days=1)
    values = {
        "org_code": org_code,
        **between,
        "fresh_since": due.fresh_since,
        "next_due": due.due_by + timedelta(days=7),
        "next_week": next_week,
        "max_age": max_age_days,
    }
    return await _SKIP.run(connection, values)


async def intend(connection: Connection, run: Run, due: Due, user_ids: Sequence[str], now: datetime) -> list[Row]:
    """Writes down that these users' links are about to be read. Returns the whole rows of those that are, with their `attempt`.

    Left out are those that are not due any more, and those whose user is being written at this moment. None at all: overtaken.
    """
    values = {**due.values(run.org_code), **run.values(), "user_ids": list(user_ids), "now": now}
    return await _INTEND.rows(connection, values)


async def beat(
    connection: Connection, run: Run, at: tuple[date, int], counts: Counts, now: datetime, *, eased: bool = False
) -> bool | None:
    """Writes how far the run is, and adds its counts. `eased`: whether its provider asked for less.

    Returns whether the batch is held; None: the run was overtaken.
    """
    values = {**run.values(), **structs.asdict(counts), "at_due": at[0], "at_link": at[1], "now": now, "eased": eased}
    paused: bool | None = await _BEAT.value(connection, values)
    return paused


async def end(connection: Connection, run: Run, now: datetime) -> None:
    """The command is over."""
    await _END.run(connection, {**run.values(), "now": now})


async def record(connection: Connection, done: Sequence[Done], now: datetime) -> set[tuple[str, str]]:
    """Records links with nothing new. Returns (user, provider) of those that had not been recorded before."""
    rows = await _RECORD.rows(connection, {"done": [structs.asdict(each) for each in done], "now": now})
    return {(row["user_id"], row["org_code"]) for row in rows}


async def known(connection: Connection, links: Sequence[tuple[str, str, date]]) -> list[Known | None]:
    """What is stored of these (user, provider), which are read in this week. None: the link has ended."""
    user_ids, org_codes, weeks = zip(*links, strict=True)
    values = {"user_ids": list(user_ids), "org_codes": list(org_codes), "weeks": list(weeks)}
    found: dict[int, Known] = {}
    for row in await _KNOWN.rows(connection, values):
        stored = found.setdefault(row["place"], Known(row["feed_offset"], row["consent_tx_id"], row["recorded"], {}))
        if row["id"] is not None:
            stored.assets[row["id"]] = asset_in(row)
    return [found.get(place) for place in range(1, len(links) + 1)]


async def record_news(
    connection: Connection, done: Done, *, since: int, changed: Sequence[Asset], events: Sequence[Event], now: datetime
) -> list[Entry]:
    """Records a link with what is new. `since`: `Known.offset`. Nothing: its user's data have changed since, or it is recorded already."""
    values = {**structs.asdict(done), "since": since, "assets": assets.rows(changed)}
    return await published(_TELL, connection, done.user_id, events, now, values)


async def fail(connection: Connection, ended: Sequence[Ended], now: datetime) -> int:
    """Writes how attempts ended that recorded nothing; what is known better by now stays. Returns how many links were given up."""
    return await _FAIL.run(connection, {"ended": [structs.asdict(each) for each in ended], "now": now})
