"""What the rest of Moa may ask of a CA and of a provider, in domain words. RULE: no I/O, no clock, no randomness.

In: consents, tokens, deadlines as arguments. Out: frozen values, or a `ProviderError` of `backend/errors.py`.
Nothing here knows HTTP; `ca.py` and `client.py` implement these ports over it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct

from backend.events import AssetKind, Industry


class ApiType(StrEnum):
    """`x-api-type`: who is asking (standard, section 2)."""

    SCHEDULED = "scheduled"  # the weekly batch
    USER_CONSENT = "user-consent"  # right after the transfer request
    USER_REFRESH = "user-refresh"
    USER_SEARCH = "user-search"


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the line to one institution is secured, beside TLS 1.3. Files are PEM; a relative path counts from the directory's folder."""

    ca_bundle: str | None = None  # the authorities whose certificates it may show; None: the public ones
    client_certificate: str | None = None  # ours, with its chain; None: we show none (a leased line, the sandbox)
    client_key: str | None = None  # not encrypted; None: it stands in the certificate's file
    peer_serial_number: str | None = None  # SERIALNUMBER in the subject of its certificate; None: not looked at
    # The directory's own notes, not of the file:
    written: tuple[int, ...] = ()  # when the files were, in ns
    ends_at: datetime | None = None  # when the certificate that we show does, the earliest of its chain; None: we show none


class Provider(Struct, frozen=True, kw_only=True):
    """One row of the provider directory."""

    org_code: str  # aN(10)
    name: str
    industry: Industry
    base_url: str  # no trailing slash; `<base_url>/<version>/<industry>/<resource>`
    api_version: str = "v1"
    allow_private: bool = False  # whether base_url may lie in a private or loopback network (the sandbox does)
    max_connections: int = 50
    call_deadline: float | None = None  # seconds; None: the setting
    collection_deadline: float | None = None  # seconds for all calls of one collection; None: the setting `provider_deadline`
    slow_after: float | None = None  # seconds after which an answer counts as slow to the circuit; None: the setting
    calls_per_second: float | None = (
        None  # most that the whole fleet may make, as agreed with it, for the batch to keep; None: nothing was agreed
    )
    tls: Tls | None = None  # None: no certificate of ours, public authorities
    transfer_windows: tuple[str, ...] = ()  # np_time, "hhmm:hhmm" in KST


class CertificationAuthority(Struct, frozen=True, kw_only=True):
    """The directory's entry of the CA."""

    org_code: str
    name: str
    base_url: str
    api_version: str = "v1"
    allow_private: bool = False
    max_connections: int = 50
    call_deadline: float | None = None
    slow_after: float | None = None
    tls: Tls | None = None


class Person(Struct, frozen=True, kw_only=True):
    """Who signs. Never logged."""

    user_ci: str  # B64(100)
    real_name: str
    phone_num: str  # E.164

    def __repr__(self) -> str:
        return "Person(…)"


class Consent(Struct, frozen=True, kw_only=True):
    """The consent document for one provider, as it is signed (standard, section 6)."""

    org_code: str
    tx_id: str  # aNS(74)
    document: str  # JSON text; exactly these bytes are hashed and signed
    ends_on: date  # end_date


class SignatureRequest(Struct, frozen=True, kw_only=True):
    """The CA's answer to sign_request."""

    sign_tx_id: str  # aNS(49)
    cert_tx_id: str  # aNS(40)
    web_url: str
    ios_app_scheme_url: str
    aos_app_scheme_url: str


class SignedConsent(Struct, frozen=True, kw_only=True):
    """A consent with the person's signature: what a provider takes a token request on."""

    org_code: str
    tx_id: str
    document: str
    ends_on: date
    signed_consent: str  # CMS SignedData, base64url
    cert_tx_id: str
    ca_code: str

    def __repr__(self) -> str:
        return f"SignedConsent({self.org_code})"


class NotSignedYet(Struct, frozen=True):
    """The person has not decided."""


class SignatureRefused(Struct, frozen=True):
    """The person said no."""


class Signed(Struct, frozen=True):
    """The person signed every consent: tx_id -> CMS SignedData in base64url."""

    signed_consents: dict[str, str]

    def __repr__(self) -> str:
        return f"Signed({len(self.signed_consents)})"


