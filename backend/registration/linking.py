"""A link's tokens: found, asked for on a signed consent, refreshed; sealed in the link's row.

In: a registration and a provider. Out: a `Grant` to read with. One live token per (user, provider): a new one replaces the row, and whoever
still holds the old one looks here again.
"""

from __future__ import annotations

from datetime import date, timedelta

from msgspec import Struct
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.clock import KST, Clock
from backend.errors import ConsentRequired
from backend.providers.contract import Person, ProviderClient, SignedConsent, TokenPair
from backend.registration.consenting import Consenting
from backend.registration.model import Registration
from backend.registration.people import People
from backend.storage import consents, links
from backend.storage.database import Database
from backend.storage.vault import Vault

SPARE = timedelta(minutes=5)  # a token that ends sooner is refreshed before it is used

ACTIVE = "active"


class Grant(Struct, frozen=True, kw_only=True):
    """A token with the consent that it was given for."""

    tokens: TokenPair
    consent_tx_id: str
    consent_ends_on: date
    fresh: bool  # whether the link's row does not hold it yet


class Linking:
    """Finds a token for one provider of one registration. One per process, made in `services.py`."""

    def __init__(self, *, database: Database, vault: Vault, people: People, consenting: Consenting, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._people = people
        self._consenting = consenting
        self._clock = clock

    async def grant(self, registration: Registration, org_code: str, client: ProviderClient) -> Grant:
        """A token to read with. A consent signed for this registration counts before a link of earlier days.

        Raises `ConsentRequired` when the person must sign (again), or what the provider's token endpoint did.
        """
        user_id, now = registration.user_id, self._clock.now()
        today = now.astimezone(KST).date()
        async with self._database.reading() as connection:
            signed = await self._consenting.signed(connection, registration, org_code, today)
            link = await links.find(connection, user_id, org_code)
            person = await self._people.person(connection, user_id)
        if signed is not None and (link is None or link["consent_tx_id"] != signed.tx_id):
            return await self._asked(person, signed, client)
        if link is None or link["status"] != ACTIVE or link["consent_ends_on"] <= today:
            raise ConsentRequired(org_code, "no link and no consent")
        grant = self._opened(link)
        if grant.tokens.access_expires_at - now < SPARE:
            return await self.refreshed(grant, client)
        return grant

    async def renewed(self, registration: Registration, org_code: str, worn: Grant, client: ProviderClient) -> Grant:
        """After the provider did not take `worn`: the token that replaced it meanwhile, or a refreshed one. Raises like `grant`."""
        async with self._database.reading() as connection:
            link = await links.find(connection, registration.user_id, org_code)
        if link is not None and link["status"] == ACTIVE:
            grant = self._opened(link)
            if grant.tokens.access_token != worn.tokens.access_token:
                return grant
        return await self.refreshed(worn, client)

    async def refreshed(self, grant: Grant, client: ProviderClient) -> Grant:
        """The same link with a new access token."""
        tokens = await client.refresh_token(grant.tokens, self._clock.now())
        return Grant(tokens=tokens, consent_tx_id=grant.consent_tx_id, consent_ends_on=grant.consent_ends_on, fresh=True)

    async def keep(self, connection: AsyncConnection, user_id: str, org_code: str, grant: Grant) -> None:
        """Writes a fresh grant into the link's row, in the caller's transaction, under the user's lock."""
        now = self._clock.now()
        before = await links.find(connection, user_id, org_code)
        if before is None or before["consent_tx_id"] != grant.consent_tx_id:
            await consents.remember(
                connection,
                user_id,
                org_code=org_code,
                tx_id=grant.consent_tx_id,
                happened="granted",
                ends_on=grant.consent_ends_on,
                now=now,
            )
        tokens = grant.tokens
        row = {
            "user_id": user_id,
            "org_code": org_code,
            "status": ACTIVE,
            "consent_tx_id": grant.consent_tx_id,
            "consent_ends_on": grant.consent_ends_on,
            "access_token_sealed": self._vault.seal(tokens.access_token.encode(), *_token("access", user_id, org_code)),
            "access_expires_at": tokens.access_expires_at,
            "refresh_token_sealed": self._vault.seal(tokens.refresh_token.encode(), *_token("refresh", user_id, org_code)),
            "refresh_expires_at": tokens.refresh_expires_at,
            "scope": tokens.scope,
            "created_at": now,
            "updated_at": now,
        }
        await links.save(connection, row)

    async def _asked(self, person: Person, signed: SignedConsent, client: ProviderClient) -> Grant:
        tokens = await client.request_token(person, signed, self._clock.now())
        return Grant(tokens=tokens, consent_tx_id=signed.tx_id, consent_ends_on=signed.ends_on, fresh=True)

    def _opened(self, link: RowMapping) -> Grant:
        user_id, org_code = link["user_id"], link["org_code"]
        tokens = TokenPair(
            access_token=self._vault.open(link["access_token_sealed"], *_token("access", user_id, org_code)).decode(),
            access_expires_at=link["access_expires_at"],
            refresh_token=self._vault.open(link["refresh_token_sealed"], *_token("refresh", user_id, org_code)).decode(),
            refresh_expires_at=link["refresh_expires_at"],
            scope=link["scope"],
        )
        return Grant(tokens=tokens, consent_tx_id=link["consent_tx_id"], consent_ends_on=link["consent_ends_on"], fresh=False)


def _token(which: str, user_id: str, org_code: str) -> tuple[str, ...]:
    return ("links", which, user_id, org_code)
