"""A link's tokens: found, asked for on a signed consent, refreshed; sealed in the link's row.

In: a registration and a provider. Out: a `Grant` to read with. There is one live token per (user, provider), and a provider drops
the old one when it gives a new one. So tokens change in single flight, which ends when the new one is committed, with the first that was
read with it: whoever still holds the old one waits for the flight and finds its successor in the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from backend import failpoints
from backend.clock import KST, Clock
from backend.coalescing import Coalesced
from backend.errors import ConsentRequired, EngineUnavailable
from backend.events import ProviderStatus, RegistrationStatus
from backend.failpoints import Failpoint
from backend.providers.contract import Person, ProviderClient, Timestamps, TokenPair
from backend.registration.consenting import Consenting, Drawn
from backend.registration.decisions import Progress
from backend.registration.people import People
from backend.storage import links, revocations
from backend.storage.database import Database
from backend.storage.sealed import ACCESS_TOKEN, REFRESH_TOKEN
from backend.storage.statements import Row, Values
from backend.storage.vault import Vault

SPARE = timedelta(minutes=5)  # a token that ends sooner is refreshed before it is used

ACTIVE, REVOKED = "active", "revoked"
WRITTEN_WITHIN = 30.0  # seconds for which a new token is not given up while PostgreSQL is away
AGAIN_AFTER = 0.5  # seconds
MOST_AT_ONCE = 100  # papers that are read by one statement


class Grant(Struct, frozen=True, kw_only=True):
    """A token with the consent that it was given for."""

    tokens: TokenPair
    consent_tx_id: str
    consent_ends_on: date
    consented_at: datetime  # when the consent was drawn up
    fresh: bool = False  # whether the provider has just given it, and the link's row does not hold it yet
    begins_anew: bool = False  # whether the link was revoked before it was asked for: if that happened since, it is not kept

    def read(self, org_code: str, timestamps: Timestamps) -> Values:
        """That everything was read with it, as the link's row is to hold it."""
        return {"org_code": org_code, "consent_tx_id": self.consent_tx_id, "search_timestamps": timestamps.reached}


class Held(Struct, frozen=True):
    """An active link as its row holds it, outside of any registration."""

    grant: Grant
    timestamps: Timestamps  # to begin the next reading with


class Papers(Struct, frozen=True):
    """What there is to get a token with, and how far the provider is."""

    org_code: str
    progress: Progress
    person: Person
    drawn: Drawn | None  # None: nothing was signed in this registration, or it has ended
    grant: Grant | None  # None: there is no active link
    link_status: str | None  # None: there never was a link

    def usable_grant(self) -> Grant | None:
        """The link's token, unless this registration brings a later consent: then the provider is to have that."""
        if self.grant is None or (self.drawn is not None and self.grant.consented_at < self.drawn.drawn_up_at):
            return None
        return self.grant


