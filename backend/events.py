"""Every fact that a client can hear, and the views it carries. Read this first.

A rule returns facts; a fact becomes one EVENT of the user's feed: `{"type","at","registration_id"?,"org_code"?,"data"}`.
The same bytes go out over WebSocket, SSE and poll. What happened is never rewritten, so everything here is frozen.
No tokens, no user_ci, no account numbers: a fact carries masked numbers only.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
import orjson
from msgspec import UNSET, Struct, UnsetType

from backend.clock import iso


class EventType(StrEnum):
    """The names on the wire."""

    REGISTRATION_ACCEPTED = "registration.accepted"
    SIGNATURE_REQUESTED = "signature.requested"
    SIGNATURE_COMPLETED = "signature.completed"
    SIGNATURE_DENIED = "signature.denied"
    SIGNATURE_EXPIRED = "signature.expired"
    PROVIDER_CONNECTING = "provider.connecting"
    PROVIDER_ASSETS = "provider.assets"
    PROVIDER_COMPLETED = "provider.completed"
    PROVIDER_FAILED = "provider.failed"
    PROVIDER_DEFERRED = "provider.deferred"
    PROVIDER_STATUS = "provider.status"
    REGISTRATION_RETRIED = "registration.retried"
    REGISTRATION_COMPLETED = "registration.completed"
    ASSET_REFRESHED = "asset.refreshed"
    REFRESH_COMPLETED = "refresh.completed"
    LINK_EXPIRING = "link.expiring"
    LINK_EXPIRED = "link.expired"
    LINK_REVOKED = "link.revoked"


class OperatorsEventType(StrEnum):
    """The names on the wire, in the operators' feed."""

    BREAKER_OPENED = "breaker.opened"
    BREAKER_HALF_OPENED = "breaker.half_opened"  # one probe in the fleet looks
    BREAKER_CLOSED = "breaker.closed"
    BREAKER_FORCED = "breaker.forced"  # open or closed, by an operator's word


class Industry(StrEnum):
    """The seven industries that Moa reads; the values are the standard's path segments (section 1)."""

    BANK = "bank"
    CARD = "card"
    INVEST = "invest"
    INSU = "insu"
    EFIN = "efin"
    CAPITAL = "capital"
    TELECOM = "telecom"


class AssetKind(StrEnum):
    DEPOSIT = "deposit"
    INVESTMENT = "investment"
    LOAN = "loan"
    PENSION = "pension"
    CARD = "card"
    POINT = "point"
    PREPAID = "prepaid"
    PAID = "paid"
    INSURANCE = "insurance"
    TELECOM = "telecom"


class RegistrationStatus(StrEnum):
    SIGNING = "signing"
    COLLECTING = "collecting"
    COMPLETED = "completed"  # every provider completed
    PARTIAL = "partial"  # some completed, or any deferred
    FAILED = "failed"  # every provider failed
    EXPIRED = "expired"  # nobody signed in time
    DENIED = "denied"
    CANCELLED = "cancelled"


class SignatureStatus(StrEnum):
    PENDING = "pending"
    REQUESTED = "requested"
    COMPLETED = "completed"
    DENIED = "denied"
    EXPIRED = "expired"


class ProviderStatus(StrEnum):
    WAITING = "waiting"
    CONNECTING = "connecting"
    COLLECTING = "collecting"
    COMPLETED = "completed"
    FAILED = "failed"
    DEFERRED = "deferred"  # tried again by itself
    CANCELLED = "cancelled"


class Availability(StrEnum):
    """Of a provider, for everybody."""

    AVAILABLE = "available"
    RESTING = "resting"  # its circuit refuses calls
    MAINTENANCE = "maintenance"  # it said so itself


class RefreshStatus(StrEnum):
    """Of a refresh, and of each provider in it. A refresh as a whole is `completed` when every provider has ended, however it did."""

    REFRESHING = "refreshing"
    COMPLETED = "completed"
    FAILED = "failed"


