"""Tests of the rules as a play: `given(A, B).signed().when(Cancel()).then("registration.completed cancelled")`.

A fact is one line, so that a failing test shows what was told and what was awaited side by side. Time moves only by `later(seconds)`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from backend.errors import Trouble
from backend.events import (
    Asset,
    AssetKind,
    AssetsCollected,
    Balance,
    Fact,
    Industry,
    ProviderCompleted,
    ProviderDeferred,
    ProviderFailed,
    RegistrationCompleted,
    RegistrationRetried,
)
from backend.registration.decisions import (
    Complete,
    Connect,
    Defer,
    Fail,
    RecordAssets,
    RecordSignatureRequest,
    RecordSigned,
    Request,
    decide,
)
from backend.registration.model import Item, Registration, evolve, requested_signature

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)  # a Sunday, 12:00 in KST
TTL = timedelta(seconds=300)

A, B, C = "A1MOABK001", "B1MOACD001", "C1MOAIV001"

SIGNATURE = requested_signature(web_url="https://ca/w", ios_url="ca://i", aos_url="ca://a", expires_at=NOON + TTL)


def new(*org_codes: str) -> Registration:
    """A registration that was just accepted."""
    items = tuple(Item(org_code=org_code) for org_code in org_codes)
    return Registration(user_id="anna", id="reg_1", created_at=NOON, sign_before=NOON + TTL, items=items)


def asset(name: str, org_code: str = A) -> Asset:
    return Asset(name, org_code, Industry.BANK, AssetKind.DEPOSIT, "입출금", "***1", "01", Balance(Decimal("1.00"), "KRW"), "", {})


def connects(org_code: str, run: int = 1, *, answered: bool = False) -> Connect:
    return Connect(org_code, run, answered)


def shows(org_code: str, *names: str, run: int = 1) -> RecordAssets:
    return RecordAssets(org_code, run, tuple(asset(name, org_code) for name in names))


def completes(org_code: str, run: int = 1) -> Complete:
    return Complete(org_code, run)


def fails(org_code: str, run: int = 1, trouble: Trouble = Trouble.UNAVAILABLE) -> Fail:
    return Fail(org_code, run, trouble)


def defers(org_code: str, run: int = 1) -> Defer:
    return Defer(org_code, run, Trouble.RESTING, NOON + timedelta(minutes=1))


def told(fact: Fact) -> str:
    """A fact in one line: its type, its provider, what it says."""
    match fact:
        case AssetsCollected(assets=assets):
            said = [asset.id for asset in assets]
        case ProviderCompleted(assets=count):
            said = [str(count)]
        case ProviderFailed(error=error):
            said = [error.code]
        case ProviderDeferred(reason=reason):
            said = [reason]
        case RegistrationRetried(status=status, providers=again):
            said = [status, *map(_letter, again)]
        case RegistrationCompleted(status=status):
            said = [status]
        case _:
            said = []
    return " ".join([fact.TYPE, *([_letter(fact.org_code)] if hasattr(fact, "org_code") else []), *said])


def _letter(org_code: str) -> str:
    return {A: "A", B: "B", C: "C"}[org_code]


class Play:
    """A registration, the moment, and what the last `when` told. Nothing here is changed: each word makes the next scene."""

    def __init__(self, registration: Registration, now: datetime = NOON, facts: tuple[Fact, ...] = ()) -> None:
        self.registration, self.now, self.facts = registration, now, facts

    def when(self, *requests: Request) -> Play:
        """Each request in its turn, as the shell would carry it out."""
        registration, facts = self.registration, tuple[Fact, ...]()
        for request in requests:
            decided = decide(registration, request, self.now)
            registration, facts = evolve(registration, decided), facts + decided
        return Play(registration, self.now, facts)

    def later(self, seconds: float) -> Play:
        return Play(self.registration, self.now + timedelta(seconds=seconds), self.facts)

    def asked(self) -> Play:
        """The CA took the request for a signature."""
        return self.when(RecordSignatureRequest(self.registration.run, SIGNATURE))

    def signed(self) -> Play:
        """The person has signed."""
        return self.asked().when(RecordSigned(self.registration.run))

    def then(self, *expected: str) -> Play:
        """What the last `when` told: all of it, in this order."""
        assert [told(fact) for fact in self.facts] == list(expected)
        return self

    def then_nothing(self) -> Play:
        return self.then()

    def shows(self, status: str, *items: str) -> Play:
        """The registration's status, and its providers' in the order of choice."""
        registration = self.registration
        assert [registration.status.value, *(item.status.value for item in registration.items)] == [status, *items]
        return self


def given(*org_codes: str) -> Play:
    """A registration of these providers, just accepted."""
    return Play(new(*org_codes))
