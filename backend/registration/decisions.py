"""The rules of a registration: a request and the moment go in, facts come out. RULE: no I/O, no clock, no randomness.

No facts means that the request has nothing to change any more: a job of an older run, a provider that was cancelled meanwhile,
a second delivery. So every job may run twice. The last provider that ends also ends the registration, in the same decision.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from backend.errors import ITEM_ERRORS, Trouble
from backend.events import (
    Asset,
    AssetsCollected,
    Fact,
    ProviderCompleted,
    ProviderConnecting,
    ProviderDeferred,
    ProviderFailed,
    ProviderStatus,
    RegistrationAccepted,
    RegistrationCompleted,
    RegistrationRetried,
    RegistrationStatus,
    Signature,
    SignatureCompleted,
    SignatureDenied,
    SignatureExpired,
    SignatureRequested,
)
from backend.registration.model import UNFINISHED, Registration, evolve

# --- requests --------------------------------------------------------------------------------------------------------


class RecordAcceptance(Struct, frozen=True):
    """The registration was just written."""


class RecordSignatureRequest(Struct, frozen=True):
    run: int
    signature: Signature


class RecordSigned(Struct, frozen=True):
    run: int


class RecordDenial(Struct, frozen=True):
    run: int


class RecordExpiry(Struct, frozen=True):
    run: int


class RecordSigningFailure(Struct, frozen=True):
    """Our own code failed again and again on the way to the signature."""

    run: int


class Connect(Struct, frozen=True):
    """A job begins to call the provider. A deferred provider stays deferred until it really answers."""

    org_code: str
    run: int
    answered: bool = False


class RecordAssets(Struct, frozen=True):
    org_code: str
    run: int
    assets: tuple[Asset, ...]


class Complete(Struct, frozen=True):
    org_code: str
    run: int


class Fail(Struct, frozen=True):
    org_code: str
    run: int
    trouble: Trouble


class Defer(Struct, frozen=True):
    org_code: str
    run: int
    reason: str
    retry_at: datetime


class Cancel(Struct, frozen=True):
    pass


class Retry(Struct, frozen=True):
    unsigned: frozenset[str]  # providers that have neither a link nor an unexpired signed consent


ItemRequest = Connect | RecordAssets | Complete | Fail | Defer
SigningRequest = RecordSignatureRequest | RecordSigned | RecordDenial | RecordExpiry | RecordSigningFailure
Request = RecordAcceptance | SigningRequest | ItemRequest | Cancel | Retry


# A failed registration has providers that still wait only if its run was never signed.
_NEVER_SIGNED = frozenset({RegistrationStatus.DENIED, RegistrationStatus.EXPIRED, RegistrationStatus.FAILED})
_UNSIGNED = _NEVER_SIGNED | {RegistrationStatus.SIGNING}


# --- decisions -------------------------------------------------------------------------------------------------------


def decide(registration: Registration, request: Request, now: datetime) -> tuple[Fact, ...]:
    """What happens; `()` when the request comes too late to matter."""
    match request:
        case RecordAcceptance():
            return (RegistrationAccepted(registration_id=registration.id, at=now),)
        case Cancel():
            return _cancel(registration, now)
        case Retry():
            return _retry(registration, request, now)
        case Connect() | RecordAssets() | Complete() | Fail() | Defer():
            return _with_end(registration, _about_provider(registration, request, now), now)
        case _:
            return _about_signature(registration, request, now)


def _about_signature(registration: Registration, request: SigningRequest, now: datetime) -> tuple[Fact, ...]:
    if not registration.awaits_signature or request.run != registration.run:
        return ()
    name = registration.id
    requested = registration.signature_run == registration.run
    match request:
        case RecordSignatureRequest(signature=signature) if not requested:
            return (SignatureRequested(registration_id=name, at=now, signature=signature),)
        case RecordSigned() if requested:
            return (SignatureCompleted(registration_id=name, at=now),)
        case RecordDenial() if requested:
            return (
                SignatureDenied(registration_id=name, at=now),
                RegistrationCompleted(registration_id=name, at=now, status=RegistrationStatus.DENIED),
            )
        case RecordExpiry() if now >= registration.sign_before:
            return (
                SignatureExpired(registration_id=name, at=now),
                RegistrationCompleted(registration_id=name, at=now, status=RegistrationStatus.EXPIRED),
            )
        case RecordSigningFailure():
            # No provider is heard of before the signature, not even that it failed.
            error = ITEM_ERRORS[Trouble.INTERNAL]
            return (RegistrationCompleted(registration_id=name, at=now, status=RegistrationStatus.FAILED, error=error),)
        case _:
            return ()


def _about_provider(registration: Registration, request: ItemRequest, now: datetime) -> tuple[Fact, ...]:
    if not is_current(registration, request.org_code, request.run):
        return ()
    item = registration.item(request.org_code)
    name, code = registration.id, request.org_code
    match request:
        case Connect(answered=answered):
            begins = item.status is ProviderStatus.WAITING or (item.status is ProviderStatus.DEFERRED and answered)
            return (ProviderConnecting(registration_id=name, at=now, org_code=code),) if begins else ()
        case RecordAssets(assets=assets):
            return (AssetsCollected(registration_id=name, at=now, org_code=code, assets=assets),) if assets else ()
        case Complete():
            return (ProviderCompleted(registration_id=name, at=now, org_code=code, assets=len(item.asset_ids)),)
        case Fail(trouble=trouble):
            return (ProviderFailed(registration_id=name, at=now, org_code=code, error=ITEM_ERRORS[trouble]),)
        case Defer(reason=reason, retry_at=retry_at) if item.status is not ProviderStatus.DEFERRED:  # announced once
            return (ProviderDeferred(registration_id=name, at=now, org_code=code, reason=reason, retry_at=retry_at),)
        case _:
            return ()


class Progress(Struct, frozen=True):
    """How far one provider of a registration is."""

    registration_status: RegistrationStatus
    registration_run: int
    item_status: ProviderStatus
    item_run: int

    def is_current(self, run: int) -> bool:
        """Whether a job of this run still has something to do at this provider.

        What was signed for goes on, even if a later run still waits for its signature or never gets it: so a deferred provider does end.
        """
        signed = self.item_run < self.registration_run or self.registration_status not in _UNSIGNED
        return signed and self.item_run == run and self.item_status in UNFINISHED


def is_current(registration: Registration, org_code: str, run: int) -> bool:
    """See `Progress.is_current`."""
    item = registration.item(org_code)
    return Progress(registration.status, registration.run, item.status, item.run).is_current(run)


def _with_end(registration: Registration, facts: tuple[Fact, ...], now: datetime) -> tuple[Fact, ...]:
    """Adds the registration's end when `facts` end its last provider, or change what it ended as."""
    if not facts:
        return ()
    after = evolve(registration, facts)
    status = _ended_as(after)
    if status is None or status == after.completed_as:
        return facts
    return (*facts, RegistrationCompleted(registration_id=registration.id, at=now, status=status))


