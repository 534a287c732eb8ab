"""One provider of one registration: token, lists, details; each answer is stored and told as it arrives.

In: (user, registration, provider, run). Out: `provider.*` facts, assets, the link. The first result waits for nothing but its own road;
answers that come while one is being written go into the next transaction together. Whatever the provider does ends in a fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from msgspec import Struct

from backend import failpoints
from backend.clock import Clock
from backend.errors import ConsentRequired, ProviderError, ProviderRefused, ProviderResting, Trouble
from backend.events import Asset, ProviderStatus
from backend.failpoints import Failpoint
from backend.jobs.queue import Postponed
from backend.providers.calling.transport import Guard
from backend.providers.contract import ApiType, CollectedAsset, Provider, ProviderClient, Timestamps
from backend.providers.directory import Directory
from backend.providers.outcomes import Failure, failed, speaks_of_illness, token_is_worn
from backend.registration.asset_ids import asset_of
from backend.registration.comparing import gone
from backend.registration.decisions import Complete, Connect, Defer, Fail, ItemRequest, RecordAssets, is_current
from backend.registration.flights import Flight, SingleFlight
from backend.registration.handling import Handling
from backend.registration.linking import ACTIVE, Grant, Linking, Papers
from backend.registration.model import Registration
from backend.storage import assets, registrations
from backend.storage.changes import Writes
from backend.storage.database import Database
from backend.storage.statements import Connection, Values

LOOKED_AGAIN_AFTER = 0.25  # seconds that a token took, after which somebody may have changed their mind
TURNS_TO_A_STATEMENT = 8  # of the event loop, from an answer that is told to a statement that is sent

log = structlog.get_logger()


class ProviderClients(Protocol):
    """Where the client of a provider is found. Raises KeyError for one that is not in the directory."""

    def provider(self, org_code: str, user_id: str | None = None, *, guard: Guard | None = None) -> ProviderClient:
        """`user_id`: on whose behalf. `guard`: a probe's, instead of everybody's."""
        ...


class Deadlines(Struct, frozen=True, kw_only=True):
    """How long things may take."""

    provider: float  # seconds for one provider's whole collection
    defer: timedelta  # until a resting provider that named no time is tried again


class Work(Struct, frozen=True):
    """One job."""

    user_id: str
    registration_id: str
    run: int
    provider: Provider
    client: ProviderClient

    @property
    def org_code(self) -> str:
        return self.provider.org_code


class Overtaken(Exception):  # nothing went wrong
    """The item was cancelled, or begun again, while this job was at work: nothing more is to be done."""


class Collecting:
    """Runs `collect` jobs. One per process, made in `hands.py`."""

    def __init__(  # noqa: PLR0913  # all by keyword; built once
        self,
        *,
        database: Database,
        handling: Handling,
        linking: Linking,
        flights: SingleFlight,
        clients: ProviderClients,
        directory: Callable[[], Directory],
        clock: Clock,
        deadlines: Deadlines,
        asset_secret: bytes,
        lost: Callable[[str, str, Grant, ConsentRequired], Awaitable[None]],
    ) -> None:
        """`lost` (user, provider, grant, why) hears that a provider did not take a grant because of the person's consent."""
        self._database = database
        self._handling = handling
        self._linking = linking
        self._flights = flights
        self._clients = clients
        self._directory = directory
        self._clock = clock
        self._deadlines = deadlines
        self._asset_secret = asset_secret
        self._lost = lost

    async def collect(self, user_id: str, registration_id: str, org_code: str, run: int, *, probe: Guard | None = None) -> None:
        """Brings this provider to an end, or to a deferral. Raises `Postponed` when it is to be tried again later.

        As the real call of a `probe` it goes through that guard, and whatever says that the institution is still ill is a deferral.
        """
        provider = self._directory().provider(org_code)
        if provider is None:  # it left the directory after it was chosen
            await self._handling.handle(user_id, registration_id, Fail(org_code, run, ProviderRefused.TROUBLE))
            return
        work = Work(user_id, registration_id, run, provider, self._clients.provider(org_code, user_id, guard=probe))
        try:
            async with asyncio.timeout(self._deadlines.provider):
                await self._collect(work)
        except Overtaken:
            log.info("collect.overtaken", registration_id=registration_id, org_code=org_code)
        except ProviderError as exc:
            await self._end(work, exc, probing=probe is not None)
        except TimeoutError:
            await self._end(work, failed(org_code, Failure.DEADLINE), probing=probe is not None)

    async def _end(self, work: Work, exc: ProviderError, *, probing: bool) -> None:
        """As what the provider did makes it end. Nobody fails by a probe: without it they would wait."""
        if isinstance(exc, ProviderResting) or (probing and speaks_of_illness(exc)):
            await self._defer(work, exc)
        else:
            await self._fail(work, exc.TROUBLE, exc.reason)

    async def give_up(self, user_id: str, registration_id: str, org_code: str, run: int) -> None:
        """Ends a provider on which our own code failed again and again."""
        await self._handling.handle(user_id, registration_id, Fail(org_code, run, Trouble.INTERNAL))

    async def _collect(self, work: Work) -> None:
        worn: Grant | None = None
        while True:
            granted = await self._granted(work, worn)
            grant = granted.grant
            try:
                if granted.took > LOOKED_AGAIN_AFTER:
                    await self._current(work)
                await self._read(work, granted)
            except Overtaken:
                await self._drop(work, granted)
                raise
            except ProviderError as exc:
                await self._settle(work, granted)  # what the error says of the link needs a link that is there
                if isinstance(exc, ConsentRequired):
                    await self._lost(work.user_id, work.org_code, grant, exc)
                if worn is not None or not token_is_worn(exc):
                    raise
                worn = grant
            else:
                return
            finally:
                # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
                await asyncio.create_task(self._settle(work, granted))

    async def _granted(self, work: Work, worn: Grant | None) -> _Granted:
        """A token, in the link's flight."""
        flight = await self._flights.begin(work.user_id, work.org_code)
        try:
            papers = await self._current(work)
            asked = self._clock.monotonic()
            grant = await self._token(work, papers, worn)
        except BaseException:
            await flight.end()
            raise
        return _Granted(grant, flight, link_status=papers.link_status, took=self._clock.monotonic() - asked)

    async def _current(self, work: Work) -> Papers:
        """What there is to read with, if somebody still wants that."""
        papers = await self._linking.papers(work.user_id, work.registration_id, work.org_code)
        if papers is None or not papers.progress.is_current(work.run):
            raise Overtaken
        return papers

    async def _token(self, work: Work, papers: Papers, worn: Grant | None) -> Grant:
        """What to read with. A grant that can no longer be refreshed may take its link along."""
        tried = worn or papers.usable_grant()
        try:
            return await (self._linking.renewed(papers, worn, work.client) if worn else self._connected(work, papers))
        except ConsentRequired as exc:
            if tried is not None:
                await self._lost(work.user_id, work.org_code, tried, exc)
            raise

    async def _drop(self, work: Work, granted: _Granted) -> None:
        """Nobody wants a link that was not there before: the provider is to end its token. One that was there lives by the new one."""
        if granted.unkept and granted.link_status != ACTIVE:
            await self._linking.disown(work.user_id, work.org_code, granted.grant)
            granted.kept()

    async def _settle(self, work: Work, granted: _Granted) -> None:
        """Commits a new token that nothing was recorded with, and lets the next one at the link."""

        def wanted(registration: Registration) -> bool:  # see `_drop`
            return granted.link_status == ACTIVE or is_current(registration, work.org_code, work.run)

        try:
            if granted.unkept:
                writes = Writes(links=self._links(work, granted))
                handled = await self._handling.handle(work.user_id, work.registration_id, writes=writes, wanted=wanted)
                if handled.registration is None or not wanted(handled.registration):  # the user was erased, or changed their mind
                    await self._linking.disown(work.user_id, work.org_code, granted.grant)
        finally:
            await granted.settled()

    def _links(self, work: Work, granted: _Granted) -> tuple[Values, ...]:
        return (self._linking.kept(work.user_id, work.org_code, granted.grant),) if granted.unkept else ()

    async def _connected(self, work: Work, papers: Papers) -> Grant:
        """A token. `provider.connecting` is told meanwhile; a deferred provider must have answered first."""
        failpoints.reached(Failpoint.COLLECT_BEFORE_CALL)
        if papers.progress.item_status is ProviderStatus.DEFERRED:
            grant = await self._linking.grant(papers, work.client)
            await self._tell(work, Connect(work.org_code, work.run, answered=True))
            return grant
        async with _alongside(self._tell(work, Connect(work.org_code, work.run))):
            return await self._linking.grant(papers, work.client)

    async def _read(self, work: Work, granted: _Granted) -> None:
        """Lists and details with this token, to the end. A new token is committed with the first that it was read with."""
        timestamps, grant, named = Timestamps(), granted.grant, set[str]()
        answers = work.client.collect(grant.tokens.access_token, ApiType.USER_CONSENT, self._clock.now(), timestamps)
        inbox = _Inbox()
        async with _reading(answers, inbox):
            while (collected := await inbox.taken()) is not None:
                shown = self._shown(work, collected)
                named.update(asset.id for asset in shown)
                read = (grant.read(work.org_code, timestamps),) if inbox.complete else ()
                if read:
                    await self._settle(work, granted)  # one statement cannot make a link and say that it was read to the end
                    shown += await self._gone(work, granted, timestamps, named)
                await self._record(work, granted, shown, read)
            if inbox.failure is not None:
                raise inbox.failure

    def _shown(self, work: Work, collected: tuple[CollectedAsset, ...]) -> tuple[Asset, ...]:
        now = self._clock.now()
        return tuple(asset_of(self._asset_secret, work.user_id, work.provider, asset, now) for asset in collected)

    async def _gone(self, work: Work, granted: _Granted, timestamps: Timestamps, named: Iterable[str]) -> tuple[Asset, ...]:
        """What an earlier reading has left behind, and this one, which is at its end, does not name."""
        if granted.link_status is None:
            return ()
        async with self._database.reading() as connection:
            stored = await assets.held(connection, work.user_id, work.org_code)
        return gone(named, stored, timestamps.told_whole, self._clock.now())

    async def _record(self, work: Work, granted: _Granted, shown: tuple[Asset, ...], read: tuple[Values, ...]) -> None:
        """At once: assets and what is told; with the last answer also the end, and what was `read`."""
        user_id, org_code, run = work.user_id, work.org_code, work.run
        failpoints.reached(Failpoint.COLLECT_ANSWERED)
        requests: list[ItemRequest] = [RecordAssets(org_code, run, shown)] if shown else []
        if read:
            requests.append(Complete(org_code, run))
        if requests:
            writes = Writes(assets=shown, read=read, links=self._links(work, granted))
            handled = await self._handling.handle(user_id, work.registration_id, *requests, writes=writes)
            if not handled.facts:
                raise Overtaken
            granted.kept()

    async def _tell(self, work: Work, request: ItemRequest) -> None:
        await self._handling.handle(work.user_id, work.registration_id, request)

    async def _fail(self, work: Work, trouble: Trouble, reason: str) -> None:
        log.info("collect.failed", registration_id=work.registration_id, org_code=work.org_code, trouble=trouble, reason=reason)
        await self._tell(work, Fail(work.org_code, work.run, trouble))

    async def _defer(self, work: Work, exc: ProviderError) -> None:
        retry_at = max(exc.retry_at or self._next_try(), self._clock.now())
        org_code, run = work.org_code, work.run
        handled = await self._handling.handle(work.user_id, work.registration_id, Defer(org_code, run, Trouble.RESTING, retry_at))
        if not handled.facts:
            await self._put_off(work, retry_at)
        raise Postponed(retry_at)

    async def _put_off(self, work: Work, retry_at: datetime) -> None:
        """The deferral was announced before; only its end moves."""

        async def deed(connection: Connection) -> None:
            await registrations.touch_item(
                connection, work.user_id, work.registration_id, work.org_code, retry_at=retry_at, now=self._clock.now()
            )

        await self._database.transaction(deed)

    def _next_try(self) -> datetime:
        return self._clock.now() + self._deadlines.defer


