"""One signature for all providers: the `sign` job asks the CA, looks whether the person has signed, and hands on.

In: (user, registration, run). Out: `signature.*` facts and one collect job per provider. The job is driven by the row alone: each run
does what the state asks for and, while the person thinks, puts itself off, so no slot of a worker waits. CA trouble is waited out
until the signature's time is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from backend import failpoints
from backend.clock import Clock
from backend.errors import ProviderError
from backend.events import RegistrationStatus
from backend.failpoints import Failpoint
from backend.jobs.queue import JobQueue, Postponed
from backend.providers.contract import CaClient, Consent, NotSignedYet, Person, SignatureRefused, SignatureRequest, Signed
from backend.registration.accepting import jobs_of
from backend.registration.consenting import Consenting
from backend.registration.decisions import RecordDenial, RecordExpiry, RecordSignatureRequest, RecordSigned, RecordSigningFailure
from backend.registration.handling import Handling
from backend.registration.model import Registration, requested_signature
from backend.registration.people import People
from backend.registration.rows import Columns, restored
from backend.storage import registrations
from backend.storage.changes import Writes
from backend.storage.database import Database

log = structlog.get_logger()


class Patience(Struct, frozen=True, kw_only=True):
    """How long the job waits for what."""

    ttl: timedelta  # the time in which the person must sign
    poll: timedelta  # between two looks while the signature is young
    young: timedelta = timedelta(seconds=10)  # most people who sign do it within this time
    later: int = 4  # times `poll` after that
    trouble: tuple[timedelta, timedelta] = (timedelta(seconds=1), timedelta(seconds=10))  # shortest and longest wait for a sick CA

    def next_look(self, registration: Registration, now: datetime) -> datetime:
        """When to ask again for a signature that is not there yet."""
        return self._in(self.poll if self._age(registration, now) < self.young else self.poll * self.later, registration, now)

    def next_try(self, registration: Registration, now: datetime) -> datetime:
        """When to call a sick CA again: the longer it lasts, the longer the wait."""
        shortest, longest = self.trouble
        return self._in(min(max(self._age(registration, now) / 4, shortest), longest), registration, now)

    def _in(self, wait: timedelta, registration: Registration, now: datetime) -> datetime:
        """Not beyond the end of the signature's time, which is to be told when it is over."""
        return min(now + wait, max(registration.sign_before, now))

    def _age(self, registration: Registration, now: datetime) -> timedelta:
        return now - (registration.sign_before - self.ttl)


class Unasked(Struct, frozen=True):
    """A run for which the CA is still to be asked, and who signs."""

    registration: Registration
    person: Person


class Opened(Struct, frozen=True):
    """A run whose signature the CA was asked for, and the consents that it covers."""

    registration: Registration
    request: SignatureRequest
    consents: tuple[Consent, ...]


