"""All clients of one process: the CA's, and one per provider of the directory. `workers.py` builds them once.

A client opens when it is first used and all close together. One client per institution is also the bulkhead: a slow provider can hold
its own connections only. When the directory has changed, the clients of changed entries give way to new ones; whoever holds an old one
finishes with it, and its connections close when nobody can hold it any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

import httpx
import structlog

from backend.clock import Clock
from backend.providers import outcomes
from backend.providers.ca import HttpCaClient
from backend.providers.calling.transport import Guard, Repeats, Transport
from backend.providers.calling.wire import open_wire
from backend.providers.client import HttpProviderClient
from backend.providers.contract import (
    CertificationAuthority,
    Consent,
    NotSignedYet,
    Person,
    Provider,
    SignatureRefused,
    SignatureRequest,
    Signed,
)
from backend.providers.directory import Directory
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.providers.outcomes import Failure
from backend.providers.tls import TlsFault
from backend.providers.tokens import Credentials
from backend.providers.traffic import user_key
from backend.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Opened:
    """A client and what it was opened for."""

    entry: Provider | CertificationAuthority
    client: HttpProviderClient | HttpCaClient
    wire: httpx.AsyncBaseTransport

    async def aclose(self) -> None:
        if isinstance(self.client, HttpCaClient):
            await self.client.aclose()
        await self.wire.aclose()


class ProviderClients:
    """Use as an async context manager; leaving it closes every connection."""

    def __init__(self, directory: Callable[[], Directory], settings: Settings, clock: Clock, *, guard: Guard | None = None) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._guard = guard
        self._serials = Serials(secrets.randbelow(SERIAL_SPAN))
        self._user_secret = traffic_secret(settings)
        self._opened: dict[str, _Opened] = {}
        self._followed = directory()
        self._retired: list[tuple[float, _Opened]] = []  # from when on nobody holds it
        self._closing: set[asyncio.Task[None]] = set()
        self._credentials = Credentials(
            client_id=settings.client_id, client_secret=settings.client_secret.get_secret_value(), service_id=settings.service_id
        )

    @property
    def ca(self) -> CurrentCa:
        """The CA, as the directory has it at each call."""
        return CurrentCa(self._ca)

    def provider(self, org_code: str, user_id: str | None = None, *, guard: Guard | None = None) -> HttpProviderClient:
        """For one piece of work: ask again for the next. Raises `ProviderUnavailable` for one that is not in the directory (any more).

        `user_id`: on whose behalf; None: traffic counts its calls for nobody in particular. `guard`: a probe's, instead of everybody's.
        """
        client = self._provider(org_code)
        if guard is not None:
            client = client.under(guard)
        return client if user_id is None else client.on_behalf_of(user_key(self._user_secret, user_id))

    def _provider(self, org_code: str) -> HttpProviderClient:
        directory = self._follow()
        opened = self._opened.get(org_code)
        if opened is None or not isinstance(opened.client, HttpProviderClient):
            entry = directory.provider(org_code)
            if entry is None:
                raise outcomes.failed(org_code, Failure.UNKNOWN)
            return self._open_provider(entry)
        return opened.client

    async def __aenter__(self) -> ProviderClients:
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        for opened in (*self._opened.values(), *(opened for _, opened in self._retired)):
            await opened.aclose()

    def _ca(self) -> HttpCaClient:
        directory = self._follow()
        opened = self._opened.get(directory.ca.org_code)
        if opened is not None and isinstance(opened.client, HttpCaClient):
            return opened.client
        wire, transport = self._transport(directory.ca)
        client = HttpCaClient(directory.ca, transport, settings=self._settings, serials=self._serials)
        self._opened[directory.ca.org_code] = _Opened(directory.ca, client, wire)
        return client

    def _open_provider(self, entry: Provider) -> HttpProviderClient:
        wire, transport = self._transport(entry)
        client = HttpProviderClient(
            entry,
            transport,
            credentials=self._credentials,
            collection_deadline=entry.collection_deadline or self._settings.provider_deadline,
            clock=self._clock,
        )
        self._opened[entry.org_code] = _Opened(entry, client, wire)
        return client

    def _follow(self) -> Directory:
        """Retires the clients whose entries have changed or gone, closes those that nobody can hold any more."""
        directory = self._directory()
        if directory is not self._followed:
            self._followed = directory
            for org_code, opened in list(self._opened.items()):
                if opened.entry not in (directory.ca, directory.provider(org_code)):
                    del self._opened[org_code]
                    self._retired.append((self._clock.monotonic() + self._longest_hold(opened.entry), opened))
        if self._retired:
            self._close_retired(self._clock.monotonic())
        return directory

    def _longest_hold(self, entry: Provider | CertificationAuthority) -> float:
        """Seconds. A job lasts for two collections at most (`services.run_worker`), a call of its own for its deadline."""
        collection = entry.collection_deadline if isinstance(entry, Provider) else None
        return 2 * max(collection or 0.0, self._settings.provider_deadline, entry.call_deadline or self._settings.call_deadline)

    def _close_retired(self, now: float) -> None:
        over = [opened for until, opened in self._retired if until <= now]
        self._retired = [each for each in self._retired if each[0] > now]
        for opened in over:
            task = asyncio.get_running_loop().create_task(opened.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _transport(self, entry: Provider | CertificationAuthority) -> tuple[httpx.AsyncBaseTransport, Transport]:
        try:
            wire = open_wire(entry)
        except TlsFault as fault:  # its files have gone since the directory was read
            log.error("line.cannot_be_secured", org_code=entry.org_code, fault=str(fault))
            raise outcomes.failed(entry.org_code, Failure.TLS) from None
        transport = Transport(
            entry.org_code,
            wire=wire,
            base_url=entry.base_url,
            operator=self._settings.operator_org_code,
            serials=self._serials,
            clock=self._clock,
            deadline=entry.call_deadline or self._settings.call_deadline,
            guard=self._guard,
            repeats=Repeats(),
        )
        return wire, transport


def traffic_secret(settings: Settings) -> bytes:
    """What users are named by in traffic, on every node alike (`traffic.user_key`)."""
    return settings.asset_id_secret.get_secret_value().encode() if settings.asset_id_secret else b""


class CurrentCa:
    """`contract.CaClient` of whatever CA the directory names at each call."""

    def __init__(self, current: Callable[[], HttpCaClient]) -> None:
        self._current = current

    async def request_signature(self, person: Person, consents: tuple[Consent, ...], now: datetime) -> SignatureRequest:
        """Asks for one signature under all consents."""
        return await self._current().request_signature(person, consents, now)

    async def signature(
        self, request: SignatureRequest, consents: tuple[Consent, ...], now: datetime
    ) -> NotSignedYet | SignatureRefused | Signed:
        """What has become of it."""
        return await self._current().signature(request, consents, now)

    async def ask_token(self, guard: Guard) -> None:
        """What a probe of its circuit asks."""
        await self._current().ask_token(guard)


def http_clients(directory: Callable[[], Directory], settings: Settings, clock: Clock, *, guard: Guard | None = None) -> ProviderClients:
    """The clients of this process; nothing connects before the first call."""
    return ProviderClients(directory, settings, clock, guard=guard)