class Position(Struct, frozen=True):
    """A place in one user's feed. `offset` is the last event that was seen; 0: none yet."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


class Balance(Struct, frozen=True):
    amount: Decimal  # on the wire a decimal string: "123400.00"
    currency: str  # ISO 4217


class Asset(Struct, frozen=True):
    """One thing that a person owns or owes, as every client sees it."""

    id: str  # stable over refreshes
    org_code: str
    industry: Industry
    kind: AssetKind
    name: str
    number_masked: str  # "" when the provider gives no number
    status: str
    balance: Balance | None  # None: not known (yet), or the asset has none
    as_of: str  # RFC 3339, when the provider answered
    details: dict[str, Any]  # JSON values; amounts are decimal strings


class Signature(Struct, frozen=True, omit_defaults=True):
    """One signature for all providers. The URLs are there from `requested` on."""

    status: SignatureStatus
    web_url: str | UnsetType = UNSET
    ios_app_scheme_url: str | UnsetType = UNSET
    aos_app_scheme_url: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET


class ItemError(Struct, frozen=True):
    """Why a provider failed, in words for the person. `backend/errors.py` has the catalogue."""

    code: str
    title: str
    detail: str
    retryable: bool
    user_action: str


class Event(Struct, frozen=True, omit_defaults=True):
    """EVENT of the contract."""

    type: EventType | OperatorsEventType
    at: str
    registration_id: str | UnsetType = UNSET
    org_code: str | UnsetType = UNSET
    data: Any = msgspec.field(default_factory=dict)

    def encode(self) -> bytes:
        """One line of JSON; `data` is always there, `{}` when there is nothing to tell."""
        return to_json(
            {
                "type": self.type,
                "at": self.at,
                **({"registration_id": self.registration_id} if self.registration_id is not UNSET else {}),
                **({"org_code": self.org_code} if self.org_code is not UNSET else {}),
                "data": self.data,
            }
        )


def to_json(value: object) -> bytes:
    """Any of our views as JSON: every body and event that we write goes through here."""
    return orjson.dumps(value, default=msgspec.to_builtins)


class Fact(Struct, frozen=True, kw_only=True):
    """Something that happened to one registration."""

    TYPE: ClassVar[EventType]

    registration_id: str
    at: datetime

    def event(self) -> Event:
        """The EVENT that clients receive."""
        return Event(self.TYPE, iso(self.at), self.registration_id, getattr(self, "org_code", UNSET), self.data())

    def data(self) -> object:
        """What `data` holds; most facts have nothing to add."""
        return {}


class RegistrationAccepted(Fact, frozen=True, kw_only=True):
    TYPE = EventType.REGISTRATION_ACCEPTED


class SignatureRequested(Fact, frozen=True, kw_only=True):
    TYPE = EventType.SIGNATURE_REQUESTED
    signature: Signature

    def data(self) -> object:
        return self.signature


class SignatureCompleted(Fact, frozen=True, kw_only=True):
    TYPE = EventType.SIGNATURE_COMPLETED


class SignatureDenied(Fact, frozen=True, kw_only=True):
    TYPE = EventType.SIGNATURE_DENIED


class SignatureExpired(Fact, frozen=True, kw_only=True):
    TYPE = EventType.SIGNATURE_EXPIRED


class ProviderConnecting(Fact, frozen=True, kw_only=True):
    TYPE = EventType.PROVIDER_CONNECTING
    org_code: str


class AssetsCollected(Fact, frozen=True, kw_only=True):
    TYPE = EventType.PROVIDER_ASSETS
    org_code: str
    assets: tuple[Asset, ...]  # whole assets; clients replace by id

    def data(self) -> object:
        return {"assets": self.assets}


class ProviderCompleted(Fact, frozen=True, kw_only=True):
    TYPE = EventType.PROVIDER_COMPLETED
    org_code: str
    assets: int

    def data(self) -> object:
        return {"assets": self.assets}


class ProviderFailed(Fact, frozen=True, kw_only=True):
    TYPE = EventType.PROVIDER_FAILED
    org_code: str
    error: ItemError

    def data(self) -> object:
        return {"error": self.error}


class ProviderDeferred(Fact, frozen=True, kw_only=True):
    TYPE = EventType.PROVIDER_DEFERRED
    org_code: str
    reason: str
    retry_at: datetime | None  # None: as soon as the provider is back, at an unknown time

    def data(self) -> object:
        return {"reason": self.reason, **({"retry_at": iso(self.retry_at)} if self.retry_at else {})}


class RegistrationRetried(Fact, frozen=True, kw_only=True):
    TYPE = EventType.REGISTRATION_RETRIED
    status: RegistrationStatus  # signing or collecting
    providers: tuple[str, ...]  # go back to waiting

    def data(self) -> object:
        return {"status": self.status, "providers": self.providers}


class RegistrationCompleted(Fact, frozen=True, kw_only=True):
    TYPE = EventType.REGISTRATION_COMPLETED
    status: RegistrationStatus
    error: ItemError | None = None  # None: the providers' own events tell why, or nothing went wrong

    def data(self) -> object:
        return {"status": self.status, **({"error": self.error} if self.error is not None else {})}


class LinkFact(Struct, frozen=True, kw_only=True):
    """Something that happened to links, outside of any registration."""

    TYPE: ClassVar[EventType]

    at: datetime

    def event(self) -> Event:
        """The EVENT that clients receive."""
        return Event(self.TYPE, iso(self.at), UNSET, getattr(self, "org_code", UNSET), self.data())

    def data(self) -> object:
        """What `data` holds."""
        raise NotImplementedError


class AssetRefreshed(LinkFact, frozen=True, kw_only=True):
    TYPE = EventType.ASSET_REFRESHED
    org_code: str
    assets: tuple[Asset, ...]  # whole assets; clients replace by id

    def data(self) -> object:
        return {"assets": self.assets}


class RefreshItem(Struct, frozen=True):
    """One provider of a refresh."""

    org_code: str
    status: RefreshStatus
    error: ItemError | None = None  # None: nothing went wrong (yet)


class RefreshCompleted(LinkFact, frozen=True, kw_only=True):
    TYPE = EventType.REFRESH_COMPLETED
    refresh_id: str
    providers: tuple[RefreshItem, ...]

    def data(self) -> object:
        return {"refresh_id": self.refresh_id, "providers": self.providers}


class _LinkEnd(LinkFact, frozen=True, kw_only=True):
    """About one link and the end of its consent."""

    org_code: str
    consent_expires_at: datetime
    error: ItemError | None = None  # what the person must do; None: nothing, it is as they wished

    def data(self) -> object:
        error = {"error": self.error} if self.error is not None else {}
        return {"org_code": self.org_code, "consent_expires_at": iso(self.consent_expires_at), **error}


class LinkExpiring(_LinkEnd, frozen=True, kw_only=True):
    """30 days before the consent ends."""

    TYPE = EventType.LINK_EXPIRING


class LinkExpired(_LinkEnd, frozen=True, kw_only=True):
    """The consent has ended. What was read under it stays until the person revokes the link or consents again."""

    TYPE = EventType.LINK_EXPIRED


class LinkRevoked(_LinkEnd, frozen=True, kw_only=True):
    """The person ended the link: here, and its assets are gone; or, with an `error`, at the provider, and they stay."""

    TYPE = EventType.LINK_REVOKED


class ProviderStatusChanged(LinkFact, frozen=True, kw_only=True):
    """A provider to which the person is linked rests, is in maintenance, or is there again."""

    TYPE = EventType.PROVIDER_STATUS
    org_code: str
    status: Availability
    retry_at: datetime | None  # None: it is available, or nobody knows

    def data(self) -> object:
        return {"status": self.status, **({"retry_at": iso(self.retry_at)} if self.retry_at else {})}


class Appended(Struct, frozen=True):
    """A feed has every entry that was handed over, or had it before; `position` is its top."""

    position: Position


class Gap(Struct, frozen=True):
    """A feed ends at `top`, and the first entry that was handed over is not `top` + 1: send what lies between first."""

    top: int
