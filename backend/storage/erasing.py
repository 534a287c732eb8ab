"""Erasing a whole user: every row goes, but for the consent history and what providers are still to be told.

Whoever writes anything of a user does it through the user's row; so once that is gone, no work that was under way brings anything back.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from backend.storage import traffic, users
from backend.storage.statements import Connection, statement

_END_LINKS = statement(
    """
    WITH ended AS (
      DELETE FROM links WHERE user_id = :user_id
      RETURNING org_code, status, consent_tx_id, consent_ends_on, access_token_sealed),
    noted AS (
      INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
      SELECT :user_id, org_code, consent_tx_id, 'revoked', consent_ends_on, :now FROM ended WHERE status <> 'revoked'),
    owed AS (
      INSERT INTO revocations (user_id, org_code, token_sealed, created_at)
      SELECT :user_id, org_code, access_token_sealed, :now FROM ended WHERE access_token_sealed IS NOT NULL
      ON CONFLICT (user_id, org_code) DO UPDATE SET token_sealed = excluded.token_sealed, created_at = excluded.created_at)
    SELECT org_code FROM ended WHERE access_token_sealed IS NOT NULL ORDER BY org_code
    """
)
# Items and consents go with their registrations and refreshes.
_EVERYTHING = ("webhook_deliveries", "batch_refreshes", "assets", "idempotency_keys", "refreshes", "registrations", "outbox", "users")
_ERASE = tuple(statement(f"DELETE FROM {table} WHERE user_id = :user_id") for table in _EVERYTHING)  # noqa: S608  # our own names
_BEGUN = statement(
    """
    INSERT INTO erasures (user_id, created_at) VALUES (:user_id, :now)
    ON CONFLICT (user_id) DO UPDATE SET created_at = excluded.created_at
    """
)
_DONE = statement("DELETE FROM erasures WHERE user_id = :user_id AND created_at = :created_at")
_LEFT = statement("SELECT user_id, created_at FROM erasures WHERE created_at < :before ORDER BY created_at LIMIT :limit")


class Erasure(Struct, frozen=True):
    """A user whose rows are gone, and whose feed may not be."""

    user_id: str
    created_at: datetime


async def erase(connection: Connection, user_id: str, now: datetime, *, traffic_key: str) -> list[str]:
    """Erases every row of this user, whose lock it takes, also if there is no such user. Returns the providers that are to be told.

    `traffic_key`: how traffic names this user (`providers.traffic.user_key`).
    """
    await users.hold(connection, user_id, now)
    told = await _END_LINKS.column(connection, {"user_id": user_id, "now": now})
    for each in _ERASE:
        await each.run(connection, {"user_id": user_id})
    await _BEGUN.run(connection, {"user_id": user_id, "now": now})
    await traffic.forget(connection, traffic_key, now)  # last: sums wait from here to the commit
    return told


async def done(connection: Connection, erasure: Erasure) -> None:
    """The feed is erased, too."""
    await _DONE.run(connection, {"user_id": erasure.user_id, "created_at": erasure.created_at})


async def left(connection: Connection, *, before: datetime, limit: int) -> list[Erasure]:
    """Users whose feed was to be erased before then, oldest first."""
    return [Erasure(**row) for row in await _LEFT.rows(connection, {"before": before, "limit": limit})]
