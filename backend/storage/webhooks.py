"""Webhooks and the deliveries that wait for them; `publish` in `outbox.py` writes deliveries together with the facts.

In: what operators ask for, and how attempts ended. Out: rows. A delivery is claimed by a lease, so no lock is held while somebody is
called; whoever lost the lease cannot say any more how the call ended. A user's earlier deliveries to the same webhook go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct

from backend.storage.statements import Connection, Row, Statement, Values, statement

ILL_AFTER = 5  # failures in a row, of whatever deliveries
LONGEST_REST = 60  # seconds between two tries of an ill webhook; 5, 10, 20 … before
OVERTAKEN_AFTER = 8  # failures after which a delivery no longer holds up the user's later ones: about ten minutes
_BATCH = 1000
_MOST_COUNTED = 10_000
_LINGER = timedelta(minutes=1)  # longer than any transaction that may still publish to a webhook which was just deleted

_LISTED = statement("SELECT * FROM webhooks WHERE status <> 'deleted' ORDER BY id")
_COUNTED = statement(
    """
    SELECT webhooks.id, pending.count AS pending, failed.count AS failed FROM webhooks,
      LATERAL (SELECT count(*) FROM (
        SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = webhooks.id AND d.state = 'pending' LIMIT :most) AS p) AS pending,
      LATERAL (SELECT count(*) FROM (
        SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = webhooks.id AND d.state = 'failed' LIMIT :most) AS f) AS failed
    WHERE webhooks.status <> 'deleted'
    """
)
_ADD = statement(
    """
    INSERT INTO webhooks (id, url, events, description, status, secret_sealed, created_at)
    VALUES (:id, :url, :events, :description, :status, :secret_sealed, :created_at)
    """
)
_NEW_SECRET = statement(
    """
    UPDATE webhooks SET old_secret_sealed = :old, old_secret_until = :until, secret_sealed = :new
    WHERE id = :id AND status = 'active' AND secret_sealed = :expected
    """
)
_END = statement(
    """
    UPDATE webhooks SET status = :status, ended_at = :now, last_failure = coalesce(:reason, last_failure)
    WHERE id = :id AND status IN ('active', :from)
    """
)
_TEST = statement(
    """
    INSERT INTO webhook_deliveries (user_id, webhook_id, "offset", id, event, due_at, created_at)
    SELECT :user_id, id, 0, :delivery_id, :event, :now, :now FROM webhooks WHERE id = :id AND status = 'active'
    ON CONFLICT (user_id, webhook_id, "offset") DO UPDATE
    SET id = excluded.id, event = excluded.event, state = 'pending', attempts = 0, due_at = excluded.due_at, leased_until = NULL,
        claims = webhook_deliveries.claims + 1, created_at = excluded.created_at
    """
)

_PROBE = statement(
    "UPDATE webhooks SET rests_until = :until WHERE id = :id AND failures >= :ill AND (rests_until IS NULL OR rests_until <= :now)"
)
_CLAIM = statement(
    """
    WITH due AS (
      SELECT d.user_id, d."offset" FROM webhook_deliveries d
      WHERE d.webhook_id = :id AND d.state = 'pending' AND d.due_at <= :now AND (d.leased_until IS NULL OR d.leased_until <= :now)
        AND NOT EXISTS (
          SELECT 1 FROM webhook_deliveries e
          WHERE e.user_id = d.user_id AND e.webhook_id = d.webhook_id AND e."offset" < d."offset"
            AND e.state = 'pending' AND e.attempts < :overtaken_after)
      ORDER BY d.due_at, d."offset" LIMIT :slots FOR UPDATE OF d SKIP LOCKED)
    UPDATE webhook_deliveries d SET leased_until = :until, claims = d.claims + 1
    FROM due WHERE d.user_id = due.user_id AND d.webhook_id = :id AND d."offset" = due."offset"
    RETURNING d.user_id, d."offset", d.id, d.event, d.attempts, d.claims, d.created_at
    """
)
_OURS = 'user_id = :user_id AND webhook_id = :id AND "offset" = :offset AND claims = :claims'
_DELIVERED = statement(f"DELETE FROM webhook_deliveries WHERE {_OURS}")  # noqa: S608  # a constant
_WELL = statement(
    """
    UPDATE webhooks SET failures = 0, rests_until = NULL, last_delivered_at = :now
    WHERE id = :id AND (failures > 0 OR last_delivered_at IS NULL OR last_delivered_at < :a_second_ago)
    """
)
_FAILED = statement(
    f"""
    UPDATE webhook_deliveries SET attempts = attempts + 1, due_at = :due_at, leased_until = NULL,
      state = CASE WHEN CAST(:over AS boolean) THEN 'failed' ELSE state END
    WHERE {_OURS}
    """  # noqa: S608  # a constant
)
# What waits for one that failed is due with it: else whoever claims would look at all of these, each time, before those that may be sent.
_HELD_UP = statement(
    """
    UPDATE webhook_deliveries later SET due_at = :due_at FROM webhook_deliveries failed
    WHERE failed.user_id = :user_id AND failed.webhook_id = :id AND failed."offset" = :offset AND failed.state = 'pending'
      AND failed.attempts < :overtaken_after
      AND later.user_id = :user_id AND later.webhook_id = :id AND later."offset" > :offset AND later.state = 'pending'
      AND later.due_at < :due_at
    """
)
_ILL = statement(
    """
    UPDATE webhooks SET failures = failures + 1, last_failed_at = CAST(:now AS timestamptz), last_failure = :reason,
      rests_until = CASE WHEN failures + 1 >= :ill
        THEN CAST(:now AS timestamptz) + least(5 * 2 ^ least(failures + 1 - :ill, 10), CAST(:longest AS int)) * interval '1 second' END
    WHERE id = :id
    """
)

_OLDEST = statement("SELECT min(created_at) FROM webhook_deliveries WHERE state = 'pending'")
_GIVE_UP = statement(
    """
    UPDATE webhook_deliveries SET state = 'failed' WHERE (user_id, webhook_id, "offset") IN (
      SELECT user_id, webhook_id, "offset" FROM webhook_deliveries WHERE state = 'pending'
        AND created_at < :before AND created_at > '-infinity'
      LIMIT :batch FOR UPDATE SKIP LOCKED)
    """
)
_FORGET = statement(
    """
    DELETE FROM webhook_deliveries WHERE (user_id, webhook_id, "offset") IN (
      SELECT user_id, webhook_id, "offset" FROM webhook_deliveries WHERE state = 'failed'
        AND created_at < :before AND created_at > '-infinity' LIMIT :batch)
    """
)
_CLEAR = statement(
    """
    DELETE FROM webhook_deliveries WHERE (user_id, webhook_id, "offset") IN (
      SELECT d.user_id, d.webhook_id, d."offset" FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
      WHERE w.status IN ('disabled', 'deleted') LIMIT :batch)
    """
)
_BURY = statement(
    """
    DELETE FROM webhooks w WHERE w.status = 'deleted' AND w.ended_at < :before
      AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id)
    """
)


class Claim(Struct, frozen=True, kw_only=True):
    """One delivery in somebody's hands until its lease ends."""

    webhook_id: str
    user_id: str
    offset: int  # 0: an operator's test, which is in nobody's feed
    id: UUID
    event: bytes
    attempts: int  # that failed before
    claims: int  # fencing token
    created_at: datetime

    def __repr__(self) -> str:
        return f"Claim({self.id})"

    def key(self) -> dict[str, Any]:
        """What names this claim of this delivery."""
        return {"id": self.webhook_id, "user_id": self.user_id, "offset": self.offset, "claims": self.claims}


