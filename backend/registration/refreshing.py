"""One linked provider read again: what changed since the last reading that came to its end.

In: (user, refresh, provider). Out: `asset.refreshed` when anything changed, and the last provider's end is `refresh.completed`. What was
read is written when the reading has come to its end, with what each list reached, at once: an asset is never shown half read, and a
provider with nothing new costs list calls only. One that rests is tried again for a few minutes; whatever else it does is how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from msgspec.structs import replace

from backend.clock import Clock
from backend.errors import ConsentRequired, ProviderError, ProviderRefused, ProviderResting, ProviderTimeout, Trouble
from backend.events import Asset, AssetRefreshed, LinkFact, RefreshCompleted, RefreshItem, RefreshStatus
from backend.jobs.queue import JobQueue, Postponed
from backend.providers.contract import ApiType, CollectedAsset, Provider, Timestamps
from backend.providers.directory import Directory
from backend.providers.outcomes import token_is_worn
from backend.registration.asset_ids import asset_of
from backend.registration.collecting import ProviderClients
from backend.registration.comparing import news
from backend.registration.flights import SingleFlight
from backend.registration.jobs import refresh_job
from backend.registration.linking import Grant, Linking
from backend.registration.refreshes import items_of, refresh_item
from backend.registration.unlinking import Unlinking
from backend.storage import assets, links, refreshes, users
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay
from backend.storage.statements import Connection, Row

ASSETS_PER_FACT = 200  # an event is one message to a socket
IDLE = timedelta(seconds=2)  # younger work is in somebody's hands
MOST = 1000  # per sweep; the oldest first
WAITED_FOR = timedelta(minutes=5)  # since a refresh began, for one that rests: longer is a delay that people are told of (section 7)

log = structlog.get_logger()


class Name(Struct, frozen=True):
    """One provider of one refresh."""

    user_id: str
    refresh_id: str
    org_code: str


class Reading(Struct, frozen=True):
    """What a reading that came to its end has brought."""

    grant: Grant
    timestamps: Timestamps
    assets: tuple[Asset, ...]  # that it has shown


class Refreshing:
    """Runs `refresh` jobs. One per process, made in `services.py`.

    `deadline`: seconds for one provider as a whole; `defer`: until a resting provider that named no time is tried again.
    """

    def __init__(  # noqa: PLR0913  # all by keyword; built once
        self,
        *,
        database: Database,
        relay: Relay,
        linking: Linking,
        flights: SingleFlight,
        unlinking: Unlinking,
        clients: ProviderClients,
        directory: Callable[[], Directory],
        clock: Clock,
        deadline: float,
        defer: timedelta,
        asset_secret: bytes,
    ) -> None:
        self._database = database
        self._relay = relay
        self._linking = linking
        self._flights = flights
        self._unlinking = unlinking
        self._clients = clients
        self._directory = directory
        self._clock = clock
        self._deadline = deadline
        self._defer = defer
        self._asset_secret = asset_secret

    async def refresh(self, user_id: str, refresh_id: str, org_code: str) -> None:
        """Brings this provider of this refresh to its end. Raises `Postponed` while it rests."""
        name = Name(user_id, refresh_id, org_code)
        provider = self._directory().provider(org_code)
        if provider is None:  # it left the directory
            await self._end(name, ProviderRefused.TROUBLE)
        elif (begun := await self._begun(name)) is not None:
            await self._refreshed(name, provider, begun)

    async def give_up(self, user_id: str, refresh_id: str, org_code: str) -> None:
        """Ends a provider on which our own code failed again and again."""
        await self._end(Name(user_id, refresh_id, org_code), Trouble.INTERNAL)

    async def _refreshed(self, name: Name, provider: Provider, begun: datetime) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                reading = await self._read(name, provider)
        except ProviderResting as exc:
            await self._put_off(name, begun, exc)
        except ProviderError as exc:
            await self._fail(name, exc.TROUBLE, exc.reason)
        except TimeoutError:
            await self._fail(name, ProviderTimeout.TROUBLE, "provider deadline")
        else:
            await self._end(name, None, reading)

    async def _put_off(self, name: Name, begun: datetime, exc: ProviderResting) -> None:
        """Raises `Postponed`, unless the refresh would wait too long for this one."""
        now = self._clock.now()
        retry_at = max(exc.retry_at or now + self._defer, now)
        if retry_at - begun > WAITED_FOR:
            await self._fail(name, exc.TROUBLE, exc.reason)
            return
        log.info("refresh.deferred", refresh_id=name.refresh_id, org_code=name.org_code, reason=exc.reason)
        raise Postponed(retry_at)

    async def _begun(self, name: Name) -> datetime | None:
        """When the refresh began; None: there is nothing more to do for this provider."""
        async with self._database.reading() as connection:
            row = await refreshes.load(connection, name.user_id, name.refresh_id)
        begun: datetime | None = row["created_at"] if row is not None and _is_open(row, name.org_code) else None
        return begun

    async def _read(self, name: Name, provider: Provider) -> Reading:
        worn: Grant | None = None
        while True:
            grant, timestamps = await self._granted(name, worn)
            try:
                return Reading(grant, timestamps, await self._assets(name, provider, grant, timestamps))
            except ProviderError as exc:
                if isinstance(exc, ConsentRequired):
                    await self._unlinking.lost(name.user_id, name.org_code, grant, exc)
                if worn is not None or not token_is_worn(exc):
                    raise
                worn = grant

    async def _granted(self, name: Name, worn: Grant | None) -> tuple[Grant, Timestamps]:
        user_id, org_code = name.user_id, name.org_code
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

    async def _assets(self, name: Name, provider: Provider, grant: Grant, timestamps: Timestamps) -> tuple[Asset, ...]:
        """Every asset that was shown, as the last answer about it shows it."""
        client, now = self._clients.provider(name.org_code, name.user_id), self._clock.now()
        found: dict[tuple[str, str], CollectedAsset] = {}
        async for answer in client.collect(grant.tokens.access_token, ApiType.USER_REFRESH, now, timestamps):
            found.update(((asset.kind.value, asset.key), asset) for asset in answer)
        as_of = self._clock.now()
        return tuple(asset_of(self._asset_secret, name.user_id, provider, asset, as_of) for asset in found.values())

    async def _fail(self, name: Name, trouble: Trouble, reason: str) -> None:
        log.info("refresh.failed", refresh_id=name.refresh_id, org_code=name.org_code, trouble=trouble, reason=reason)
        await self._end(name, trouble)

    async def _end(self, name: Name, trouble: Trouble | None, reading: Reading | None = None) -> None:
        """Writes what was read, how it ended and what is told of it, at once. What has ended before stays as it is."""
        now = self._clock.now()

        async def deed(connection: Connection) -> Sequence[Entry]:
            if await users.lock(connection, name.user_id) is None:
                return ()
            row = await refreshes.load(connection, name.user_id, name.refresh_id)
            if row is None or not _is_open(row, name.org_code):
                return ()
            items = items_of(row)
            kept = reading is not None and await links.is_active(
                connection, name.user_id, name.org_code, consent_tx_id=reading.grant.consent_tx_id
            )
            if reading is None:
                ending = _ending(name, items, trouble, None, now)
            elif not kept:  # revoked, or consented to anew, while it was read
                ending = _ending(name, items, Trouble.CONSENT_REQUIRED, None, now)
            else:
                ending = _ending(name, items, None, await _new(connection, name, reading, now), now)
            return await refreshes.end(connection, ending, now)

        if entries := await self._database.transaction(deed):
            await self._relay.push(name.user_id, entries)


def _is_open(row: Row, org_code: str) -> bool:
    """Whether this provider of a refresh is still to be read."""
    return any(item.org_code == org_code and item.status is RefreshStatus.REFRESHING for item in items_of(row))


async def _new(connection: Connection, name: Name, reading: Reading, now: datetime) -> Reading:
    """The reading without what was known before, and with what has gone."""
    whole = reading.timestamps.told_whole
    if not (reading.assets or whole):
        return reading
    stored = await assets.held(connection, name.user_id, name.org_code)
    return replace(reading, assets=news(reading.assets, stored, whole, now))


def _ending(
    name: Name, items: tuple[RefreshItem, ...], trouble: Trouble | None, reading: Reading | None, now: datetime
) -> refreshes.Ending:
    """The end of one provider; with the last one, that of the refresh. RULE."""
    status = RefreshStatus.COMPLETED if trouble is None else RefreshStatus.FAILED
    ended = tuple(refresh_item(each.org_code, status, trouble) if each.org_code == name.org_code else each for each in items)
    is_last = all(each.status is not RefreshStatus.REFRESHING for each in ended)
    changed = reading.assets if reading is not None else ()
    told: list[LinkFact] = [AssetRefreshed(at=now, org_code=name.org_code, assets=part) for part in _parts(changed)]
    if is_last:
        told.append(RefreshCompleted(at=now, refresh_id=name.refresh_id, providers=ended))
    return refreshes.Ending(
        user_id=name.user_id,
        refresh_id=name.refresh_id,
        org_code=name.org_code,
        status=status.value,
        error_code=trouble.value if trouble is not None else None,
        is_last=is_last,
        read=(reading.grant.read(name.org_code, reading.timestamps),) if reading is not None else (),
        assets=changed,
        events=[fact.event() for fact in told],
    )


def _parts(assets: tuple[Asset, ...]) -> list[tuple[Asset, ...]]:
    return [assets[start : start + ASSETS_PER_FACT] for start in range(0, len(assets), ASSETS_PER_FACT)]


class OpenRefreshSweep:
    """Asks for a job for every provider of a refresh that has not ended."""

    name = "open_refreshes"

    def __init__(self, *, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def sweep(self, now: datetime) -> int:
        """How many jobs were missing."""
        async with self._database.reading() as connection:
            found = await refreshes.left(connection, idle_since=now - IDLE, limit=MOST)
        jobs = [refresh_job(left.user_id, left.refresh_id, left.org_code, request_id=left.request_id) for left in found]
        return await self._queue.enqueue(jobs) if jobs else 0
