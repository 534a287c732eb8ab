"""What became of consents, by day in Korea and provider: each finished day is added up once, from its own rows and the day before.

In: days, and the newest row of the history that counts (`Noted`). Out: rows of `consent_days`, or what changed on days that are not in it
yet. A consent is held from when it was granted until what happened next to the same person at the same provider, or its last day is over.
So a day changes with what was written of it, and with consents that end by themselves; nothing else of the history is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from backend.clock import KST
from backend.storage.statements import Connection, Row, statement

ADDED_UP_WITHIN = 1800.0  # seconds for one day: of 20 million consents given on one day, too
READ_WITHIN = 5.0  # seconds for days that are not added up yet, while somebody waits
EVERYTHING = 2**63 - 1  # as the newest row that counts
_LOCK = 0x6D6F61_02  # "moa", purpose 2: days of consents
_EVER = date(1, 1, 1)

# Nobody here has summer time: a day in Korea begins at 15:00 UTC.
_DAY = "CAST({} AT TIME ZONE 'UTC' + interval '9 hours' AS date)"
_BEGINS = "(CAST({} AS timestamp) - interval '9 hours') AT TIME ZONE 'UTC'"
# Each consent that is held when its first day ends counts once more on that day and once less on the day of its end. LIMIT keeps the
# neighbours of a row a look into the index for each, whatever PostgreSQL thinks of how many rows a range has.
_CHANGES = f"""
    written AS (
      SELECT id, user_id, org_code, happened, ends_on, at, {_DAY.format("at")} AS day
      FROM consent_history WHERE at >= :begins AND at < :ends AND id <= :through),
    changes AS (
      SELECT written.day, written.org_code, CAST(written.happened = 'granted' AS int) AS granted,
        CAST(written.happened IN ('revoked', 'withdrawn') AS int) AS revoked,
        CAST(written.happened = 'granted' AND (written.ends_on IS NULL OR written.ends_on >= written.day) AS int)
        - CAST(coalesce(was.happened = 'granted' AND (was.ends_on IS NULL OR was.ends_on > written.day), false) AS int) AS held
      FROM written LEFT JOIN LATERAL (
        SELECT happened, ends_on FROM consent_history earlier
        WHERE earlier.user_id = written.user_id AND earlier.org_code = written.org_code
          AND (earlier.at, earlier.id) < (written.at, written.id) AND earlier.id <= :through
        ORDER BY earlier.at DESC, earlier.id DESC LIMIT 1) was ON true
      UNION ALL
      SELECT ended.ends_on, ended.org_code, 0, 0, -1
      FROM consent_history ended LEFT JOIN LATERAL (
        SELECT at FROM consent_history later
        WHERE later.user_id = ended.user_id AND later.org_code = ended.org_code
          AND (later.at, later.id) > (ended.at, ended.id) AND later.id <= :through
        ORDER BY later.at, later.id LIMIT 1) next ON true
      WHERE ended.happened = 'granted' AND ended.ends_on >= :first AND ended.ends_on <= :last AND ended.id <= :through
        AND ended.at < {_BEGINS.format("ended.ends_on + 1")} AND (next.at IS NULL OR next.at >= {_BEGINS.format("ended.ends_on")})),
    summed AS (
      SELECT day, org_code, sum(granted) AS granted, sum(revoked) AS revoked, sum(held) AS held FROM changes GROUP BY day, org_code)
