"""What users were told of providers' statuses, and how far the telling has come.

In: a status that is new. Out: one event in the feed of each user with an active link, slice by slice, each slice with its progress in one
transaction: whoever dies in between is continued. A newer status waits until the one before was told to all, so that everybody hears the
same changes in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backend.storage.outbox import Entry
from backend.storage.statements import Connection, Row, statement

_STATUSES = statement("SELECT * FROM provider_statuses")
_CHANGE = statement(
    """
    INSERT INTO provider_statuses AS known (org_code, status, retry_at, changed_at, told_to)
    VALUES (:org_code, :status, :retry_at, :now, '')
    ON CONFLICT (org_code) DO UPDATE
    SET status = excluded.status, retry_at = excluded.retry_at, changed_at = excluded.changed_at, told_to = ''
    WHERE known.told_to IS NULL AND known.status <> excluded.status
    """
)
_TELLING = statement("SELECT * FROM provider_statuses WHERE org_code = :org_code AND told_to IS NOT NULL FOR UPDATE SKIP LOCKED")
# Users are locked in the order of their names: two slices that met the same users could wait for each other for ever.
# `max` of nobody is NULL: then everybody was told.
_TELL = statement(
    """
    WITH linked AS (
      SELECT user_id FROM links WHERE org_code = :org_code AND status = 'active' AND user_id > :after ORDER BY user_id LIMIT :most),
    locked AS (
      SELECT user_id FROM users WHERE user_id = ANY(ARRAY(SELECT user_id FROM linked)) ORDER BY user_id FOR NO KEY UPDATE),
    numbered AS (
      UPDATE users SET feed_offset = users.feed_offset + 1 FROM locked WHERE users.user_id = locked.user_id
      RETURNING users.user_id, users.feed_offset),
    deliveries AS (
      INSERT INTO webhook_deliveries (user_id, webhook_id, "offset", id, event, due_at, created_at)
      SELECT numbered.user_id, webhooks.id, numbered.feed_offset, gen_random_uuid(), :event, :now, :now
      FROM numbered, webhooks
      WHERE webhooks.status = 'active' AND (webhooks.events IS NULL OR CAST(:type AS text) = ANY(webhooks.events))),
    told AS (
      INSERT INTO outbox (user_id, "offset", event, created_at) SELECT user_id, feed_offset, :event, :now FROM numbered),
    progress AS (
      UPDATE provider_statuses SET told_to = (SELECT max(user_id) FROM linked) WHERE org_code = :org_code)
    SELECT user_id, feed_offset FROM numbered
    """
)


async def statuses(connection: Connection) -> Sequence[Row]:
    """What was told last of each provider of which anything was told, or is being told (`told_to` is not NULL)."""
    return await _STATUSES.rows(connection)


async def change(connection: Connection, org_code: str, status: str, retry_at: datetime | None, now: datetime) -> bool:
    """From now on this is told. False: it is the same, or the one before is still being told."""
    values = {"org_code": org_code, "status": status, "retry_at": retry_at, "now": now}
    return await _CHANGE.run(connection, values) > 0


async def telling(connection: Connection, org_code: str) -> Row | None:
    """What is to be told of this provider, locked; None: nothing, or somebody else is at it."""
    return await _TELLING.row(connection, {"org_code": org_code})


async def tell(
    connection: Connection, org_code: str, *, after: str, most: int, type_: str, event: bytes, now: datetime
) -> list[tuple[str, Entry]]:
    """Writes the event for the next users behind `after`, and how far it came; what each of them is to hear."""
    values = {"org_code": org_code, "after": after, "most": most, "type": type_, "event": event, "now": now}
    return [(row["user_id"], (row["feed_offset"], event)) for row in await _TELL.rows(connection, values)]