class Signing:
    """Runs `sign` jobs. One per process, made in `hands.py`."""

    def __init__(
        self,
        *,
        database: Database,
        handling: Handling,
        people: People,
        consenting: Consenting,
        queue: JobQueue,
        ca: CaClient,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._database = database
        self._handling = handling
        self._people = people
        self._consenting = consenting
        self._queue = queue
        self._ca = ca
        self._clock = clock
        self._patience = patience

    async def sign(self, user_id: str, registration_id: str, run: int, *, request_id: str) -> None:
        """Brings the signature of this run one step further. Raises `Postponed` while there is something to wait for."""
        opened = await self._open(user_id, registration_id, run)
        if opened is None:
            return
        over = self._clock.now() >= opened.registration.sign_before
        try:
            if not over or isinstance(opened, Opened):  # a last look: who signed since the one before has signed in time
                await self._step(opened, request_id)
                return
        except ProviderError as exc:
            log.warning("signature.trouble", registration_id=registration_id, trouble=exc.TROUBLE, reason=exc.reason)
            if not over:
                raise Postponed(self._patience.next_try(opened.registration, self._clock.now())) from exc
        except Postponed:
            if not over:
                raise
        await self._handling.handle(user_id, registration_id, RecordExpiry(run))

    async def give_up(self, user_id: str, registration_id: str, run: int) -> None:
        """Ends a run on whose signature our own code failed again and again."""
        await self._handling.handle(user_id, registration_id, RecordSigningFailure(run))

    async def _step(self, opened: Unasked | Opened, request_id: str) -> None:
        if isinstance(opened, Unasked):
            await self._request(opened)
            raise Postponed(self._patience.next_look(opened.registration, self._clock.now()))
        registration = opened.registration
        match await self._ca.signature(opened.request, opened.consents, self._clock.now()):
            case NotSignedYet():
                raise Postponed(self._patience.next_look(registration, self._clock.now()))
            case SignatureRefused():
                await self._handling.handle(registration.user_id, registration.id, RecordDenial(registration.run))
            case Signed(signed_consents=signed):
                await self._signed(opened, opened.request.cert_tx_id, signed, request_id)

    async def _request(self, opened: Unasked) -> None:
        registration = opened.registration
        now = self._clock.now()
        expires_at = registration.sign_before
        drawn_up = self._consenting.drawn_up(registration, now)
        failpoints.reached(Failpoint.SIGN_BEFORE_CALL)
        request = await self._ca.request_signature(opened.person, drawn_up, now)
        failpoints.reached(Failpoint.SIGN_ANSWERED)
        signature = requested_signature(
            web_url=request.web_url,
            ios_url=request.ios_app_scheme_url,
            aos_url=request.aos_app_scheme_url,
            expires_at=expires_at,
        )
        writes = Writes(registration=_columns(request, expires_at), asked=self._consenting.asked(registration, drawn_up, now))
        requested = RecordSignatureRequest(registration.run, signature)
        await self._handling.handle(registration.user_id, registration.id, requested, writes=writes)

    async def _signed(self, opened: Opened, cert_tx_id: str, by_tx_id: dict[str, str], request_id: str) -> None:
        registration = opened.registration
        signed = {consent.org_code: by_tx_id[consent.tx_id] for consent in opened.consents}
        writes = Writes(signed=self._consenting.signed(registration, cert_tx_id, signed))
        handled = await self._handling.handle(registration.user_id, registration.id, RecordSigned(registration.run), writes=writes)
        if handled.registration is not None and handled.registration.status is RegistrationStatus.COLLECTING:
            failpoints.reached(Failpoint.SIGN_COMMITTED)
            await self._queue.enqueue(jobs_of(handled.registration, request_id=request_id))

    async def _open(self, user_id: str, registration_id: str, run: int) -> Unasked | Opened | None:
        """What this job works on; None: nothing is to be signed in this run any more."""
        async with self._database.reading() as connection:
            row = await registrations.load(connection, user_id, registration_id)
            if row is None:
                return None
            registration = restored(row)
            if registration.run != run or not registration.awaits_signature:
                return None
            self._handling.knows(registration, row["feed_offset"])
            if registration.signature_run != run:
                return Unasked(registration, await self._people.person(connection, user_id))
            return Opened(registration, _request_of(row), await self._consenting.kept(connection, registration))


def _request_of(row: Columns) -> SignatureRequest:
    return SignatureRequest(
        sign_tx_id=row["sign_tx_id"],
        cert_tx_id=row["cert_tx_id"],
        web_url=row["sign_web_url"],
        ios_app_scheme_url=row["sign_ios_url"],
        aos_app_scheme_url=row["sign_aos_url"],
    )


def _columns(request: SignatureRequest, expires_at: datetime) -> dict[str, object]:
    return {
        "sign_tx_id": request.sign_tx_id,
        "cert_tx_id": request.cert_tx_id,
        "sign_web_url": request.web_url,
        "sign_ios_url": request.ios_app_scheme_url,
        "sign_aos_url": request.aos_app_scheme_url,
        "sign_expires_at": expires_at,
    }
