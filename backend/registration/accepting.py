"""What a client asks of registrations: begin, retry, cancel. Each answers after its commit and waits for nobody else.

In: a checked request with its identity. Out: an `Answer` to send, or `Refused`. The work itself is left to jobs; should the queue be
away, the sweeper finds the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from ulid import ULID

from backend import failpoints
from backend.clock import KST, Clock
from backend.errors import Problem, Refused, Trouble
from backend.events import Position, RegistrationStatus, to_json
from backend.failpoints import Failpoint
from backend.identity import Identity
from backend.jobs.queue import Job
from backend.providers.directory import Directory
from backend.registration.decisions import Cancel, RecordAcceptance, Retry, decide, failed_providers
from backend.registration.handling import Handled, Handling
from backend.registration.jobs import collect_job, sign_job
from backend.registration.model import MAX_PROVIDERS, Item, Registration
from backend.registration.people import People
from backend.registration.rows import new_row
from backend.registration.views import registration_view
from backend.storage import consents, idempotency, links, registrations
from backend.storage.changes import Writes
from backend.storage.database import Database
from backend.storage.idempotency import FirstAnswer
from backend.storage.outbox import Entry

ACCEPTED = 202


class Answer(Struct, frozen=True, kw_only=True):
    """What the client gets."""

    body: bytes
    location: str
    replayed: bool = False  # whether this is the first answer to the same Idempotency-Key


class After(Struct, frozen=True):
    """What is left to do once the answer is on its way: facts for the feed, jobs for the workers."""

    user_id: str
    entries: Sequence[Entry]
    jobs: Sequence[Job]


class Accepting:
    """Begins, retries and cancels. `afterwards` takes what may happen after the answer; it must not raise or block."""

    def __init__(
        self,
        *,
        database: Database,
        handling: Handling,
        people: People,
        directory: Callable[[], Directory],
        position: Callable[[str], Awaitable[Position]],
        afterwards: Callable[[After], None],
        clock: Clock,
        signature_ttl: timedelta,
    ) -> None:
        self._database = database
        self._handling = handling
        self._people = people
        self._directory = directory
        self._position = position
        self._afterwards = afterwards
        self._clock = clock
        self._signature_ttl = signature_ttl
        self.accepted = 0  # new ones, by this process

    async def begin(self, identity: Identity, org_codes: tuple[str, ...], *, key: str | None, request_id: str) -> Answer:
        """Accepts a registration; the same `key` with the same providers is answered as the first time, whatever has changed since."""
        asked = hashlib.sha256(to_json(org_codes)).digest()
        try:
            check_providers(org_codes, self._directory())
            sealed = self._people.sealed(identity)
        except Refused:
            first = await self._first(identity.user_id, key, self._clock.now()) if key is not None else None
            if first is None or first.body_digest != asked:
                raise
            return _replayed(first)
        position = await self._position(identity.user_id)
        now = self._clock.now()
        registration = self._new(identity.user_id, org_codes, now)
        answer = self._answer(registration, position)
        kept = FirstAnswer(body_digest=asked, status=ACCEPTED, location=answer.location, body=answer.body)
        new = registrations.Acceptance(
            registration=new_row(registration, request_id=request_id),
            org_codes=org_codes,
            person_sealed=sealed,
            events=[fact.event() for fact in decide(registration, RecordAcceptance(), now)],
            once=(key, kept) if key is not None else None,
        )
        entries = await self._database.single(lambda connection: registrations.accept(connection, new, now))
        failpoints.reached(Failpoint.ACCEPT_COMMITTED)
        if key is not None and not entries:
            first = await self._first(identity.user_id, key, now)
            if first is None or first.body_digest != asked:
                raise Refused(Problem.IDEMPOTENCY_CONFLICT)
            return _replayed(first)
        self.accepted += 1
        job = sign_job(identity.user_id, registration.id, registration.run, request_id=request_id)
        self._afterwards(After(identity.user_id, entries, [job]))
        return answer

    async def _first(self, user_id: str, key: str, now: datetime) -> FirstAnswer | None:
        """What was answered when the key was new; None: it is."""
        async with self._database.reading() as connection:
            return await idempotency.find(connection, user_id, key, now)

    async def retry(self, identity: Identity, registration_id: str, *, request_id: str) -> Answer:
        """Begins the failed providers again; asks for another signature only if one of them needs it."""
        position = await self._position(identity.user_id)
        before = await self._found(identity.user_id, registration_id)
        unsigned = await self._unsigned(before)
        sign_before = self._clock.now() + self._signature_ttl
        again = Writes(registration={"sign_before": sign_before, "request_id": request_id})
        handled = await self._handling.handle(identity.user_id, registration_id, Retry(unsigned), writes=again)
        registration = _changed(handled, Problem.NOTHING_TO_RETRY)
        self._afterwards(After(identity.user_id, (), jobs_of(registration, request_id=request_id)))
        return self._answer(registration, position)

    async def cancel(self, identity: Identity, registration_id: str) -> Answer:
        """Ends whatever has not ended."""
        position = await self._position(identity.user_id)
        handled = await self._handling.handle(identity.user_id, registration_id, Cancel())
        return self._answer(_changed(handled, Problem.NOTHING_TO_CANCEL), position)

    async def _found(self, user_id: str, registration_id: str) -> Registration:
        registration = await self._handling.find(user_id, registration_id)
        if registration is None:
            raise Refused(Problem.NOT_FOUND)
        return registration

    async def _unsigned(self, registration: Registration) -> frozenset[str]:
        """Failed providers that can be read neither by a link nor by a signed consent that the provider takes."""
        failed = failed_providers(registration)
        not_taken = {code for code in failed if registration.item(code).error_code == Trouble.CONSENT_REQUIRED}
        now = self._clock.now()
        today = now.astimezone(KST).date()
        async with self._database.reading() as connection:
            linked = await links.usable(connection, registration.user_id, failed, today=today, now=now)
            signed = await consents.signed_providers(connection, registration.user_id, registration.id, today)
        return frozenset(failed) - ((linked | signed) - not_taken)

    def _new(self, user_id: str, org_codes: tuple[str, ...], now: datetime) -> Registration:
        return Registration(
            user_id=user_id,
            id=f"reg_{ULID.from_datetime(now)}",
            created_at=now,
            sign_before=now + self._signature_ttl,
            items=tuple(Item(org_code=org_code) for org_code in org_codes),
        )

    def _answer(self, registration: Registration, position: Position) -> Answer:
        view = registration_view(registration, self._directory(), position)
        return Answer(body=to_json(view), location=f"/v1/registrations/{registration.id}")


def check_providers(org_codes: tuple[str, ...], directory: Directory) -> None:
    """Raises `Refused` with every fault at once: empty, too many, twice, unknown."""
    if not org_codes:
        raise Refused(Problem.VALIDATION_FAILED, errors=({"field": "providers", "message": "choose at least one provider"},))
    if len(org_codes) > MAX_PROVIDERS:
        message = f"choose at most {MAX_PROVIDERS} providers"
        raise Refused(Problem.VALIDATION_FAILED, errors=({"field": "providers", "message": message},))
    unknown = tuple(_fault(place, "unknown provider") for place, code in enumerate(org_codes) if directory.provider(code) is None)
    if unknown:
        raise Refused(Problem.UNKNOWN_PROVIDER, errors=unknown)
    twice = tuple(_fault(place, "chosen twice") for place, code in enumerate(org_codes) if code in org_codes[:place])
    if twice:
        raise Refused(Problem.VALIDATION_FAILED, errors=twice)


def jobs_of(registration: Registration, *, request_id: str) -> list[Job]:
    """Everything that must run for this registration from here on."""
    if registration.status is RegistrationStatus.SIGNING:
        return [sign_job(registration.user_id, registration.id, registration.run, request_id=request_id)]
    return [
        collect_job(registration.user_id, registration.id, item.org_code, item.run, request_id=request_id)
        for item in registration.items
        if item.status == "waiting"
    ]


def _replayed(first: FirstAnswer) -> Answer:
    return Answer(body=first.body, location=first.location, replayed=True)


def _fault(place: int, message: str) -> dict[str, str]:
    return {"field": f"providers[{place}]", "message": message}


def _changed(handled: Handled, otherwise: Problem) -> Registration:
    if handled.registration is None:
        raise Refused(Problem.NOT_FOUND)
    if not handled.facts:
        raise Refused(otherwise)
    return handled.registration