class _Granted:
    """A token in use, and the link's flight, which ends when the token is committed."""

    def __init__(self, grant: Grant, flight: Flight, *, link_status: str | None, took: float) -> None:
        """`link_status`: before; None: nothing can have been read. `took`: seconds, to get the token."""
        self.grant = grant
        self.link_status = link_status
        self.took = took
        self.unkept = grant.fresh
        self._flight = flight
        self._ending: asyncio.Task[None] | None = None
        if not self.unkept:
            self.kept()

    def kept(self) -> None:
        """The token is committed: the flight ends, and nobody waits for that."""
        self.unkept = False
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._flight.end())

    async def settled(self) -> None:
        """Returns when the flight has ended."""
        self.kept()
        if self._ending is not None:
            await self._ending


class _Inbox:
    """Answers that wait to be written. A newer state of an asset replaces an older one that was not written yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], CollectedAsset] = {}
        self._changed = asyncio.Event()
        self._over = False
        self._told_end = False
        self.failure: BaseException | None = None

    @property
    def complete(self) -> bool:
        """Whether everything was read, and all of it taken."""
        return self._over and self.failure is None and not self._waiting

    async def fill(self, answers: AsyncIterator[tuple[CollectedAsset, ...]]) -> None:
        """Reads to the end; a failure is kept for whoever takes."""
        try:
            async for answer in answers:
                self._waiting.update(((asset.kind.value, asset.key), asset) for asset in answer)
                self._changed.set()
                await _others_first()
        except Exception as exc:
            self.failure = exc
        self._over = True
        self._changed.set()

    async def taken(self) -> tuple[CollectedAsset, ...] | None:
        """What came since the last call, waiting for something; `()` once when all is read and taken; then None."""
        while not self._waiting and not self._over:
            self._changed.clear()
            await self._changed.wait()
        if self._waiting:
            taken, self._waiting = tuple(self._waiting.values()), {}
            self._told_end = self.complete
            return taken
        if self.failure is None and not self._told_end:
            self._told_end = True
            return ()
        return None


async def _others_first() -> None:
    """What was just put is on its way to PostgreSQL before the next calls are made: each takes a quarter of a millisecond to send."""
    for _ in range(TURNS_TO_A_STATEMENT):
        await asyncio.sleep(0)


@asynccontextmanager
async def _reading(answers: AsyncIterator[tuple[CollectedAsset, ...]], inbox: _Inbox) -> AsyncIterator[None]:
    """Fills the inbox while the block runs; what is not read by then is given up."""
    reader = asyncio.create_task(inbox.fill(answers))
    try:
        yield
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()


@asynccontextmanager
async def _alongside(deed: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs `deed` while the block runs, and waits for it before going on."""
    task = asyncio.create_task(deed)
    try:
        yield
    finally:
        await task
