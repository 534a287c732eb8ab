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

    def columns(self, key: str, now: datetime) -> dict[str, object]:
        """The values that `KEPT` wants beside the user and the moment."""
        answer = {"body_digest": self.body_digest, "answer_status": self.status, "location": self.location, "body": self.body}
        return {"key": key, "kept_since": now - KEPT_FOR, **answer}


_FIND = statement(
    "SELECT body_digest, status, location, body FROM idempotency_keys WHERE user_id = :user_id AND key = :key AND created_at > :since"
)
# The first step of a statement that is to be done once per key; its other steps read FROM kept. After a day a key is new again.
KEPT = """kept AS (
    INSERT INTO idempotency_keys AS first (user_id, key, body_digest, status, location, body, created_at)
    VALUES (:user_id, :key, :body_digest, :answer_status, :location, :body, :now)
    ON CONFLICT (user_id, key) DO UPDATE SET body_digest = excluded.body_digest, status = excluded.status,
        location = excluded.location, body = excluded.body, created_at = excluded.created_at
    WHERE first.created_at <= :kept_since
    RETURNING true)"""
NO_KEY = "kept AS (SELECT true)"
_FORGET = statement("DELETE FROM idempotency_keys WHERE created_at BETWEEN '-infinity' AND :before")


async def find(connection: Connection, user_id: str, key: str, now: datetime) -> FirstAnswer | None:
    """The first answer under this key; None: the key is new, or older than a day."""
    row = await _FIND.row(connection, {"user_id": user_id, "key": key, "since": now - KEPT_FOR})
    return FirstAnswer(**row) if row else None


async def forget_old(connection: Connection, now: datetime) -> int:
    """Deletes what nobody may ask for any more; returns how many."""
    return await _FORGET.run(connection, {"before": now - KEPT_FOR})
