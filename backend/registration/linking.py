"""A link's tokens: found, asked for on a signed consent, refreshed; sealed in the link's row.

In: a registration and a provider. Out: a `Grant` to read with. There is one live token per (user, provider), and a provider drops
the old one when it gives a new one. So tokens change in single flight, and a new one is committed before anybody reads with it:
whoever still holds the old one finds its successor in the row.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from backend import failpoints
from backend.clock import KST, Clock
from backend.errors import ConsentRequired
from backend.failpoints import Failpoint
from backend.providers.contract import Person, ProviderClient, SignedConsent, TokenPair
from backend.registration.consenting import Consenting
from backend.registration.flights import SingleFlight
from backend.registration.model import Registration
from backend.registration.people import People
from backend.storage import consents, links, users
from backend.storage.database import Database
from backend.storage.sealed import ACCESS_TOKEN, REFRESH_TOKEN
from backend.storage.vault import Vault

SPARE = timedelta(minutes=5)  # a token that ends sooner is refreshed before it is used

ACTIVE = "active"


class Grant(Struct, frozen=True, kw_only=True):
    """A token with the consent that it was given for."""

    tokens: TokenPair
    consent_tx_id: str
    consent_ends_on: date
    consented_at: datetime  # when the consent was drawn up


class Papers(Struct, frozen=True):
    """What there is to get a token with."""

    person: Person
    signed: SignedConsent | None  # None: nothing was signed in this registration, or it has ended
    drawn_up_at: datetime | None  # of `signed`
    grant: Grant | None  # None: there is no active link

    def usable_grant(self) -> Grant | None:
        """The link's token, unless this registration brings a later consent: then the provider is to have that."""
        if self.grant is None or (self.drawn_up_at is not None and self.grant.consented_at < self.drawn_up_at):
            return None
        return self.grant


class Linking:
    """Finds a token for one provider of one registration. One per process, made in `services.py`."""

    def __init__(
        self, *, database: Database, vault: Vault, people: People, consenting: Consenting, flights: SingleFlight, clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._people = people
        self._consenting = consenting
        self._flights = flights
        self._clock = clock

    async def grant(self, registration: Registration, org_code: str, client: ProviderClient) -> Grant:
        """A token to read with. Raises `ConsentRequired` when the person must sign (again), or what the token endpoint did."""
        found = (await self._papers(registration, org_code)).usable_grant()
        if found is not None and not self._ends_soon(found):
            return found
        async with self._flights.alone(registration.user_id, org_code):
            papers = await self._papers(registration, org_code)
            found = papers.usable_grant()
            if found is None:
                return await self._asked(registration.user_id, org_code, papers, client)
            if self._ends_soon(found):
                return await self._refreshed(registration.user_id, org_code, found, client)
            return found

    async def renewed(self, registration: Registration, org_code: str, worn: Grant, client: ProviderClient) -> Grant:
        """After the provider did not take `worn`: the token that replaced it meanwhile, or a refreshed one. Raises like `grant`."""
        async with self._flights.alone(registration.user_id, org_code):
            found = (await self._papers(registration, org_code)).grant
            if found is not None and found.tokens.access_token != worn.tokens.access_token:
                return found
            return await self._refreshed(registration.user_id, org_code, worn, client)

    def _ends_soon(self, grant: Grant) -> bool:
        return grant.tokens.access_expires_at - self._clock.now() < SPARE

    async def _asked(self, user_id: str, org_code: str, papers: Papers, client: ProviderClient) -> Grant:
        if papers.signed is None or papers.drawn_up_at is None:
            raise ConsentRequired(org_code, "no link and no consent")
        tokens = await client.request_token(papers.person, papers.signed, self._clock.now())
        failpoints.reached(Failpoint.TOKEN_ANSWERED)
        signed = papers.signed
        grant = Grant(tokens=tokens, consent_tx_id=signed.tx_id, consent_ends_on=signed.ends_on, consented_at=papers.drawn_up_at)
        return await self._kept(user_id, org_code, grant, granted=True)

    async def _refreshed(self, user_id: str, org_code: str, grant: Grant, client: ProviderClient) -> Grant:
        tokens = await client.refresh_token(grant.tokens, self._clock.now())
        return await self._kept(user_id, org_code, replace(grant, tokens=tokens), granted=False)

    async def _papers(self, registration: Registration, org_code: str) -> Papers:
        user_id, today = registration.user_id, self._clock.now().astimezone(KST).date()
        async with self._database.reading() as connection:
            person = await self._people.person(connection, user_id)
            signed = await self._consenting.signed(connection, registration, org_code, today)
            link = await links.find(connection, user_id, org_code)
        active = link is not None and link["status"] == ACTIVE and link["consent_ends_on"] > today
        grant = self._opened(link) if link is not None and active else None
        return Papers(person, signed.consent if signed else None, signed.drawn_up_at if signed else None, grant)

    async def _kept(self, user_id: str, org_code: str, grant: Grant, *, granted: bool) -> Grant:
        """Commits a new token, and a new consent into the history."""
        now, tokens = self._clock.now(), grant.tokens
        row = {
            "user_id": user_id,
            "org_code": org_code,
            "status": ACTIVE,
            "consent_tx_id": grant.consent_tx_id,
            "consent_ends_on": grant.consent_ends_on,
            "consented_at": grant.consented_at,
            "access_token_sealed": self._vault.seal(tokens.access_token.encode(), *ACCESS_TOKEN.row(user_id, org_code)),
            "access_expires_at": tokens.access_expires_at,
            "refresh_token_sealed": self._vault.seal(tokens.refresh_token.encode(), *REFRESH_TOKEN.row(user_id, org_code)),
            "refresh_expires_at": tokens.refresh_expires_at,
            "scope": tokens.scope,
            "created_at": now,
            "updated_at": now,
        }

        async def deed(connection: AsyncConnection) -> None:
            await users.lock(connection, user_id)
            await links.save(connection, row)
            if granted:
                history = consents.Happened(grant.consent_tx_id, "granted", grant.consent_ends_on)
                await consents.remember(connection, user_id, org_code, history, now)

        await self._database.transaction(deed)
        return grant

    def _opened(self, link: RowMapping) -> Grant:
        user_id, org_code = link["user_id"], link["org_code"]
        tokens = TokenPair(
            access_token=self._vault.open(link["access_token_sealed"], *ACCESS_TOKEN.row(user_id, org_code)).decode(),
            access_expires_at=link["access_expires_at"],
            refresh_token=self._vault.open(link["refresh_token_sealed"], *REFRESH_TOKEN.row(user_id, org_code)).decode(),
            refresh_expires_at=link["refresh_expires_at"],
            scope=link["scope"],
        )
        return Grant(
            tokens=tokens, consent_tx_id=link["consent_tx_id"], consent_ends_on=link["consent_ends_on"], consented_at=link["consented_at"]
        )