def _ended_as(registration: Registration) -> RegistrationStatus | None:
    """The end that the providers amount to; None while any is still on its way."""
    statuses = {item.status for item in registration.items}
    if statuses & {ProviderStatus.WAITING, ProviderStatus.CONNECTING, ProviderStatus.COLLECTING}:
        return None
    if statuses == {ProviderStatus.COMPLETED}:
        return RegistrationStatus.COMPLETED
    if statuses == {ProviderStatus.FAILED}:
        return RegistrationStatus.FAILED
    return RegistrationStatus.PARTIAL


def _cancel(registration: Registration, now: datetime) -> tuple[Fact, ...]:
    over = registration.status in _NEVER_SIGNED  # what an earlier run has deferred goes on even then
    left = [
        item for item in registration.items if is_current(registration, item.org_code, item.run) or (item.status in UNFINISHED and not over)
    ]
    if not left:
        return ()
    return (RegistrationCompleted(registration_id=registration.id, at=now, status=RegistrationStatus.CANCELLED),)


def failed_providers(registration: Registration) -> tuple[str, ...]:
    """What a retry would begin again: who failed, and who waits because it was us who failed before the signature."""
    if registration.status not in {RegistrationStatus.PARTIAL, RegistrationStatus.FAILED}:
        return ()
    return tuple(item.org_code for item in registration.items if item.status in {ProviderStatus.FAILED, ProviderStatus.WAITING})


def _retry(registration: Registration, request: Retry, now: datetime) -> tuple[Fact, ...]:
    again = failed_providers(registration)
    if not again:
        return ()
    waiting = any(item.status is ProviderStatus.WAITING for item in registration.items)  # its run still owes a signature
    status = RegistrationStatus.SIGNING if waiting or request.unsigned & set(again) else RegistrationStatus.COLLECTING
    return (RegistrationRetried(registration_id=registration.id, at=now, status=status, providers=again),)
