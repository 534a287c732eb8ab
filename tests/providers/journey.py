"""What a registration does with the clients, in the words of the tests: sign, take a token, collect; and what the sandbox saw of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import httpx

from backend.clock import ManualClock
from backend.events import Industry
from backend.providers.clients import ProviderClients
from backend.providers.consents import consent_for
from backend.providers.contract import ApiType, CollectedAsset, Consent, Provider, SignatureRequest, Signed, SignedConsent, TokenPair
from backend.providers.directory import Directory
from backend.settings import Settings
from tests.providers.given import OPERATOR, person


@dataclass
class Journey:
    directory: Directory
    settings: Settings
    clients: ProviderClients
    clock: ManualClock
    sandbox: httpx.AsyncClient
    serials: itertools.count[int] = field(default_factory=itertools.count)

    def first(self, industry: Industry) -> Provider:
        return next(each for each in self.directory.providers if each.industry is industry)

    def consents(self, *providers: Provider) -> tuple[Consent, ...]:
        return tuple(
            consent_for(each, operator=OPERATOR, ca=self.directory.ca.org_code, now=self.clock.now(), serial=next(self.serials))
            for each in providers
        )

    async def signed(self, sub: str, *providers: Provider) -> dict[str, SignedConsent]:
        """One signature over these providers, by org_code."""
        consents = self.consents(*providers)
        request = await self.clients.ca.request_signature(person(sub), consents, self.clock.now())
        answer = await self.clients.ca.signature(request, consents, self.clock.now())
        assert isinstance(answer, Signed)
        return {each.org_code: self.signed_consent(each, request, answer) for each in consents}

    def signed_consent(self, consent: Consent, request: SignatureRequest, answer: Signed) -> SignedConsent:
        return SignedConsent(
            org_code=consent.org_code,
            tx_id=consent.tx_id,
            document=consent.document,
            ends_on=consent.ends_on,
            signed_consent=answer.signed_consents[consent.tx_id],
            cert_tx_id=request.cert_tx_id,
            ca_code=self.directory.ca.org_code,
        )

    async def token(self, sub: str, provider: Provider) -> TokenPair:
        signed = await self.signed(sub, provider)
        return await self.clients.provider(provider.org_code).request_token(person(sub), signed[provider.org_code], self.clock.now())

    async def collected(self, provider: Provider, token: TokenPair) -> list[tuple[CollectedAsset, ...]]:
        client = self.clients.provider(provider.org_code)
        return [assets async for assets in client.collect(token.access_token, ApiType.USER_CONSENT, self.clock.now())]

    async def assets(self, sub: str, provider: Provider) -> dict[str, CollectedAsset]:
        """Everything that this person has there, as it is known at the end, by key."""
        answers = await self.collected(provider, await self.token(sub, provider))
        return {asset.key: asset for assets in answers for asset in assets}

    async def steer(self, provider: Provider, **behaviour: Any) -> None:
        answer = await self.sandbox.put(f"/sandbox/providers/{provider.org_code}", json=behaviour)
        assert answer.status_code == 200, answer.text

    async def steer_ca(self, **behaviour: Any) -> None:
        answer = await self.sandbox.put("/sandbox/ca", json=behaviour)
        assert answer.status_code == 200, answer.text

    async def calls(self, org_code: str) -> list[dict[str, Any]]:
        """What the sandbox received for this organisation."""
        answer = await self.sandbox.get("/sandbox/calls", params={"org_code": org_code})
        calls: list[dict[str, Any]] = answer.json()["calls"]
        return calls
