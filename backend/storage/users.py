"""The users table: one row per person, whose lock brings all that changes a person's data into one order."""

from __future__ import annotations

from datetime import datetime

from backend.storage.statements import Connection, statement

# If there is a `kept` key: makes the user's row, or brings what is known of the person up to date, and numbers facts
# (see `outbox.publishing`).
ENTERED = """numbered AS (
    INSERT INTO users AS known (user_id, person_sealed, created_at, feed_offset)
    SELECT :user_id, CAST(:person AS bytea), CAST(:now AS timestamptz), CAST(:count AS bigint) FROM kept
    ON CONFLICT (user_id) DO UPDATE SET person_sealed = excluded.person_sealed, feed_offset = known.feed_offset + :count
    RETURNING feed_offset - :count AS before)"""
# The row that is made for the lock's sake: whoever enters meanwhile waits for its transaction's end.
_HOLD = statement(
    """
    INSERT INTO users AS known (user_id, created_at) VALUES (:user_id, :now)
    ON CONFLICT (user_id) DO UPDATE SET feed_offset = known.feed_offset
    """
)
_LOCK = statement("SELECT feed_offset FROM users WHERE user_id = :user_id FOR NO KEY UPDATE")
_PERSON = statement("SELECT person_sealed FROM users WHERE user_id = :user_id")


async def lock(connection: Connection, user_id: str) -> int | None:
    """Locks the user's row until the commit and returns the last offset handed out; None: no such user."""
    offset: int | None = await _LOCK.value(connection, {"user_id": user_id})
    return offset


async def hold(connection: Connection, user_id: str, now: datetime) -> None:
    """Locks the user's row until the commit, and makes it if there is none: nobody is written of meanwhile, known or not."""
    await _HOLD.run(connection, {"user_id": user_id, "now": now})


async def person_sealed(connection: Connection, user_id: str) -> bytes | None:
    """What the vault holds of the person; None: no such user."""
    sealed: bytes | None = await _PERSON.value(connection, {"user_id": user_id})
    return sealed
