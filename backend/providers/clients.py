"""All clients of one process: the CA's, and one per provider of the directory. `services.py` builds them once.

A client opens when it is first used and all close together. One client per institution is also the bulkhead: a slow provider can hold
its own connections only.
"""

from __future__ import annotations

import secrets
from types import TracebackType

import httpx

from backend.clock import Clock
from backend.providers import outcomes
from backend.providers.ca import HttpCaClient
from backend.providers.client import HttpProviderClient
from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import Directory
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.providers.outcomes import Failure
from backend.providers.tokens import Credentials
from backend.providers.transport import Guard, Repeats, Transport
from backend.providers.wire import open_wire
from backend.settings import Settings


class ProviderClients:
    """Use as an async context manager; leaving it closes every connection."""

    def __init__(self, directory: Directory, settings: Settings, clock: Clock, *, guard: Guard | None = None) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._guard = guard
        self._serials = Serials(secrets.randbelow(SERIAL_SPAN))
        self._opened: list[httpx.AsyncBaseTransport] = []
        self._providers: dict[str, HttpProviderClient] = {}
        self._ca: HttpCaClient | None = None
        self._credentials = Credentials(
            client_id=settings.client_id, client_secret=settings.client_secret.get_secret_value(), service_id=settings.service_id
        )

    @property
    def ca(self) -> HttpCaClient:
        """The CA."""
        if self._ca is None:
            transport = self._transport(self._directory.ca)
            self._ca = HttpCaClient(self._directory.ca, transport, settings=self._settings, serials=self._serials)
        return self._ca

    def provider(self, org_code: str) -> HttpProviderClient:
        """Raises `ProviderUnavailable` for one that the directory does not have (any more)."""
        if org_code not in self._providers:
            entry = self._directory.provider(org_code)
            if entry is None:
                raise outcomes.failed(org_code, Failure.UNKNOWN)
            self._providers[org_code] = HttpProviderClient(
                entry,
                self._transport(entry),
                credentials=self._credentials,
                collection_deadline=entry.collection_deadline or self._settings.provider_deadline,
                clock=self._clock,
            )
        return self._providers[org_code]

    async def __aenter__(self) -> ProviderClients:
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._ca is not None:
            await self._ca.aclose()
        for wire in self._opened:
            await wire.aclose()

    def _transport(self, entry: Provider | CertificationAuthority) -> Transport:
        wire = open_wire(entry)
        self._opened.append(wire)
        return Transport(
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


def http_clients(directory: Directory, settings: Settings, clock: Clock, *, guard: Guard | None = None) -> ProviderClients:
    """The clients of this process; nothing connects before the first call."""
    return ProviderClients(directory, settings, clock, guard=guard)
