"""The old way, as a process of its own: the request, or one task behind it, calls the CA and then provider after provider.

A baseline and no straw man: the same HTTP clients with kept connections, the same parsing, vault, tables and PostgreSQL server as the new
way; only that one call follows the other. `POST /blocking` answers when everything is stored, in one transaction at the end.
`POST /background` answers when the registration is stored; each provider's data is stored as it is complete, for whoever polls.
Never here: queues, Valkey, a feed. `baselines.py` is its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from ulid import ULID

from backend.clock import SystemClock
from backend.events import Asset, ProviderStatus, RegistrationStatus, to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.calls import Call
from backend.providers.clients import ProviderClients
from backend.providers.consents import consent_for
from backend.providers.contract import ApiType, CollectedAsset, Consent, Person, Provider, ProviderClient, Signed, SignedConsent, TokenPair
from backend.providers.directory import directory_of
from backend.providers.ids import Serials
from backend.registration.asset_ids import asset_of
from backend.registration.endpoints import NewRegistration
from backend.registration.handling import load
from backend.registration.model import Item, Registration
from backend.registration.rows import changed_rows, new_row
from backend.services import need
from backend.settings import Settings
from backend.storage import assets as stored_assets
from backend.storage import links, registrations
from backend.storage.assets import AssetQuery
from backend.storage.changes import Change, commit
from backend.storage.database import Database
from backend.storage.statements import Connection
from backend.storage.vault import Vault
from backend.web import json_answer, read_json

MOST_ASSETS = 500

T = TypeVar("T")

_turn: ContextVar[asyncio.Lock] = ContextVar("whose call it is in this registration")


class OneAfterTheOther:
    """A guard before every call: within one registration, the next call begins when the last one has ended."""

    async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002  # a guard's shape
        async with _turn.get():
            return await attempt()


class Collected(Struct, frozen=True):
    """One provider's part."""

    consent: SignedConsent
    tokens: TokenPair
    assets: tuple[Asset, ...]


class OldWay:
    """The work behind both endpoints."""

    def __init__(self, settings: Settings, database: Database, clients: ProviderClients) -> None:
        vault = Vault(need(settings, "vault_keys"))
        self.database = database
        self._clients = clients
        self._settings = settings
        self._clock = SystemClock()
        self._directory = directory_of(settings)
        self.secret = need(settings, "asset_id_secret").encode()
        self._vault = vault
        self._serials = Serials(0)

    def begun(self, identity: Identity, org_codes: Sequence[str]) -> Registration:
        now = self._clock.now()
        return Registration(
            user_id=identity.user_id,
            id=f"reg_{ULID.from_datetime(now)}",
            created_at=now,
            sign_before=now + timedelta(seconds=self._settings.signature_ttl),
            items=tuple(Item(org_code=org_code) for org_code in org_codes),
        )

    async def collected(self, registration: Registration, person: Person) -> AsyncIterator[Collected]:
        """The signature, then each provider whole, in the order of choice."""
        _turn.set(asyncio.Lock())
        signed = await self.signed(registration, person)
        for item in registration.items:
            yield await self._provider(registration.user_id, person, signed[item.org_code])

    async def enter(self, connection: Connection, registration: Registration, identity: Identity) -> None:
        """Writes a registration, with its person."""
        sealed = self._vault.seal(to_json(self.person(identity)), "users", "person", identity.user_id)
        org_codes = [item.org_code for item in registration.items]
        row = new_row(registration, request_id="old-way")
        new = registrations.Acceptance(registration=row, org_codes=org_codes, person_sealed=sealed, events=())
        await registrations.accept(connection, new, self._clock.now())

    async def keep(self, connection: Connection, user_id: str, collected: Collected) -> None:
        """Writes one provider's link and assets."""
        await links.save(connection, user_id, self._link(user_id, collected))
        if collected.assets:
            await stored_assets.save(connection, user_id, collected.assets)

    async def change(self, connection: Connection, before: Registration, after: Registration) -> None:
        """Writes what differs."""
        state, items = changed_rows(before, after)
        row = await registrations.load(connection, before.user_id, before.id)
        if row is not None:
            since = row["feed_offset"]
            change = Change(user_id=before.user_id, registration_id=before.id, since=since, state=state, items=items)
            await commit(connection, change, self._clock.now())

    async def signed(self, registration: Registration, person: Person) -> dict[str, SignedConsent]:
        """The person's signature under one consent per provider."""
        now = self._clock.now()
        consents = tuple(self._consent(item.org_code, now) for item in registration.items)
        request = await self._clients.ca.request_signature(person, consents, now)
        while True:
            answer = await self._clients.ca.signature(request, consents, self._clock.now())
            if isinstance(answer, Signed):
                return {each.org_code: self._signature(each, request.cert_tx_id, answer) for each in consents}
            await asyncio.sleep(self._settings.ca_poll_ms / 1000)

    def _consent(self, org_code: str, now: datetime) -> Consent:
        directory = self._directory
        operator, serial = self._settings.operator_org_code, self._serials.next()
        return consent_for(self.entry(org_code), operator=operator, ca=directory.ca.org_code, now=now, serial=serial)

    def entry(self, org_code: str) -> Provider:
        """A provider of the directory. Raises LookupError."""
        provider = self._directory.provider(org_code)
        if provider is None:
            raise LookupError(org_code)
        return provider

    def client(self, org_code: str) -> ProviderClient:
        """To one provider. Raises `ProviderUnavailable`."""
        return self._clients.provider(org_code)

    def _signature(self, consent: Consent, cert_tx_id: str, answer: Signed) -> SignedConsent:
        return SignedConsent(
            org_code=consent.org_code,
            tx_id=consent.tx_id,
            document=consent.document,
            ends_on=consent.ends_on,
            signed_consent=answer.signed_consents[consent.tx_id],
            cert_tx_id=cert_tx_id,
            ca_code=self._directory.ca.org_code,
        )

    async def _provider(self, user_id: str, person: Person, signed: SignedConsent) -> Collected:
        client, now = self.client(signed.org_code), self._clock.now()
        tokens: TokenPair = await client.request_token(person, signed, now)
        found: dict[tuple[str, str], CollectedAsset] = {}
        async for answer in client.collect(tokens.access_token, ApiType.USER_CONSENT, now):
            found.update(((asset.kind.value, asset.key), asset) for asset in answer)
        provider = self.entry(signed.org_code)
        assets = tuple(asset_of(self.secret, user_id, provider, asset, now) for asset in found.values())
        return Collected(signed, tokens, assets)

    def _link(self, user_id: str, collected: Collected) -> dict[str, object]:
        tokens, now = collected.tokens, self._clock.now()
        return {
            "org_code": collected.consent.org_code,
            "status": "active",
            "consent_tx_id": collected.consent.tx_id,
            "consent_ends_on": collected.consent.ends_on,
            "consented_at": now,
            "access_token_sealed": self._vault.seal(tokens.access_token.encode(), "links", "access", user_id, collected.consent.org_code),
            "access_expires_at": tokens.access_expires_at,
            "refresh_token_sealed": self._vault.seal(
                tokens.refresh_token.encode(), "links", "refresh", user_id, collected.consent.org_code
            ),
            "refresh_expires_at": tokens.refresh_expires_at,
            "scope": tokens.scope,
            "updated_at": now,
        }

    def person(self, identity: Identity) -> Person:
        """Who signs: development tokens carry all of it."""
        return Person(user_ci=identity.user_ci or "", real_name=identity.name or "", phone_num=identity.phone_number or "")


