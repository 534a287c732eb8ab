"""Rows that tests of the batch's shells begin with: providers, and links at them that nobody needs to be able to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg

from backend.clock import KST
from backend.events import Industry
from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import Directory
from backend.storage.database import Database
from backend.storage.statements import statement

BANK, CARD = "A1MOABK001", "B1MOACD001"
ONE = datetime(2026, 11, 23, 1, tzinfo=KST)  # Monday: the window opens
_CA = CertificationAuthority(org_code="CAMOA00001", name="CA", base_url="https://ca.example")

_LINKS = statement(
    """
    WITH entered AS (
      INSERT INTO users (user_id, created_at) SELECT 'u-' || number, :now FROM generate_series(CAST(:first AS int), :last) AS number
      ON CONFLICT DO NOTHING)
    INSERT INTO links (user_id, org_code, status, consent_tx_id, consent_ends_on, consented_at, scope, created_at, updated_at, due_on)
    SELECT 'u-' || number, :org_code, 'active', 'c', DATE '2030-01-01', :now, '', :now, :now, :due_on
    FROM generate_series(CAST(:first AS int), :last) AS number
    """
)


def provider(org_code: str = BANK, **more: Any) -> Provider:
    given: dict[str, Any] = {"transfer_windows": ("0100:0700",), "industry": Industry.BANK, "base_url": f"https://{org_code}.example"}
    return Provider(org_code=org_code, name=org_code, **given | more)


def directory(*providers: Provider) -> Directory:
    return Directory(_CA, {each.org_code: each for each in providers or (provider(),)})


async def linked(
    database: Database, links: int, *, org_code: str = BANK, due_on: date = date(2000, 1, 1), now: datetime = ONE, first: int = 1
) -> None:
    """People `u-<first>` and so on, each with one link, in this order."""
    async with database.reading() as connection:
        values = {"org_code": org_code, "first": first, "last": first + links - 1, "due_on": due_on, "now": now - timedelta(days=30)}
        await _LINKS.run(connection, values)


async def ran(database: Database, sql: str, *values: object) -> Sequence[asyncpg.Record]:
    """What a bare statement brings; `$1` and so on are its values."""
    async with database.reading() as connection:
        return await connection.fetch(sql, *values)