class Linking:
    """Finds a token for one provider of one registration. One per process, made in `hands.py`.

    Call `grant` and `renewed` in the link's flight, with papers that were read in it, and end the flight when a fresh grant is kept.
    """

    def __init__(self, *, database: Database, vault: Vault, people: People, consenting: Consenting, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._people = people
        self._consenting = consenting
        self._clock = clock
        self._rows = Coalesced(self._read, most=MOST_AT_ONCE)

    async def papers(self, user_id: str, registration_id: str, org_code: str) -> Papers | None:
        """None: this user has no such registration, or it has no such provider."""
        today, row = await self._rows(links.Asked(user_id, registration_id, org_code))
        if row is None:
            return None
        active = row["link_status"] == ACTIVE and row["consent_ends_on"] > today
        return Papers(
            org_code=org_code,
            progress=Progress(
                RegistrationStatus(row["registration_status"]), row["registration_run"], ProviderStatus(row["item_status"]), row["item_run"]
            ),
            person=self._people.opened(user_id, row["person_sealed"]),
            drawn=self._consenting.drawn(user_id, registration_id, org_code, row) if row["tx_id"] else None,
            grant=self._opened(user_id, org_code, row) if active else None,
            link_status=row["link_status"],
        )

    async def _read(self, asked: Sequence[links.Asked]) -> list[tuple[date, Row | None]]:
        """The jobs of a registration begin together, and read together. With the day by which the papers are good."""
        today = self._clock.now().astimezone(KST).date()
        async with self._database.reading() as connection:
            return [(today, row) for row in await links.papers(connection, asked, today)]

    async def grant(self, papers: Papers, client: ProviderClient) -> Grant:
        """A token to read with. Raises `ConsentRequired` when the person must sign (again), or what the token endpoint did."""
        found = papers.usable_grant()
        if found is None:
            return await self._asked(papers, client)
        if self.is_about_to_end(found):
            return await self._refreshed(found, client)
        return found

    async def renewed(self, papers: Papers, worn: Grant, client: ProviderClient) -> Grant:
        """After the provider did not take `worn`: the token that replaced it meanwhile, or a refreshed one. Raises like `grant`."""
        return await self._renewed(papers.grant, worn, client)

    async def held(self, user_id: str, org_code: str) -> Held | None:
        """None: there is no active link whose consent is still good."""
        async with self._database.reading() as connection:
            row = await links.held(connection, user_id, org_code)
        return None if row is None else self.held_in(row)

    def held_in(self, row: Row) -> Held | None:
        """A whole row of `links`, opened. None: it is not active, or its consent is no longer good."""
        if row["status"] != ACTIVE or row["consent_ends_on"] <= self._clock.now().astimezone(KST).date():
            return None
        return Held(self._opened(row["user_id"], row["org_code"], row), Timestamps(row["search_timestamps"]))

    async def fit(self, user_id: str, org_code: str, held: Held, worn: Grant | None, client: ProviderClient) -> Grant:
        """A token of a held link to read with, committed if it is new. Call it in the link's flight. Raises like `grant`."""
        grant = held.grant
        if worn is not None:
            grant = await self._renewed(grant, worn, client)
        elif self.is_about_to_end(grant):
            grant = await self._refreshed(grant, client)
        if grant.fresh and not await self._written(user_id, self.kept(user_id, org_code, grant)):
            await self.disown(user_id, org_code, grant)
            raise ConsentRequired(org_code, "the link ended")
        return grant

    async def _written(self, user_id: str, link: Values) -> bool:
        """False: there is no such link any more. A provider drops the old tokens when it gives new ones, and perhaps both: whoever has no
        more time, or no PostgreSQL for a moment, must not lose them, or the link is lost with them.
        """
        until = self._clock.monotonic() + WRITTEN_WITHIN
        while True:
            writing = asyncio.create_task(self._database.single(lambda connection: links.renew(connection, user_id, link)))
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])  # in the link's flight still
                raise
            except EngineUnavailable:
                if self._clock.monotonic() >= until:
                    raise
            await asyncio.sleep(AGAIN_AFTER)

    def is_about_to_end(self, grant: Grant) -> bool:
        """Whether its token is to be refreshed before it is used."""
        return grant.tokens.access_expires_at - self._clock.now() < SPARE

    async def _renewed(self, known: Grant | None, worn: Grant, client: ProviderClient) -> Grant:
        if known is not None and known.tokens.access_token != worn.tokens.access_token:
            return known
        return await self._refreshed(worn, client)

    async def _asked(self, papers: Papers, client: ProviderClient) -> Grant:
        if papers.drawn is None:
            raise ConsentRequired(papers.org_code, "no link and no consent")
        signed = papers.drawn.consent
        tokens = await client.request_token(papers.person, signed, self._clock.now())
        failpoints.reached(Failpoint.TOKEN_ANSWERED)
        drawn_up_at = papers.drawn.drawn_up_at
        return Grant(
            tokens=tokens,
            consent_tx_id=signed.tx_id,
            consent_ends_on=signed.ends_on,
            consented_at=drawn_up_at,
            fresh=True,
            begins_anew=papers.link_status == REVOKED,
        )

    async def _refreshed(self, grant: Grant, client: ProviderClient) -> Grant:
        tokens = await client.refresh_token(grant.tokens, self._clock.now())
        return replace(grant, tokens=tokens, fresh=True)

    def kept(self, user_id: str, org_code: str, grant: Grant) -> Values:
        """A fresh grant, as the link's row is to hold it."""
        now, tokens = self._clock.now(), grant.tokens
        return {
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
            "updated_at": now,
            "begins_anew": grant.begins_anew,
        }

    async def disown(self, user_id: str, org_code: str, grant: Grant) -> None:
        """The provider is to end a fresh grant that no link can hold any more. Call it in the link's flight."""
        sealed, now = self._vault.seal(grant.tokens.access_token.encode(), *ACCESS_TOKEN.row(user_id, org_code)), self._clock.now()
        await self._database.single(lambda connection: revocations.owe(connection, user_id, org_code, sealed, now))

    def _opened(self, user_id: str, org_code: str, row: Row) -> Grant:
        tokens = TokenPair(
            access_token=self._vault.open(row["access_token_sealed"], *ACCESS_TOKEN.row(user_id, org_code)).decode(),
            access_expires_at=row["access_expires_at"],
            refresh_token=self._vault.open(row["refresh_token_sealed"], *REFRESH_TOKEN.row(user_id, org_code)).decode(),
            refresh_expires_at=row["refresh_expires_at"],
            scope=row["scope"],
        )
        return Grant(
            tokens=tokens, consent_tx_id=row["consent_tx_id"], consent_ends_on=row["consent_ends_on"], consented_at=row["consented_at"]
        )
