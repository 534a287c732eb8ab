"""Revocations: links that their person ended, until the provider has been told."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from backend.storage.statements import Connection, Row, statement

_FIND = statement("SELECT token_sealed, created_at FROM revocations WHERE user_id = :user_id AND org_code = :org_code")
_OWE = statement(
    """
    INSERT INTO revocations (user_id, org_code, token_sealed, created_at) VALUES (:user_id, :org_code, :token_sealed, :now)
    ON CONFLICT (user_id, org_code) DO UPDATE SET token_sealed = excluded.token_sealed, created_at = excluded.created_at
    """
)
_DONE = statement("DELETE FROM revocations WHERE user_id = :user_id AND org_code = :org_code AND created_at = :created_at")
_LEFT = statement(
    """
    SELECT user_id, org_code FROM revocations WHERE created_at < :before
    ORDER BY created_at, user_id, org_code LIMIT :limit OFFSET :skip
    """
)


class Owed(Struct, frozen=True):
    """A provider that is to be told."""

    user_id: str
    org_code: str


async def find(connection: Connection, user_id: str, org_code: str) -> Row | None:
    """`token_sealed` (NULL: there is nothing to tell the provider) and `created_at`; None: nothing is owed."""
    return await _FIND.row(connection, {"user_id": user_id, "org_code": org_code})


async def owe(connection: Connection, user_id: str, org_code: str, token_sealed: bytes, now: datetime) -> None:
    """A token that no link holds is to end. It takes the place of one that is owed already: the provider dropped that when it gave this."""
    await _OWE.run(connection, {"user_id": user_id, "org_code": org_code, "token_sealed": token_sealed, "now": now})


async def done(connection: Connection, user_id: str, org_code: str, created_at: datetime) -> None:
    """The provider knows, unless the person ended another link since `created_at`."""
    await _DONE.run(connection, {"user_id": user_id, "org_code": org_code, "created_at": created_at})


async def left(connection: Connection, *, before: datetime, limit: int, skip: int = 0) -> list[Owed]:
    """What was owed before then, oldest first, but for the first `skip`."""
    return [Owed(**row) for row in await _LEFT.rows(connection, {"before": before, "limit": limit, "skip": skip})]
