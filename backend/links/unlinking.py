"""How links end: the person revokes one, the provider says that its consent is over, or its time is over.

In: a user and a provider, or the day. Out: the link's state, the consent history and `link.*` facts, in one transaction; after the person
revoked, a job that tells the provider, again and again until it knows. No request waits for a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta

import structlog
from msgspec import Struct

from backend.clock import KST, Clock, iso
from backend.errors import ITEM_ERRORS, ConsentRequired, Problem, ProviderError, ProviderRefused, Refused, Trouble
from backend.events import Industry, LinkExpired, LinkExpiring, LinkFact, LinkRevoked
from backend.jobs.queue import JobQueue, Postponed
from backend.jobs.sweeper import Round
from backend.providers.directory import Directory
from backend.providers.outcomes import OAuthError, RspCode
from backend.registration.accepting import After
from backend.registration.collecting import ProviderClients
from backend.registration.decisions import Fail
from backend.registration.flights import SingleFlight
from backend.registration.handling import Handling
from backend.registration.jobs import revoke_job
from backend.registration.linking import ACTIVE, REVOKED, Grant
from backend.storage import links, registrations, revocations, users
from backend.storage.database import Database
from backend.storage.links import End
from backend.storage.outbox import Entry, Relay, publish
from backend.storage.sealed import REVOKED_TOKEN
from backend.storage.statements import Connection, Row
from backend.storage.vault import Vault

EXPIRED = "consent_expired"
TOLD_FOR = timedelta(days=7)  # so long a provider is told that a link has ended
IDLE = timedelta(seconds=2)  # younger work is in somebody's hands
MOST = 200  # per sweep; the oldest first
_WAITS = timedelta(seconds=1), timedelta(hours=1)  # shortest and longest until a provider is told again

log = structlog.get_logger()


class LinkView(Struct, frozen=True):
    """A link as clients see it."""

    org_code: str
    name: str
    industry: Industry | None  # None: the provider left the directory
    status: str
    consent_expires_at: str
    last_refreshed_at: str | None  # None: never read to the end


def link_view(row: Row, directory: Directory, now: datetime) -> LinkView:
    """RULE. A consent whose day has come has ended, whether or not it was told yet."""
    provider = directory.provider(row["org_code"])
    over = row["status"] == ACTIVE and row["consent_ends_on"] <= now.astimezone(KST).date()
    return LinkView(
        org_code=row["org_code"],
        name=provider.name if provider else row["org_code"],
        industry=provider.industry if provider else None,
        status=EXPIRED if over else row["status"],
        consent_expires_at=iso(moment_of(row["consent_ends_on"])),
        last_refreshed_at=iso(row["last_refreshed_at"]) if row["last_refreshed_at"] else None,
    )


def moment_of(ends_on: date) -> datetime:
    """When that day begins in Korea: from then on the consent is not good any more."""
    return datetime.combine(ends_on, time.min, KST).astimezone(UTC)


class Links:
    """A person's links: look at them, revoke one. `afterwards` takes what may happen after the answer."""

    def __init__(
        self,
        *,
        database: Database,
        handling: Handling,
        directory: Callable[[], Directory],
        afterwards: Callable[[After], None],
        clock: Clock,
    ) -> None:
        self._database = database
        self._handling = handling
        self._directory = directory
        self._afterwards = afterwards
        self._clock = clock

    async def listed(self, user_id: str) -> list[LinkView]:
        """Every link, those that have ended too."""
        async with self._database.reading() as connection:
            rows = await links.listed(connection, user_id)
        return [link_view(row, self._directory(), self._clock.now()) for row in rows]

    async def revoke(self, user_id: str, org_code: str) -> LinkView:
        """Ends the link and erases what was read by it. Raises `Refused`, and changes nothing, when there never was one."""
        async with self._database.reading() as connection:
            if await links.held(connection, user_id, org_code) is None:
                raise Refused(Problem.NOT_FOUND)
        await self._stop_collecting(user_id, org_code)
        now = self._clock.now()

        async def deed(connection: Connection) -> tuple[Row | None, Sequence[Entry]]:
            await users.lock(connection, user_id)
            entries = await _revoked(connection, user_id, org_code, now)
            return await links.held(connection, user_id, org_code), entries

        row, entries = await self._database.transaction(deed)
        if row is None:
            raise Refused(Problem.NOT_FOUND)
        self._afterwards(After(user_id, entries, [revoke_job(user_id, org_code)]))
        return link_view(row, self._directory(), now)

    async def _stop_collecting(self, user_id: str, org_code: str) -> None:
        """What is still being read on the consent that ends now is not written any more."""
        async with self._database.reading() as connection:
            begun = await registrations.unfinished(connection, user_id, org_code)
        for registration_id, run in begun:
            await self._handling.handle(user_id, registration_id, Fail(org_code, run, Trouble.CONSENT_REQUIRED))