"""  # noqa: S608  # our own names
_ADD_UP = statement(
    f"""
    WITH {_CHANGES},
    done AS (INSERT INTO consent_days_done (day, through_id) VALUES (:first, :through))
    INSERT INTO consent_days (day, org_code, granted, revoked, held)
    SELECT :first, org_code, coalesce(summed.granted, 0), coalesce(summed.revoked, 0), coalesce(before.held, 0) + coalesce(summed.held, 0)
    FROM summed FULL JOIN (SELECT org_code, held FROM consent_days WHERE day = :before) before USING (org_code)
    """  # noqa: S608  # our own names
)
_CHANGED = statement(f"WITH {_CHANGES} SELECT day, org_code, granted, revoked, held FROM summed ORDER BY day, org_code")  # noqa: S608
_NOTE = statement(
    """
    SELECT coalesce(max(id), 0) AS through, CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next_transaction
    FROM consent_history
    """
)
_SETTLED = statement("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) >= :next_transaction")
_ALONE = statement(f"SELECT pg_try_advisory_xact_lock({_LOCK})")
_LIMIT = statement("SELECT set_config('statement_timeout', CAST(:ms AS text), true)")
_LAST = statement("SELECT day, through_id FROM consent_days_done ORDER BY day DESC LIMIT 1")
_LATE = statement(
    f"SELECT {_DAY.format('min(at)')} FROM consent_history WHERE id > :counted AND id <= :through AND at < :ends"  # noqa: S608
)
_FIRST = statement(f"SELECT {_DAY.format('min(at)')} FROM consent_history WHERE id <= :through")  # noqa: S608
_FORGET = tuple(
    statement(f"DELETE FROM {table} WHERE day >= :day")  # noqa: S608
    for table in ("consent_days", "consent_days_done")
)
# In one statement: meanwhile days may be added, or forgotten.
_KNOWN = statement(
    """
    SELECT done.day AS done, known.day, org_code, granted, revoked, held
    FROM (SELECT max(day) AS day FROM consent_days_done) done
    LEFT JOIN consent_days known ON known.day = ANY(CAST(:asked AS date[]) || done.day) ORDER BY known.day, org_code
    """
)


class Noted(Struct, frozen=True):
    """A row of the history, and the transaction that came next."""

    through: int
    next_transaction: int


class Done(Struct, frozen=True):
    """What a call of `add_up` did."""

    day: date | None  # that is added up now; None: there is none to do
    again_from: date | None = None  # days from then on were forgotten: rows of them had come late


async def note(connection: Connection) -> Noted:
    """The newest row now. Before it counts, everybody who might still write one before it must be done (`settled`)."""
    row = await _NOTE.row(connection)
    return Noted(**row) if row else Noted(0, 0)


async def settled(connection: Connection, noted: Noted) -> bool:
    """Whether every transaction that had written when it was noted has ended."""
    return bool(await _SETTLED.value(connection, {"next_transaction": noted.next_transaction}))


async def add_up(connection: Connection, noted: Noted, *, before: date) -> Done | None:
    """The next day that is not added up yet, if it is one before `before`. In a transaction, which holds up nobody but its like.

    Every row up to the one that was noted counts, and no other. Those that were not there when their day was added up make that day, and
    all after it, be added up anew. None: another is at it.
    """
    if not await _ALONE.value(connection):
        return None
    await _LIMIT.run(connection, {"ms": str(int(ADDED_UP_WITHIN * 1000))})
    last = await _LAST.row(connection)
    late: date | None = None
    if last is not None and noted.through > last["through_id"]:
        rows = {"counted": last["through_id"], "through": noted.through, "ends": _begins(last["day"] + timedelta(days=1))}
        late = await _LATE.value(connection, rows, seconds=ADDED_UP_WITHIN)
    if late is not None:
        for each in _FORGET:
            await each.run(connection, {"day": late})
        last = await _LAST.row(connection)
    day = last["day"] + timedelta(days=1) if last is not None else await _FIRST.value(connection, {"through": noted.through})
    if day is None or day >= before:
        return Done(None, late)
    values = {**_between(day, day), "through": noted.through, "before": day - timedelta(days=1)}
    await _ADD_UP.run(connection, values, seconds=ADDED_UP_WITHIN)
    return Done(day, late)


class Known(Struct, frozen=True):
    """What is added up."""

    last: date | None  # all days up to this one are; None: none is
    days: Sequence[Row]  # day, org_code, granted, revoked (by the person, here or at the provider), held (when the day ends)


async def known(connection: Connection, first: date, last: date) -> Known:
    """These days, as far as they are added up, and the last one that is, whichever that may be."""
    asked = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    rows = await _KNOWN.rows(connection, {"asked": asked})
    return Known(rows[0]["done"], [row for row in rows if row["day"] is not None])


async def changed(connection: Connection, after: date | None, last: date) -> Sequence[Row]:
    """The same of days that are not, but `held` is by how many there are more than the day before. None: of all days ever.

    In a transaction. Raises `asyncpg.QueryCanceledError` when that is more than can be read at once.
    """
    await _LIMIT.run(connection, {"ms": str(int(READ_WITHIN * 1000))})
    first = _EVER if after is None else after + timedelta(days=1)
    return await _CHANGED.rows(connection, {**_between(first, last), "through": EVERYTHING})


def _between(first: date, last: date) -> dict[str, date]:
    begins = datetime(1, 1, 1, tzinfo=UTC) if first == _EVER else _begins(first)
    return {"first": first, "last": last, "begins": begins, "ends": _begins(last + timedelta(days=1))}


def _begins(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=KST)
