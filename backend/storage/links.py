"""Links: one row per (user, provider) with its consent's end and its sealed tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.storage.tables import links as table

Values = Mapping[str, Any]  # columns to write

_PAPERS = text(
    """
    SELECT u.person_sealed, r.status AS registration_status, r.run AS registration_run, i.status AS item_status, i.run AS item_run,
      c.tx_id, c.document_sealed, c.signed_sealed, c.cert_tx_id, c.ca_code, c.ends_on, c.created_at AS drawn_up_at,
      l.status AS link_status, l.consent_tx_id, l.consent_ends_on, l.consented_at, l.access_token_sealed, l.access_expires_at,
      l.refresh_token_sealed, l.refresh_expires_at, l.scope
    FROM users u
    JOIN registrations r ON r.user_id = u.user_id AND r.id = :registration_id
    JOIN registration_items i ON i.user_id = u.user_id AND i.registration_id = r.id AND i.org_code = :org_code
    LEFT JOIN consents c ON c.user_id = u.user_id AND c.registration_id = r.id AND c.org_code = i.org_code
      AND c.signed_sealed IS NOT NULL AND c.ends_on > :today
    LEFT JOIN links l ON l.user_id = u.user_id AND l.org_code = i.org_code
    WHERE u.user_id = :user_id
    """
)
_USABLE = text(
    """
    SELECT org_code FROM links WHERE user_id = :user_id AND org_code = ANY(:org_codes) AND status = 'active'
      AND consent_ends_on > :today AND refresh_expires_at > :now
    """
)
_GRANTED = text(
    """
    WITH new AS (
      SELECT CAST(:user_id AS text) AS user_id, CAST(:org_code AS text) AS org_code, CAST(:consent_tx_id AS text) AS tx_id)
    INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
    SELECT new.user_id, new.org_code, new.tx_id, 'granted', CAST(:consent_ends_on AS date), CAST(:updated_at AS timestamptz)
    FROM new LEFT JOIN links ON links.user_id = new.user_id AND links.org_code = new.org_code
    WHERE links.consent_tx_id IS DISTINCT FROM new.tx_id
    """
)
_REFRESHED = text("UPDATE links SET last_refreshed_at = :now, updated_at = :now WHERE user_id = :user_id AND org_code = :org_code")


@cache
def _save(columns: tuple[str, ...]) -> Insert:
    """Writing the statement takes as long as running it."""
    statement = upsert(table)
    changed = {name: statement.excluded[name] for name in columns if name not in {"user_id", "org_code", "created_at"}}
    return statement.on_conflict_do_update(index_elements=["user_id", "org_code"], set_=changed)


async def save(connection: AsyncConnection, row: Values) -> None:
    """Makes or replaces the one link of (user, provider), and notes a new consent in the history. When it was made is kept."""
    await connection.execute(_GRANTED, row)
    await connection.execute(_save(tuple(row)), row)


async def papers(connection: AsyncConnection, user_id: str, registration_id: str, org_code: str, today: date) -> RowMapping | None:
    """Everything that a token for this provider may be got with, in one row: who, how far, the signed consent, the link.

    The columns of a consent or a link that is not there are NULL. None: this user has no such registration, or it has no such provider.
    """
    values = {"user_id": user_id, "registration_id": registration_id, "org_code": org_code, "today": today}
    return (await connection.execute(_PAPERS, values)).mappings().one_or_none()


async def usable(connection: AsyncConnection, user_id: str, org_codes: Sequence[str], *, today: date, now: datetime) -> frozenset[str]:
    """Providers whose link can be read without another signature."""
    values = {"user_id": user_id, "org_codes": list(org_codes), "today": today, "now": now}
    return frozenset((await connection.execute(_USABLE, values)).scalars())


async def refreshed(connection: AsyncConnection, user_id: str, org_code: str, now: datetime) -> None:
    """Notes that everything was read."""
    await connection.execute(_REFRESHED, {"user_id": user_id, "org_code": org_code, "now": now})
