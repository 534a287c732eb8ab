"""First answers by (user, Idempotency-Key), kept for a day, so that a repeated request is answered byte for byte and done once."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from backend.storage.statements import Connection, statement

KEPT_FOR = timedelta(hours=24)


class FirstAnswer(Struct, frozen=True, kw_only=True):
    """What was answered when the key was new. `body_digest` is the SHA-256 of what was asked."""

    body_digest: bytes
    status: int
    location: str
    body: bytes


_FIND = statement(
    "SELECT body_digest, status, location, body FROM idempotency_keys WHERE user_id = :user_id AND key = :key AND created_at > :since"
)
_KEEP = statement(
    """
    INSERT INTO idempotency_keys (user_id, key, body_digest, status, location, body, created_at)
    VALUES (:user_id, :key, :body_digest, :status, :location, :body, :now)
    ON CONFLICT (user_id, key) DO UPDATE SET body_digest = excluded.body_digest, status = excluded.status,
        location = excluded.location, body = excluded.body, created_at = excluded.created_at
    """
)
_FORGET = statement("DELETE FROM idempotency_keys WHERE created_at <= :before")


async def find(connection: Connection, user_id: str, key: str, now: datetime) -> FirstAnswer | None:
    """The first answer under this key; None: the key is new, or older than a day."""
    row = await _FIND.row(connection, {"user_id": user_id, "key": key, "since": now - KEPT_FOR})
    return FirstAnswer(**row) if row else None


async def keep(connection: Connection, user_id: str, key: str, answer: FirstAnswer, now: datetime) -> None:
    """Keeps the answer in the transaction that does the work. Call it under the user's lock only."""
    values = {"body_digest": answer.body_digest, "status": answer.status, "location": answer.location, "body": answer.body}
    await _KEEP.run(connection, {"user_id": user_id, "key": key, "now": now, **values})


async def forget_old(connection: Connection, now: datetime) -> int:
    """Deletes what nobody may ask for any more; returns how many."""
    return await _FORGET.run(connection, {"before": now - KEPT_FOR})
