"""Registrations and their items as rows. Rules and types live in `registration/`; here is only SQL.

Every statement names the user. `load` is used under the user's lock by whoever wants to change something, without it by readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from backend.events import Event
from backend.storage import idempotency, users
from backend.storage.idempotency import FirstAnswer
from backend.storage.outbox import Entry, published, publishing
from backend.storage.statements import Connection, Row, Values, statement


class Page(Struct, frozen=True):
    """Where a listing goes on: registrations older than `before`. None: from the newest."""

    limit: int
    before: str | None = None


class OpenWork(Struct, frozen=True):
    """Something that was begun and not ended, as the sweeper finds it."""

    user_id: str
    registration_id: str
    run: int
    request_id: str
    org_code: str | None  # None: the signature


# A registration with its items, at an offset of its user's feed, is one row and one round trip.
# `items` holds the columns of `ITEM` in the order of choice.
_WHOLE = """
    SELECT r.*, (SELECT feed_offset FROM users WHERE users.user_id = r.user_id) AS feed_offset, (
      SELECT jsonb_agg(jsonb_build_array(i.org_code, i.status, i.run, i.asset_ids, i.error_code, i.retry_at) ORDER BY i.position)
      FROM registration_items i WHERE i.user_id = r.user_id AND i.registration_id = r.id) AS items
    FROM registrations r WHERE r.user_id = :user_id
"""
ITEM = ("org_code", "status", "run", "asset_ids", "error_code", "retry_at")
_LOAD = statement(_WHOLE + "AND r.id = :id")
_LIST = statement(_WHOLE + "AND (CAST(:before AS text) IS NULL OR r.id < :before) ORDER BY r.id DESC LIMIT :limit")
_ADDED = """
    registration AS (
      INSERT INTO registrations (user_id, id, status, run, completed_as, signature_status, signature_run, sign_before, request_id,
        created_at, updated_at)
      SELECT :user_id, :id, :status, CAST(:run AS int), :completed_as, :signature_status, CAST(:signature_run AS int),
        CAST(:sign_before AS timestamptz), :request_id, :now, :now FROM numbered),
    items AS (
      INSERT INTO registration_items (user_id, registration_id, org_code, position, status, run, updated_at)
      SELECT :user_id, :id, item.org_code, item.place - 1, 'waiting', :run, :now
      FROM numbered, unnest(CAST(:org_codes AS text[])) WITH ORDINALITY AS item(org_code, place))
"""
_ACCEPT = publishing(idempotency.NO_KEY, users.ENTERED, _ADDED)
_ACCEPT_ONCE = publishing(idempotency.KEPT, users.ENTERED, _ADDED)
# A step of a statement.
ITEMS = """items AS (
    UPDATE registration_items i SET status = item.status, run = item.run, asset_ids = item.asset_ids, error_code = item.error_code,
      retry_at = item.retry_at, updated_at = :now
    FROM numbered, jsonb_to_recordset(CAST(:items AS jsonb))
      AS item(org_code text, status text, run int, asset_ids text[], error_code text, retry_at timestamptz)
    WHERE i.user_id = :user_id AND i.registration_id = :registration_id AND i.org_code = item.org_code)"""


def state(columns: Iterable[str]) -> str:
    """A step that sets these columns to `:new_<column>`."""
    new = ", ".join(f"{column} = :new_{column}" for column in columns)
    return f"""registration AS (
    UPDATE registrations SET {new} FROM numbered WHERE user_id = :user_id AND id = :registration_id)"""  # noqa: S608  # our own names


_UNSIGNED = statement(
    """
    SELECT user_id, id AS registration_id, run, request_id FROM registrations
    WHERE status = 'signing' AND updated_at < :idle_since ORDER BY updated_at, user_id, id LIMIT :limit OFFSET :skip
    """
)
_UNCOLLECTED = statement(
    """
    SELECT i.user_id, i.registration_id, i.run, r.request_id, i.org_code
    FROM registration_items i JOIN registrations r ON r.user_id = i.user_id AND r.id = i.registration_id
    WHERE i.status IN ('waiting', 'connecting', 'collecting', 'deferred') AND i.updated_at < :idle_since
      AND (i.run < r.run OR r.status NOT IN ('signing', 'denied', 'expired', 'failed'))
      AND (i.status <> 'deferred' OR coalesce(i.retry_at, :now) <= :now)
    ORDER BY i.updated_at, i.user_id, i.registration_id, i.position LIMIT :limit OFFSET :skip
    """
)


class Acceptance(Struct, frozen=True, kw_only=True):
    """A new registration, whose items wait."""

    registration: Values  # its columns
    org_codes: Sequence[str]
    person_sealed: bytes
    events: Sequence[Event]
    once: tuple[str, FirstAnswer] | None = None  # an Idempotency-Key with what is answered


async def accept(connection: Connection, new: Acceptance, now: datetime) -> list[Entry]:
    """Writes registration, items, user, key and facts in one statement: one round trip, and a transaction by itself.

    No facts: the key was used before, and nothing was written. Who comes with the same key at the same time waits for the other's end.
    """
    values = {**new.registration, "org_codes": list(new.org_codes), "person": new.person_sealed}
    if new.once is None:
        return await published(_ACCEPT, connection, new.registration["user_id"], new.events, now, values)
    key, answer = new.once
    return await published(_ACCEPT_ONCE, connection, new.registration["user_id"], new.events, now, {**values, **answer.columns(key, now)})


async def load(connection: Connection, user_id: str, registration_id: str) -> Row | None:
    """The registration's row, with `items`; None: this user has no such registration."""
    return await _LOAD.row(connection, {"user_id": user_id, "id": registration_id})


