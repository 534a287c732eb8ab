"""Many invented links at once, for rehearsals and benchmarks: users, their links, and the history of their consents.

In: rows, some thousands in one statement. Out: how many links were new; what is there stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backend.storage.database import Database
from backend.storage.statements import Connection, statement

LINK_COLUMNS = (
    "user_id",
    "org_code",
    "consent_tx_id",
    "consent_ends_on",
    "access_token_sealed",
    "access_expires_at",
    "refresh_token_sealed",
    "refresh_expires_at",
    "scope",
)
_TYPES = ("text", "text", "text", "date", "bytea", "timestamptz", "bytea", "timestamptz", "text")

_SEED = statement(
    f"""
    WITH given AS (SELECT * FROM unnest({", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in zip(LINK_COLUMNS, _TYPES, strict=True))})
        AS given({", ".join(LINK_COLUMNS)})),
      entered AS (
        INSERT INTO users (user_id, person_sealed, created_at)
        SELECT person.*, :now FROM unnest(CAST(:people AS text[]), CAST(:people_sealed AS bytea[])) AS person ON CONFLICT DO NOTHING),
      linked AS (
        INSERT INTO links ({", ".join(LINK_COLUMNS)}, status, consented_at, created_at, updated_at, notice_on)
        SELECT given.*, 'active', :now, :now, :now, given.consent_ends_on - 30 FROM given ON CONFLICT DO NOTHING
        RETURNING user_id, org_code, consent_tx_id, consent_ends_on)
    INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
    SELECT user_id, org_code, consent_tx_id, 'granted', consent_ends_on, :now FROM linked
    """  # noqa: S608  # constants
)


async def seed(database: Database, people: Mapping[str, bytes], links: Sequence[Sequence[Any]], now: datetime) -> int:
    """How many of `links` (values in the order of `LINK_COLUMNS`) were new. `people`: each user's person, sealed."""
    columns = dict(zip(LINK_COLUMNS, map(list, zip(*links, strict=True)), strict=True))
    values = {**columns, "people": list(people), "people_sealed": list(people.values()), "now": now}

    async def deed(connection: Connection) -> int:
        return await _SEED.run(connection, values)

    return await database.single(deed)
