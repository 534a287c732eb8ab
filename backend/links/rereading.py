"""One linked provider read again: by whose wish is the caller's matter, and what becomes of it, too.

In: a user, a provider, who asks (`ApiType`). Out: a `Reading`, whole: an asset is never shown half read, and a provider with nothing new
costs list calls only. A token that is refused is replaced once; a consent that is over takes its link along. Nothing else is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from backend.clock import Clock
from backend.errors import ConsentRequired, ProviderError
from backend.events import Asset, AssetRefreshed
from backend.links.unlinking import Unlinking
from backend.providers.contract import ApiType, CollectedAsset, Provider, Timestamps
from backend.providers.outcomes import token_is_worn
from backend.registration.asset_ids import asset_of
from backend.registration.collecting import ProviderClients
from backend.registration.comparing import news
from backend.registration.flights import SingleFlight
from backend.registration.linking import Grant, Held, Linking
from backend.storage import assets
from backend.storage.statements import Connection, Values

ASSETS_PER_FACT = 200  # an event is one message to a socket


class Reading(Struct, frozen=True):
    """What a reading that came to its end has brought."""

    org_code: str
    grant: Grant
    timestamps: Timestamps
    assets: tuple[Asset, ...]  # that it has shown

    @property
    def read(self) -> Values:
        """That everything was read, as the link's row is to hold it."""
        return self.grant.read(self.org_code, self.timestamps)


class Rereading:
    """Reads linked providers again. One per process, made in `workers.py`."""

    def __init__(
        self,
        *,
        linking: Linking,
        flights: SingleFlight,
        unlinking: Unlinking,
        clients: ProviderClients,
        clock: Clock,
        asset_secret: bytes,
    ) -> None:
        self._linking = linking
        self._flights = flights
        self._unlinking = unlinking
        self._clients = clients
        self._clock = clock
        self._asset_secret = asset_secret

    async def read(self, user_id: str, provider: Provider, api_type: ApiType, held: Held | None = None) -> Reading:
        """Raises `ProviderError`; `ConsentRequired` too when there is no active link.

        `held`: the link as the caller has just seen it; None: it is looked up. Its token is used as it is, without a turn in the link's
        flight, unless it is about to end: if somebody replaced it meanwhile the provider refuses it, and the flight brings its successor.
        """
        org_code, worn = provider.org_code, None
        while True:
            grant, timestamps = await self._granted(user_id, org_code, held if worn is None else None, worn)
            try:
                return Reading(org_code, grant, timestamps, await self._assets(user_id, provider, api_type, grant, timestamps))
            except ProviderError as exc:
                if isinstance(exc, ConsentRequired):
                    await self._unlinking.lost(user_id, org_code, grant, exc)
                if worn is not None or not token_is_worn(exc):
                    raise
                worn = grant

    async def _granted(self, user_id: str, org_code: str, seen: Held | None, worn: Grant | None) -> tuple[Grant, Timestamps]:
        if seen is not None and not self._linking.is_about_to_end(seen.grant):
            return seen.grant, seen.timestamps
        async with await self._flights.begin(user_id, org_code):
            held = await self._linking.held(user_id, org_code)
            if held is None:
                raise ConsentRequired(org_code, "no active link")
            try:
                grant = await self._linking.fit(user_id, org_code, held, worn, self._clients.provider(org_code, user_id))
            except ConsentRequired as exc:
                await self._unlinking.lost(user_id, org_code, held.grant, exc)
                raise
        return grant, held.timestamps

    async def _assets(self, user_id: str, provider: Provider, api_type: ApiType, grant: Grant, timestamps: Timestamps) -> tuple[Asset, ...]:
        """Every asset that was shown, as the last answer about it shows it."""
        client, now = self._clients.provider(provider.org_code, user_id), self._clock.now()
        found: dict[tuple[str, str], CollectedAsset] = {}
        async for answer in client.collect(grant.tokens.access_token, api_type, now, timestamps):
            found.update(((asset.kind.value, asset.key), asset) for asset in answer)
        as_of = self._clock.now()
        return tuple(asset_of(self._asset_secret, user_id, provider, asset, as_of) for asset in found.values())


async def unknown_of(connection: Connection, user_id: str, reading: Reading, now: datetime) -> Reading:
    """The reading without what was known before, and with what has gone. Under the user's lock."""
    whole = reading.timestamps.told_whole
    if not (reading.assets or whole):
        return reading
    stored = await assets.held(connection, user_id, reading.org_code)
    return replace(reading, assets=news(reading.assets, stored, whole, now))


def refreshed(org_code: str, changed: Sequence[Asset], now: datetime) -> list[AssetRefreshed]:
    """What is told of assets that changed; nothing: none did. RULE."""
    parts = (tuple(changed[start : start + ASSETS_PER_FACT]) for start in range(0, len(changed), ASSETS_PER_FACT))
    return [AssetRefreshed(at=now, org_code=org_code, assets=part) for part in parts]
