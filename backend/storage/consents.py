"""Consents as they were asked for and signed, per registration and provider, sealed; and the history that outlives everything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from backend.storage.statements import Connection, Row, statement

_OF_RUN = statement("SELECT * FROM consents WHERE user_id = :user_id AND registration_id = :registration_id AND run = :run")
_SIGNED_PROVIDERS = statement(
    """
    SELECT org_code FROM consents WHERE user_id = :user_id AND registration_id = :registration_id
      AND signed_sealed IS NOT NULL AND ends_on > :today
    """
)
# Steps of a statement.
ASKED = """asked AS (
    INSERT INTO consents (user_id, registration_id, org_code, run, tx_id, ca_code, document_sealed, ends_on, created_at)
    SELECT :user_id, :registration_id, consent.* FROM numbered, jsonb_to_recordset(CAST(:asked AS jsonb)) AS consent(org_code text, run int,
      tx_id text, ca_code text, document_sealed bytea, ends_on date, created_at timestamptz)
    ON CONFLICT (user_id, registration_id, org_code) DO UPDATE SET run = excluded.run, tx_id = excluded.tx_id,
      ca_code = excluded.ca_code, document_sealed = excluded.document_sealed, ends_on = excluded.ends_on,
      created_at = excluded.created_at, signed_sealed = NULL, cert_tx_id = NULL)"""
SIGNED = """signed AS (
    UPDATE consents SET signed_sealed = consent.signed_sealed, cert_tx_id = consent.cert_tx_id
    FROM numbered, jsonb_to_recordset(CAST(:signed AS jsonb)) AS consent(org_code text, signed_sealed bytea, cert_tx_id text)
    WHERE user_id = :user_id AND registration_id = :registration_id AND consents.org_code = consent.org_code)"""


async def asked(connection: Connection, user_id: str, registration_id: str, run: int) -> Sequence[Row]:
    """What the person was asked to sign in this run."""
    values = {"user_id": user_id, "registration_id": registration_id, "run": run}
    return await _OF_RUN.rows(connection, values)


async def signed_providers(connection: Connection, user_id: str, registration_id: str, today: date) -> frozenset[str]:
    """Providers for which a token can be asked without another signature."""
    values = {"user_id": user_id, "registration_id": registration_id, "today": today}
    return frozenset(await _SIGNED_PROVIDERS.column(connection, values))
