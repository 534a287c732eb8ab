"""What a registration is, and what each fact does to it. RULE: no I/O, no clock, no randomness.

In: a registration and facts. Out: the registration after them. The rows in PostgreSQL are this fold and nothing else, and the
contract's table of events is the same fold seen from a client; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from backend.clock import iso
from backend.events import (
    AssetsCollected,
    Fact,
    Position,
    ProviderCompleted,
    ProviderConnecting,
    ProviderDeferred,
    ProviderFailed,
    ProviderStatus,
    RegistrationCompleted,
    RegistrationRetried,
    RegistrationStatus,
    Signature,
    SignatureCompleted,
    SignatureDenied,
    SignatureExpired,
    SignatureRequested,
    SignatureStatus,
)

MAX_PROVIDERS = 100

UNFINISHED = frozenset({ProviderStatus.WAITING, ProviderStatus.CONNECTING, ProviderStatus.COLLECTING, ProviderStatus.DEFERRED})


class Item(Struct, frozen=True, kw_only=True):
    """One chosen provider in a registration."""

    org_code: str
    status: ProviderStatus = ProviderStatus.WAITING
    run: int = 1  # the run in which it was last begun; a job of an older run is stale
    asset_ids: frozenset[str] = frozenset()  # every asset that this registration has shown
    error_code: str | None = None  # None: nothing went wrong (yet)
    retry_at: datetime | None = None  # deferred: when it is tried again


class Registration(Struct, frozen=True, kw_only=True):
    """One act of connecting providers. A retry starts the next run of the same registration."""

    user_id: str
    id: str
    created_at: datetime
    sign_before: datetime  # an unsigned run expires then
    items: tuple[Item, ...]
    status: RegistrationStatus = RegistrationStatus.SIGNING
    run: int = 1
    completed_as: RegistrationStatus | None = None  # what was announced last in this run; None: nothing yet
    signature: Signature = Signature(SignatureStatus.PENDING)
    signature_run: int = 0  # the run that `signature` belongs to; 0: none was requested

    def item(self, org_code: str) -> Item:
        """Raises KeyError for a provider that was not chosen."""
        for item in self.items:
            if item.org_code == org_code:
                return item
        raise KeyError(org_code)

    @property
    def awaits_signature(self) -> bool:
        return self.status is RegistrationStatus.SIGNING


def evolve(registration: Registration, facts: Iterable[Fact]) -> Registration:
    """The registration after `facts`."""
    for fact in facts:
        registration = _after(registration, fact)
    return registration


def _after(registration: Registration, fact: Fact) -> Registration:
    match fact:
        case SignatureRequested(signature=signature):
            return replace(registration, signature=signature, signature_run=registration.run)
        case SignatureCompleted():
            return replace(_signed_as(registration, SignatureStatus.COMPLETED), status=RegistrationStatus.COLLECTING)
        case SignatureDenied():
            return _signed_as(registration, SignatureStatus.DENIED)
        case SignatureExpired():
            return _signed_as(registration, SignatureStatus.EXPIRED)
        case RegistrationRetried():
            return _retried(registration, fact)
        case RegistrationCompleted(status=status):
            return _completed(registration, status)
        case _:
            return _after_provider(registration, fact)


def _after_provider(registration: Registration, fact: Fact) -> Registration:
    match fact:
        case ProviderConnecting(org_code=org_code):
            return _with(registration, org_code, status=ProviderStatus.CONNECTING, error_code=None, retry_at=None)
        case AssetsCollected(org_code=org_code, assets=assets):
            known = registration.item(org_code).asset_ids
            return _with(registration, org_code, status=ProviderStatus.COLLECTING, asset_ids=known | {asset.id for asset in assets})
        case ProviderCompleted(org_code=org_code):
            return _with(registration, org_code, status=ProviderStatus.COMPLETED, retry_at=None)
        case ProviderFailed(org_code=org_code, error=error):
            return _with(registration, org_code, status=ProviderStatus.FAILED, error_code=error.code, retry_at=None)
        case ProviderDeferred(org_code=org_code, retry_at=retry_at):
            return _with(registration, org_code, status=ProviderStatus.DEFERRED, retry_at=retry_at)
        case _:
            return registration


def _signed_as(registration: Registration, status: SignatureStatus) -> Registration:
    return replace(registration, signature=replace(registration.signature, status=status))


def _retried(registration: Registration, fact: RegistrationRetried) -> Registration:
    run = registration.run + 1
    again = frozenset(fact.providers)
    return replace(
        registration,
        run=run,
        status=fact.status,
        completed_as=None,
        items=tuple(
            replace(item, status=ProviderStatus.WAITING, run=run, error_code=None, retry_at=None) if item.org_code in again else item
            for item in registration.items
        ),
    )


def _completed(registration: Registration, status: RegistrationStatus) -> Registration:
    items = registration.items
    if status is RegistrationStatus.CANCELLED:
        items = tuple(
            replace(item, status=ProviderStatus.CANCELLED, retry_at=None) if item.status in UNFINISHED else item for item in items
        )
    return replace(registration, status=status, completed_as=status, items=items)


def _with(registration: Registration, org_code: str, **changes: object) -> Registration:
    items = tuple(replace(item, **changes) if item.org_code == org_code else item for item in registration.items)
    return replace(registration, items=items)


def requested_signature(*, web_url: str, ios_url: str, aos_url: str, expires_at: datetime) -> Signature:
    """The signature object from `requested` on."""
    return Signature(SignatureStatus.REQUESTED, web_url, ios_url, aos_url, iso(expires_at))


class ItemView(Struct, frozen=True):
    """A provider as the registration's JSON shows it."""

    org_code: str
    name: str
    industry: str
    status: ProviderStatus
    assets: int
    error: object | None  # ItemError; None: nothing went wrong


class RegistrationView(Struct, frozen=True):
    """The contract's registration object."""

    id: str
    status: RegistrationStatus
    created_at: str
    signature: Signature
    providers: tuple[ItemView, ...]
    position: Position
