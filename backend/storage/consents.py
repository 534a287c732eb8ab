"""Consents as they were asked for and signed, per registration and provider, sealed; and the history that outlives everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from backend.storage.statements import Connection, Row, Values, statement

_OF_RUN = statement("SELECT * FROM consents WHERE user_id = :user_id AND registration_id = :registration_id AND run = :run")
_SIGNED_PROVIDERS = statement(
    """
    SELECT org_code FROM consents WHERE user_id = :user_id AND registration_id = :registration_id
      AND signed_sealed IS NOT NULL AND ends_on > :today
    """
)
_ASK = statement(
    """
    INSERT INTO consents (user_id, registration_id, org_code, run, tx_id, ca_code, document_sealed, ends_on, created_at)
    VALUES (:user_id, :registration_id, :org_code, :run, :tx_id, :ca_code, :document_sealed, :ends_on, :created_at)
    ON CONFLICT (user_id, registration_id, org_code) DO UPDATE SET run = excluded.run, tx_id = excluded.tx_id,
      ca_code = excluded.ca_code, document_sealed = excluded.document_sealed, ends_on = excluded.ends_on,
      created_at = excluded.created_at, signed_sealed = NULL, cert_tx_id = NULL
    """
)
_SIGN = statement(
    """
    UPDATE consents SET signed_sealed = signed.sealed, cert_tx_id = :cert_tx_id
    FROM unnest(CAST(:org_codes AS text[]), CAST(:sealed AS bytea[])) AS signed(org_code, sealed)
    WHERE user_id = :user_id AND registration_id = :registration_id AND consents.org_code = signed.org_code
    """
)


async def ask(connection: Connection, rows: Sequence[Values]) -> None:
    """Writes the consents of a signature request, over those of an earlier run."""
    await _ASK.run_each(connection, rows)


async def asked(connection: Connection, user_id: str, registration_id: str, run: int) -> Sequence[Row]:
    """What the person was asked to sign in this run."""
    values = {"user_id": user_id, "registration_id": registration_id, "run": run}
    return await _OF_RUN.rows(connection, values)


async def sign(connection: Connection, user_id: str, registration_id: str, cert_tx_id: str, signed: Mapping[str, bytes]) -> None:
    """Keeps the sealed signatures by org_code."""
    values = {"org_codes": list(signed), "sealed": list(signed.values()), "cert_tx_id": cert_tx_id}
    await _SIGN.run(connection, {"user_id": user_id, "registration_id": registration_id, **values})


async def signed_providers(connection: Connection, user_id: str, registration_id: str, today: date) -> frozenset[str]:
    """Providers for which a token can be asked without another signature."""
    values = {"user_id": user_id, "registration_id": registration_id, "today": today}
    return frozenset(await _SIGNED_PROVIDERS.column(connection, values))