async def listed(connection: Connection, user_id: str, page: Page) -> Sequence[Row]:
    """This user's registrations with their `items`, newest first."""
    values = {"user_id": user_id, "before": page.before, "limit": page.limit}
    return await _LIST.rows(connection, values)


_UNFINISHED = statement(
    """
    SELECT registration_id, run FROM registration_items
    WHERE user_id = :user_id AND org_code = :org_code AND status IN ('waiting', 'connecting', 'collecting', 'deferred')
    """
)
_LONGEST_DEFERRED = statement(
    """
    SELECT i.user_id, i.registration_id, i.run, r.request_id, i.org_code
    FROM registration_items i JOIN registrations r ON r.user_id = i.user_id AND r.id = i.registration_id
    WHERE i.org_code = :org_code AND i.status = 'deferred' ORDER BY i.updated_at LIMIT 1
    """
)
_TOUCH = statement(
    """
    UPDATE registration_items SET retry_at = :retry_at, updated_at = :now
    WHERE user_id = :user_id AND registration_id = :registration_id AND org_code = :org_code AND status = 'deferred'
    """
)


async def touch_item(
    connection: Connection, user_id: str, registration_id: str, org_code: str, *, retry_at: datetime, now: datetime
) -> None:
    """Puts off a deferred item without telling anybody: its deferral was announced already."""
    values = {"user_id": user_id, "registration_id": registration_id, "org_code": org_code, "retry_at": retry_at, "now": now}
    await _TOUCH.run(connection, values)


async def longest_deferred(connection: Connection, org_code: str) -> OpenWork | None:
    """Whose deferral at this provider is the oldest; None: nobody waits for it."""
    row = await _LONGEST_DEFERRED.row(connection, {"org_code": org_code})
    return None if row is None else OpenWork(**row)


async def unsigned(connection: Connection, *, idle_since: datetime, limit: int, skip: int = 0) -> list[OpenWork]:
    """Signatures on which nothing was written since `idle_since`, the oldest first, but for the first `skip`."""
    rows = await _UNSIGNED.rows(connection, {"idle_since": idle_since, "limit": limit, "skip": skip})
    return [OpenWork(**row, org_code=None) for row in rows]


async def uncollected(connection: Connection, *, idle_since: datetime, now: datetime, limit: int, skip: int = 0) -> list[OpenWork]:
    """The same of providers, and of deferred ones whose time has come."""
    rows = await _UNCOLLECTED.rows(connection, {"idle_since": idle_since, "now": now, "limit": limit, "skip": skip})
    return [OpenWork(**row) for row in rows]


async def unfinished(connection: Connection, user_id: str, org_code: str) -> list[tuple[str, int]]:
    """(registration, run) of everything that this user has begun at this provider and that has not ended."""
    rows = await _UNFINISHED.rows(connection, {"user_id": user_id, "org_code": org_code})
    return [(row["registration_id"], row["run"]) for row in rows]
