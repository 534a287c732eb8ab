"""The users table: one row per person, whose lock brings all that changes a person's data into one order."""

from __future__ import annotations

from datetime import datetime

from backend.storage.statements import Connection, statement

_ENTER = statement(
    """
    INSERT INTO users (user_id, person_sealed, created_at) VALUES (:user_id, :person, :now)
    ON CONFLICT (user_id) DO UPDATE SET person_sealed = excluded.person_sealed
    """
)
_LOCK = statement("SELECT feed_offset FROM users WHERE user_id = :user_id FOR NO KEY UPDATE")
_PERSON = statement("SELECT person_sealed FROM users WHERE user_id = :user_id")


async def enter(connection: Connection, user_id: str, *, person_sealed: bytes, now: datetime) -> None:
    """Makes the user's row, or brings what is known of the person up to date. Holds the row's lock until the commit."""
    await _ENTER.run(connection, {"user_id": user_id, "person": person_sealed, "now": now})


async def lock(connection: Connection, user_id: str) -> int | None:
    """Locks the user's row until the commit and returns the last offset handed out; None: no such user."""
    offset: int | None = await _LOCK.value(connection, {"user_id": user_id})
    return offset


async def person_sealed(connection: Connection, user_id: str) -> bytes | None:
    """What the vault holds of the person; None: no such user."""
    sealed: bytes | None = await _PERSON.value(connection, {"user_id": user_id})
    return sealed
