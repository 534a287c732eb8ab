"""One provider over HTTP: tokens and assets (`contract.ProviderClient`).

In: signed consents and tokens. Out: token pairs, and assets as each answer arrives. A collection as a whole has a deadline, beside the
one of each call. Errors are `ProviderError` only; where a token was refused (40101) the caller decides on the refresh.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import copy
from datetime import datetime

from backend.clock import KST, Clock
from backend.providers import tokens
from backend.providers.calling.transport import Guard, Transport
from backend.providers.calls import Call, Scope
from backend.providers.contract import ApiType, CollectedAsset, Person, Provider, SignedConsent, Timestamps, TokenPair
from backend.providers.gathering import gather
from backend.providers.industries import LISTINGS
from backend.providers.payloads import Page
from backend.providers.reading import Asking, apis_call
from backend.providers.tokens import Credentials


class HttpProviderClient:
    """`contract.ProviderClient` over HTTP."""

    def __init__(
        self, provider: Provider, transport: Transport, *, credentials: Credentials, collection_deadline: float, clock: Clock
    ) -> None:
        """`collection_deadline`: seconds for one whole `collect`."""
        self._provider = provider
        self._transport = transport
        self._credentials = credentials
        self._collection_deadline = collection_deadline
        self._clock = clock
        self._user: str | None = None

    def on_behalf_of(self, user: str) -> HttpProviderClient:
        """The same client, whose calls are told as this user's (`traffic.user_key`)."""
        client = copy(self)
        client._user = user
        return client

    def under(self, guard: Guard) -> HttpProviderClient:
        """The same client under another guard: that of a probe."""
        client = copy(self)
        client._transport = self._transport.under(guard)
        return client

    async def request_token(self, person: Person, consent: SignedConsent, now: datetime) -> TokenPair:
        """The pair for a signed consent; the provider drops an older one by itself."""
        return await self._transport.call(tokens.request_call(person, consent, self._credentials, now, self._user))

    async def refresh_token(self, token: TokenPair, now: datetime) -> TokenPair:
        """A pair with a new access token. `ConsentRequired` when the refresh token is no longer good."""
        return await self._transport.call(tokens.refresh_call(self._provider, token, self._credentials, now, self._user))

    async def revoke_token(self, access_token: str) -> None:
        """Ends the pair at the provider; one that had ended already is fine."""
        await self._transport.call(tokens.revoke_call(self._provider, access_token, self._credentials, self._user))

    async def ask_apis(self, scope: Scope = Scope.READ) -> None:
        """Whether it answers at all: what a probe of that scope's circuit asks first, since no person's data are at stake."""
        await self._transport.call(apis_call(self._provider, self._credentials.client_id, scope))

    async def collect(
        self, access_token: str, api_type: ApiType, now: datetime, timestamps: Timestamps | None = None
    ) -> AsyncGenerator[tuple[CollectedAsset, ...], None]:
        """Lists, then details, told as they arrive. Close it (`contextlib.aclosing`) to end what is in flight.

        `timestamps` hears what each list reached; None: everything is read, and nothing is to be kept.
        """
        ends = self._clock.monotonic() + self._collection_deadline
        today = now.astimezone(KST).date()
        timestamps = timestamps or Timestamps()
        asking = Asking(provider=self._provider, token=access_token, api_type=api_type, today=today, timestamps=timestamps, user=self._user)

        async def call(wanted: Call[Page | None]) -> Page | None:
            return await self._transport.call(wanted, within=ends - self._clock.monotonic())

        async with aclosing(gather(LISTINGS[self._provider.industry], asking, call)) as answers:
            async for assets in answers:
                yield assets