class TokenPair(Struct, frozen=True, kw_only=True):
    """The one live token of (user, provider), with its ends as moments."""

    access_token: str
    access_expires_at: datetime
    refresh_token: str
    refresh_expires_at: datetime
    scope: str

    def __repr__(self) -> str:
        return "TokenPair(…)"


class CollectedBalance(Struct, frozen=True):
    amount: Decimal
    currency: str


class CollectedAsset(Struct, frozen=True, kw_only=True):
    """One asset as a provider tells it, before it has our id.

    `key` is the provider's own name of it (an account number, a card id …): secret, used to derive our id, never shown.
    """

    key: str
    kind: AssetKind
    name: str
    number_masked: str  # "" when there is no number
    status: str
    balance: CollectedBalance | None
    details: dict[str, Any]  # JSON values, amounts as decimal strings, no account numbers

    def __repr__(self) -> str:
        return f"CollectedAsset({self.kind})"


NEVER_READ = "0"  # search_timestamp of a first reading


class Timestamps:
    """`search_timestamp` of each list of one link, by API code (standard, section 3).

    Begin a collection with what the last one reached. Keep `reached` in the transaction that stores the collection's last answer, not
    before: a list that is kept too early is answered "nothing new", and what was missed under it is never read.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        """None: everything is read, as for a new consent."""
        self._known = dict(known or {})
        self._reached = dict(self._known)
        self._told: set[AssetKind] = set()
        self._not_told: set[AssetKind] = set()

    @property
    def reached(self) -> dict[str, str]:
        """What to begin the next collection with; of a list that was not asked for, what was known before."""
        return dict(self._reached)

    @property
    def moved(self) -> bool:
        """Whether there is anything to keep that was not known before; False: the collection costs no write."""
        return self._reached != self._known

    @property
    def heard_any(self) -> bool:
        """Whether any list was answered."""
        return bool(self._told or self._not_told)

    def of(self, api_code: str) -> str:
        """What to send."""
        return self._known.get(api_code, NEVER_READ)

    @property
    def told_whole(self) -> frozenset[AssetKind]:
        """The kinds of which every list was told, and not that it has nothing new: once all is read, what was not named has gone."""
        return frozenset(self._told - self._not_told)

    def not_told(self, kinds: frozenset[AssetKind]) -> None:
        """A list that may name assets of these kinds does not say which there are."""
        self._not_told |= kinds

    def heard(self, api_code: str, stamp: str | None, kinds: frozenset[AssetKind] = frozenset()) -> None:
        """Takes in what the first page of a list of these kinds said; None: nothing new.

        A provider that keeps no timestamp says "0" and is read in full each time.
        """
        if stamp is None:
            self.not_told(kinds)
        else:
            self._told |= kinds
        stamp = self.of(api_code) if stamp is None else stamp
        if int(stamp):
            self._reached[api_code] = stamp
        else:
            self._reached.pop(api_code, None)


class CaClient(Protocol):
    """One signature for all providers (standard, section 6, 101 to 103)."""

    async def request_signature(self, person: Person, consents: tuple[Consent, ...], now: datetime) -> SignatureRequest: ...

    async def signature(
        self, request: SignatureRequest, consents: tuple[Consent, ...], now: datetime
    ) -> NotSignedYet | SignatureRefused | Signed: ...


class ProviderClient(Protocol):
    """One provider. Every method has a total deadline and raises `ProviderError` only."""

    async def request_token(self, person: Person, consent: SignedConsent, now: datetime) -> TokenPair: ...

    async def refresh_token(self, token: TokenPair, now: datetime) -> TokenPair: ...

    async def revoke_token(self, access_token: str) -> None: ...

    def collect(
        self, access_token: str, api_type: ApiType, now: datetime, timestamps: Timestamps | None = None
    ) -> AsyncIterator[tuple[CollectedAsset, ...]]:
        """Lists first, then details in parallel over assets; yields after each answer what that answer changed.

        An asset is yielded whole each time: first as its list shows it, again with what its details add.
        Raises as soon as one call gives no answer; what was yielded before stands.
        """
        ...
