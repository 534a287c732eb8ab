"""Consents as they were asked for and signed, per registration and provider, sealed; and the history that outlives everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import RowMapping, bindparam, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.storage.tables import consents as table

Values = Mapping[str, Any]  # columns to write

_OF_RUN = text("SELECT * FROM consents WHERE user_id = :user_id AND registration_id = :registration_id AND run = :run")
_SIGNED_PROVIDERS = text(
    """
    SELECT org_code FROM consents WHERE user_id = :user_id AND registration_id = :registration_id
      AND signed_sealed IS NOT NULL AND ends_on > :today
    """
)
_SIGN = (
    update(table)
    .where(
        (table.c.user_id == bindparam("of_user"))
        & (table.c.registration_id == bindparam("of_registration"))
        & (table.c.org_code == bindparam("of_org"))
    )
    .values(signed_sealed=bindparam("signed_sealed"), cert_tx_id=bindparam("cert_tx_id"))
)


async def ask(connection: AsyncConnection, rows: Sequence[Values]) -> None:
    """Writes the consents of a signature request, over those of an earlier run."""
    statement = upsert(table)
    kept = {name: statement.excluded[name] for name in ("run", "tx_id", "ca_code", "document_sealed", "ends_on", "created_at")}
    over = statement.on_conflict_do_update(
        index_elements=["user_id", "registration_id", "org_code"], set_={**kept, "signed_sealed": None, "cert_tx_id": None}
    )
    await connection.execute(over, rows)


async def asked(connection: AsyncConnection, user_id: str, registration_id: str, run: int) -> Sequence[RowMapping]:
    """What the person was asked to sign in this run."""
    values = {"user_id": user_id, "registration_id": registration_id, "run": run}
    return (await connection.execute(_OF_RUN, values)).mappings().all()


async def sign(connection: AsyncConnection, user_id: str, registration_id: str, cert_tx_id: str, signed: Mapping[str, bytes]) -> None:
    """Keeps the sealed signatures by org_code."""
    rows = [
        {"of_user": user_id, "of_registration": registration_id, "of_org": org_code, "signed_sealed": sealed, "cert_tx_id": cert_tx_id}
        for org_code, sealed in signed.items()
    ]
    await connection.execute(_SIGN, rows)


async def signed_providers(connection: AsyncConnection, user_id: str, registration_id: str, today: date) -> frozenset[str]:
    """Providers for which a token can be asked without another signature."""
    values = {"user_id": user_id, "registration_id": registration_id, "today": today}
    return frozenset((await connection.execute(_SIGNED_PROVIDERS, values)).scalars())