class Unlinking:
    """The workers' part: tells providers what the person revoked, and takes in what providers tell. One per process."""

    def __init__(
        self, *, database: Database, relay: Relay, vault: Vault, flights: SingleFlight, clients: ProviderClients, clock: Clock
    ) -> None:
        self._database = database
        self._relay = relay
        self._vault = vault
        self._flights = flights
        self._clients = clients
        self._clock = clock

    async def lost(self, user_id: str, org_code: str, grant: Grant, refusal: ConsentRequired) -> None:
        """A provider did not take this grant: if its consent is over, so is the link, and the person is told what to do."""
        over = refusal.reason == RspCode.CONSENT_ENDED or grant.tokens.refresh_expires_at <= self._clock.now()
        if not over and refusal.reason != OAuthError.INVALID_GRANT:
            return  # it may be the provider's mistake: the link is tried again
        now = self._clock.now()
        how = End(status=EXPIRED if over else REVOKED, happened="expired" if over else "withdrawn", consent_tx_id=grant.consent_tx_id)

        async def deed(connection: Connection) -> Sequence[Entry]:
            await users.lock(connection, user_id)
            return await _ended(connection, user_id, org_code, how, now)

        entries = await self._database.transaction(deed)
        log.info("link.ended", org_code=org_code, status=how.status, reason=refusal.reason)
        if entries:
            await self._relay.push(user_id, entries)

    async def revoke(self, user_id: str, org_code: str) -> None:
        """Tells the provider that a link has ended. Raises `Postponed` while it cannot be told."""
        async with await self._flights.begin(user_id, org_code):
            async with self._database.reading() as connection:
                owed = await revocations.find(connection, user_id, org_code)
            if owed is None:
                return
            now = self._clock.now()
            try:
                if owed["token_sealed"] is not None:
                    token = self._vault.open(owed["token_sealed"], *REVOKED_TOKEN.row(user_id, org_code)).decode()
                    await self._clients.provider(org_code, user_id).revoke_token(token)
            except (ConsentRequired, ProviderRefused) as exc:  # it does not know this token, or never will
                log.info("revoke.refused", org_code=org_code, reason=exc.reason)
            except ProviderError as exc:
                if now - owed["created_at"] < TOLD_FOR:
                    raise Postponed(_next_try(owed["created_at"], exc.retry_at, now)) from exc
                log.warning("revoke.given_up", org_code=org_code, reason=exc.reason)
            await self._database.transaction(lambda connection: revocations.done(connection, user_id, org_code, owed["created_at"]))


def _next_try(since: datetime, named: datetime | None, now: datetime) -> datetime:
    """The longer it lasts, the longer the wait."""
    shortest, longest = _WAITS
    return max(named or now, now + min(max((now - since) / 4, shortest), longest))


async def _revoked(connection: Connection, user_id: str, org_code: str, now: datetime) -> Sequence[Entry]:
    """The person's wish: the link ends, if it has not ended at the provider before, and nothing that was read by it stays."""
    how = End(status=REVOKED, happened="revoked", from_status=(ACTIVE, EXPIRED), is_owed=True)
    entries = await _ended(connection, user_id, org_code, how, now)
    await links.erase_data(connection, user_id, org_code)
    return entries


async def _ended(connection: Connection, user_id: str, org_code: str, how: End, now: datetime) -> Sequence[Entry]:
    """Ends a link and tells it; nothing: there was none to end. Under the user's lock."""
    ends_on = await links.end(connection, user_id, org_code, how, now)
    if ends_on is None:
        return ()
    fact = LinkExpired if how.status == EXPIRED else LinkRevoked
    error = None if how.happened == "revoked" else ITEM_ERRORS[Trouble.CONSENT_REQUIRED]
    told = fact(at=now, org_code=org_code, consent_expires_at=moment_of(ends_on), error=error)
    return await publish(connection, user_id, [told.event()], now)


class RevocationSweep:
    """Asks for a job for every provider that is still to be told."""

    name = "revocations"

    def __init__(self, *, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue
        self._round = Round()

    async def sweep(self, now: datetime) -> int:
        """How many jobs were missing."""
        async with self._database.reading() as connection:
            found = await revocations.left(connection, before=now - IDLE, limit=MOST, skip=self._round.skip)
        missing = await self._queue.enqueue([revoke_job(owed.user_id, owed.org_code) for owed in found]) if found else 0
        self._round.saw(len(found), most=MOST)
        return missing


class NoticeSweep:
    """Tells 30 days before that a consent will end, and that it has ended on its day."""

    name = "consent_notices"

    def __init__(self, *, database: Database, relay: Relay) -> None:
        self._database = database
        self._relay = relay

    async def sweep(self, now: datetime) -> int:
        """How many were told."""
        today = now.astimezone(KST).date()
        async with self._database.reading() as connection:
            due = await links.due_for_notice(connection, today=today, limit=MOST)
        for user_id, org_code in due:
            entries = await self._told(user_id, org_code, now)
            if entries:
                await self._relay.push(user_id, entries)
        return len(due)

    async def _told(self, user_id: str, org_code: str, now: datetime) -> Sequence[Entry]:
        today = now.astimezone(KST).date()

        async def deed(connection: Connection) -> Sequence[Entry]:
            await users.lock(connection, user_id)
            row = await links.held(connection, user_id, org_code)
            if row is None or row["status"] != ACTIVE or row["notice_on"] is None or row["notice_on"] > today:
                return ()
            if row["consent_ends_on"] <= today:
                return await _ended(connection, user_id, org_code, End(status=EXPIRED, happened="expired"), now)
            await links.note_end(connection, user_id, org_code)
            fact: LinkFact = LinkExpiring(at=now, org_code=org_code, consent_expires_at=moment_of(row["consent_ends_on"]))
            return await publish(connection, user_id, [fact.event()], now)

        return await self._database.transaction(deed)
