"""One linked provider read again: what changed since the last reading that came to its end.

In: (user, refresh, provider). Out: `asset.refreshed` when anything changed, and the last provider's end is `refresh.completed`. What was
read (`rereading.py`) is written with the end, at once. A provider that rests is tried again for a few minutes; whatever else it does is how
it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from backend.clock import Clock
from backend.errors import ProviderError, ProviderRefused, ProviderResting, ProviderTimeout, Trouble
from backend.events import LinkFact, RefreshCompleted, RefreshItem, RefreshStatus
from backend.jobs.queue import JobQueue, Postponed
from backend.jobs.sweeper import Round
from backend.links.refreshes import items_of, refresh_item
from backend.links.rereading import Reading, Rereading, refreshed, unknown_of
from backend.providers.contract import ApiType, Provider
from backend.providers.directory import Directory
from backend.registration.jobs import refresh_job
from backend.storage import links, refreshes, users
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay
from backend.storage.statements import Connection, Row

IDLE = timedelta(seconds=2)  # younger work is in somebody's hands
MOST = 1000  # per sweep; the oldest first
WAITED_FOR = timedelta(minutes=5)  # since a refresh began, for one that rests: longer is a delay that people are told of (section 7)

log = structlog.get_logger()


class Name(Struct, frozen=True):
    """One provider of one refresh."""

    user_id: str
    refresh_id: str
    org_code: str


class Refreshing:
    """Runs `refresh` jobs. One per process, made in `hands.py`.

    `deadline`: seconds for one provider as a whole; `defer`: until a resting provider that named no time is tried again.
    """

    def __init__(
        self,
        *,
        database: Database,
        relay: Relay,
        rereading: Rereading,
        directory: Callable[[], Directory],
        clock: Clock,
        deadline: float,
        defer: timedelta,
    ) -> None:
        self._database = database
        self._relay = relay
        self._rereading = rereading
        self._directory = directory
        self._clock = clock
        self._deadline = deadline
        self._defer = defer

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
                reading = await self._rereading.read(name.user_id, provider, ApiType.USER_REFRESH)
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
                ending = _ending(name, items, None, await unknown_of(connection, name.user_id, reading, now), now)
            return await refreshes.end(connection, ending, now)

        if entries := await self._database.transaction(deed):
            await self._relay.push(name.user_id, entries)


def _is_open(row: Row, org_code: str) -> bool:
    """Whether this provider of a refresh is still to be read."""
    return any(item.org_code == org_code and item.status is RefreshStatus.REFRESHING for item in items_of(row))


def _ending(
    name: Name, items: tuple[RefreshItem, ...], trouble: Trouble | None, reading: Reading | None, now: datetime
) -> refreshes.Ending:
    """The end of one provider; with the last one, that of the refresh. RULE."""
    status = RefreshStatus.COMPLETED if trouble is None else RefreshStatus.FAILED
    ended = tuple(refresh_item(each.org_code, status, trouble) if each.org_code == name.org_code else each for each in items)
    is_last = all(each.status is not RefreshStatus.REFRESHING for each in ended)
    changed = reading.assets if reading is not None else ()
    told: list[LinkFact] = [*refreshed(name.org_code, changed, now)]
    if is_last:
        told.append(RefreshCompleted(at=now, refresh_id=name.refresh_id, providers=ended))
    return refreshes.Ending(
        user_id=name.user_id,
        refresh_id=name.refresh_id,
        org_code=name.org_code,
        status=status.value,
        error_code=trouble.value if trouble is not None else None,
        is_last=is_last,
        read=(reading.read,) if reading is not None else (),
        assets=changed,
        events=[fact.event() for fact in told],
    )


class OpenRefreshSweep:
    """Asks for a job for every provider of a refresh that has not ended."""

    name = "open_refreshes"

    def __init__(self, *, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue
        self._round = Round()

    async def sweep(self, now: datetime) -> int:
        """How many jobs were missing."""
        async with self._database.reading() as connection:
            found = await refreshes.left(connection, idle_since=now - IDLE, limit=MOST, skip=self._round.skip)
        jobs = [refresh_job(left.user_id, left.refresh_id, left.org_code, request_id=left.request_id) for left in found]
        missing = await self._queue.enqueue(jobs) if jobs else 0
        self._round.saw(len(found), most=MOST)
        return missing