async def listed(connection: Connection) -> Sequence[Row]:
    """Every webhook that was not deleted, oldest first."""
    return await _LISTED.rows(connection)


async def counted(connection: Connection) -> dict[str, tuple[int, int]]:
    """Pending and failed deliveries by webhook; nobody counts beyond 10,000."""
    rows = await _COUNTED.rows(connection, {"most": _MOST_COUNTED})
    return {row["id"]: (row["pending"], row["failed"]) for row in rows}


async def add(connection: Connection, row: Values) -> None:
    """A new webhook; what is committed from now on is delivered to it."""
    await _ADD.run(connection, row)


async def renew_secret(connection: Connection, webhook_id: str, *, expected: bytes, old: bytes | None, new: bytes, until: datetime) -> bool:
    """Puts another secret beside the present one, which signs until `until`. False: somebody else was faster, or it is gone.

    `old`: the present one, sealed as the old one; None: nobody can read it.
    """
    values = {"id": webhook_id, "expected": expected, "old": old, "new": new, "until": until}
    return await _changed(connection, _NEW_SECRET, values)


async def delete(connection: Connection, webhook_id: str, now: datetime) -> bool:
    """Nothing more is sent; its rows go by and by. False: there is no such webhook."""
    return await _changed(connection, _END, {"id": webhook_id, "status": "deleted", "from": "disabled", "reason": None, "now": now})