class Endpoints:
    """The old API."""

    def __init__(self, old: OldWay, verifier: TokenVerifier, largest_body: int) -> None:
        self._old, self._verifier, self._largest_body = old, verifier, largest_body
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            Route("/blocking", self.blocking, methods=["POST"]),
            Route("/background", self.background, methods=["POST"]),
            Route("/registrations/{id}", self.registration, methods=["GET"]),
        ]

    async def blocking(self, request: Request) -> Response:
        """Everything, then the answer."""
        old, (identity, registration) = self._old, await self._asked(request)
        everything = [collected async for collected in old.collected(registration, old.person(identity))]
        after = _ended(registration)

        async def deed(connection: Connection) -> None:
            await old.enter(connection, after, identity)
            for collected in everything:
                await old.keep(connection, identity.user_id, collected)

        await old.database.transaction(deed)
        return _answer(after, [asset for collected in everything for asset in collected.assets])

    async def background(self, request: Request) -> Response:
        """The answer, then everything."""
        old, (identity, registration) = self._old, await self._asked(request)
        before = replace(registration, status=RegistrationStatus.COLLECTING)
        await old.database.transaction(lambda connection: old.enter(connection, before, identity))
        task = asyncio.create_task(self._collect(before, identity))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _answer(before, [], status=202)

    async def registration(self, request: Request) -> Response:
        """As far as it is stored."""
        identity = await identify(request, self._verifier, scope="user")
        async with self._old.database.reading() as connection:
            registration = await load(connection, identity.user_id, request.path_params["id"])
            assets = await stored_assets.listed(connection, identity.user_id, AssetQuery(limit=MOST_ASSETS))
        if registration is None:
            return Response(status_code=404)
        return _answer(registration, assets)

    async def _collect(self, registration: Registration, identity: Identity) -> None:
        old, before = self._old, registration
        async for collected in old.collected(registration, old.person(identity)):
            after = _with(before, collected)
            await self._store(before, after, collected)
            before = after

    async def _store(self, before: Registration, after: Registration, collected: Collected) -> None:
        async def deed(connection: Connection) -> None:
            await self._old.keep(connection, before.user_id, collected)
            await self._old.change(connection, before, after)

        await self._old.database.transaction(deed)

    async def _asked(self, request: Request) -> tuple[Identity, Registration]:
        identity = await identify(request, self._verifier, scope="user")
        body = await read_json(request, NewRegistration, limit=self._largest_body)
        return identity, self._old.begun(identity, body.providers)


def _ended(registration: Registration) -> Registration:
    items = tuple(replace(item, status=ProviderStatus.COMPLETED) for item in registration.items)
    return replace(registration, status=RegistrationStatus.COMPLETED, items=items)


def _with(registration: Registration, collected: Collected) -> Registration:
    """One provider more; with the last one the registration ends."""
    shown = frozenset(asset.id for asset in collected.assets)
    items = tuple(
        replace(item, status=ProviderStatus.COMPLETED, asset_ids=shown) if item.org_code == collected.consent.org_code else item
        for item in registration.items
    )
    over = all(item.status is ProviderStatus.COMPLETED for item in items)
    return replace(registration, status=RegistrationStatus.COMPLETED if over else registration.status, items=items)


def _answer(registration: Registration, assets: Sequence[Asset], *, status: int = 200) -> Response:
    return json_answer(to_json({"id": registration.id, "status": registration.status, "assets": assets}), status=status)
