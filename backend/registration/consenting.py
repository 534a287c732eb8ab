"""Consents from the draft to the signature: drawn up, kept sealed while the person signs, handed out to whoever asks for a token.

In: a registration. Out: `Consent` and `SignedConsent` values. Their documents and signatures lie sealed, each under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct

from backend.events import ProviderStatus
from backend.providers.consents import consent_for
from backend.providers.contract import Consent, SignedConsent
from backend.providers.directory import Directory
from backend.providers.ids import Serials
from backend.registration.model import Registration
from backend.storage import consents
from backend.storage.sealed import CONSENT_DOCUMENT, CONSENT_SIGNATURE
from backend.storage.statements import Connection, Row, Values
from backend.storage.vault import Vault


class Drawn(Struct, frozen=True):
    """A signed consent, and when it was drawn up."""

    consent: SignedConsent
    drawn_up_at: datetime


class Consenting:
    """Draws up, keeps and hands out consents. `operator`: our own organisation code."""

    def __init__(self, *, vault: Vault, directory: Callable[[], Directory], operator: str, serials: Serials) -> None:
        self._vault = vault
        self._directory = directory
        self._operator = operator
        self._serials = serials

    def drawn_up(self, registration: Registration, now: datetime) -> tuple[Consent, ...]:
        """What the person is to sign in this run: one consent per waiting provider."""
        directory = self._directory()
        chosen = (directory.provider(item.org_code) for item in registration.items if item.status is ProviderStatus.WAITING)
        return tuple(
            consent_for(provider, operator=self._operator, ca=directory.ca.org_code, now=now, serial=self._serials.next())
            for provider in chosen
            if provider is not None
        )

    def asked(self, registration: Registration, drawn_up: tuple[Consent, ...], now: datetime) -> tuple[Values, ...]:
        """What was sent to the CA, as rows to be kept."""
        ca_code = self._directory().ca.org_code
        return tuple(
            {
                "org_code": consent.org_code,
                "run": registration.run,
                "tx_id": consent.tx_id,
                "ca_code": ca_code,
                "document_sealed": self._vault.seal(consent.document.encode(), *CONSENT_DOCUMENT.row(registration.user_id, consent.tx_id)),
                "ends_on": consent.ends_on,
                "created_at": now,
            }
            for consent in drawn_up
        )

    async def kept(self, connection: Connection, registration: Registration) -> tuple[Consent, ...]:
        """What the person was asked to sign in this run."""
        rows = await consents.asked(connection, registration.user_id, registration.id, registration.run)
        return tuple(self._consent(row) for row in rows)

    def signed(self, registration: Registration, cert_tx_id: str, signatures: Mapping[str, str]) -> tuple[Values, ...]:
        """The signatures by org_code, as rows to be kept."""
        user_id, registration_id = registration.user_id, registration.id
        sealed = {
            code: self._vault.seal(text.encode(), *CONSENT_SIGNATURE.row(user_id, registration_id, code))
            for code, text in signatures.items()
        }
        return tuple({"org_code": code, "signed_sealed": value, "cert_tx_id": cert_tx_id} for code, value in sealed.items())

    def drawn(self, user_id: str, registration_id: str, org_code: str, row: Row) -> Drawn:
        """What a token can be asked for with, from a row of `storage.links.papers` that has a signed consent."""
        signature = CONSENT_SIGNATURE.row(user_id, registration_id, org_code)
        signed = SignedConsent(
            org_code=org_code,
            tx_id=row["tx_id"],
            document=self._document(user_id, row),
            ends_on=row["ends_on"],
            signed_consent=self._vault.open(row["signed_sealed"], *signature).decode(),
            cert_tx_id=row["cert_tx_id"],
            ca_code=row["ca_code"],
        )
        return Drawn(signed, row["drawn_up_at"])

    def _consent(self, row: Row) -> Consent:
        document = self._document(row["user_id"], row)
        return Consent(org_code=row["org_code"], tx_id=row["tx_id"], document=document, ends_on=row["ends_on"])

    def _document(self, user_id: str, row: Row) -> str:
        return self._vault.open(row["document_sealed"], *CONSENT_DOCUMENT.row(user_id, row["tx_id"])).decode()