async def disable(connection: Connection, webhook_id: str, reason: str, now: datetime) -> None:
    """The receiver wants nothing more: what waits for it goes by and by."""
    await _changed(connection, _END, {"id": webhook_id, "status": "disabled", "from": "active", "reason": reason, "now": now})


async def add_test(connection: Connection, webhook_id: str, user_id: str, delivery_id: UUID, event: bytes, now: datetime) -> bool:
    """A delivery that is in nobody's feed, over the one before. False: there is no such webhook, or it is disabled."""
    values = {"id": webhook_id, "user_id": user_id, "delivery_id": delivery_id, "event": event, "now": now}
    return await _changed(connection, _TEST, values)


async def may_probe(connection: Connection, webhook_id: str, *, now: datetime, until: datetime) -> bool:
    """Whether this caller, alone in the fleet until `until`, may try an ill webhook."""
    return await _changed(connection, _PROBE, {"id": webhook_id, "ill": ILL_AFTER, "now": now, "until": until})


async def claim(connection: Connection, webhook_id: str, *, slots: int, now: datetime, until: datetime) -> list[Claim]:
    """Takes up to `slots` deliveries that are due and that nothing earlier of the same user holds up; they are ours until `until`."""
    values = {"id": webhook_id, "slots": slots, "now": now, "until": until, "overtaken_after": OVERTAKEN_AFTER}
    found = [
        Claim(
            webhook_id=webhook_id,
            **row,
        )
        for row in await _CLAIM.rows(connection, values)
    ]
    return sorted(found, key=lambda each: (each.created_at, each.offset))


async def delivered(connection: Connection, taken: Claim, now: datetime) -> bool:
    """The receiver has it. False: the lease had gone to somebody else, who will send it again."""
    ours = await _changed(connection, _DELIVERED, taken.key())
    await _WELL.run(connection, {"id": taken.webhook_id, "now": now, "a_second_ago": now - timedelta(seconds=1)})
    return ours


async def oldest(connection: Connection) -> datetime | None:
    """When the oldest delivery was written that waits; None: none does."""
    moment: datetime | None = await _OLDEST.value(connection, {})
    return moment


async def failed(connection: Connection, taken: Claim, reason: str, *, due_at: datetime, over: bool, now: datetime) -> bool:
    """It is tried again at `due_at`, or never (`over`). False: the lease had gone to somebody else."""
    ours = await _changed(connection, _FAILED, {**taken.key(), "due_at": due_at, "over": over})
    if ours:
        await _HELD_UP.run(connection, {**taken.key(), "due_at": due_at, "overtaken_after": OVERTAKEN_AFTER})
    await _ILL.run(connection, {"id": taken.webhook_id, "reason": reason, "ill": ILL_AFTER, "longest": LONGEST_REST, "now": now})
    return ours


async def clean(connection: Connection, *, pending_before: datetime, failed_before: datetime, now: datetime) -> int:
    """Gives up what is too old, forgets what was given up long ago, and clears away what is left of webhooks that ended."""
    steps: list[tuple[Statement, Values]] = [
        (_GIVE_UP, {"before": pending_before, "batch": _BATCH}),
        (_FORGET, {"before": failed_before, "batch": _BATCH}),
        (_CLEAR, {"batch": _BATCH}),
        (_BURY, {"before": now - _LINGER}),
    ]
    return sum([await step.run(connection, values) for step, values in steps])


async def _changed(connection: Connection, change: Statement, values: Values) -> bool:
    return await change.run(connection, values) > 0
