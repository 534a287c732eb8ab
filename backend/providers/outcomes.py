"""What an answer, or the lack of one, means: from (HTTP status, rsp_code, OAuth error, transport failure) to one `Outcome`.

RULE: pure, and the only place that knows the codes of the standard (sections 5 and 6). In: what was seen. Out: a `Finding`, or None for
"this is an answer"; `outcome_of` its reason says whose fault it is, what the person must do, and what it means to a circuit.
Nothing that came from outside is repeated: a reason is a name of `CATALOGUE`, or `http_` and three digits.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from msgspec import Struct

from backend.errors import (
    ITEM_ERRORS,
    ConsentRequired,
    ProviderBusy,
    ProviderError,
    ProviderInvalidResponse,
    ProviderRefused,
    ProviderResting,
    ProviderTimeout,
    ProviderUnavailable,
    Trouble,
    UserAction,
)
from backend.events import ItemError


class RspCode(StrEnum):
    """`rsp_code` of the standard."""

    OK = "00000"
    UP_TO_DATE = "00001"  # nothing changed since search_timestamp
    TOKEN_NOT_VALID = "99999"  # answers a revoke; as good as done
    BAD_PARAMETER = "40001"
    BAD_HEADER = "40002"
    BAD_VERSION = "40003"
    PERIOD_TOO_LONG = "40004"
    TOKEN_INVALID = "40101"
    IP_NOT_ALLOWED = "40102"
    SERIALNUMBER = "40103"
    NO_SCOPE = "40104"
    ASSET_NOT_CONSENTED = "40105"
    CONSENT_ENDED = "40106"
    WRONG_CALL = "40301"
    CLIENT_RESTRICTED = "40302"
    UNKNOWN_ORG = "40303"
    TOO_OLD = "40304"
    ASSET_NOT_NORMAL = "40305"
    NO_ENDPOINT = "40401"
    NO_ASSET = "40402"
    NO_CUSTOMER = "40403"
    WRONG_METHOD = "40501"
    QUOTA = "42901"
    SYSTEM_FAILURE = "50001"
    REQUEST_FAILED = "50002"
    PROCESSING_TIMEOUT = "50003"
    UNKNOWN_FAILURE = "50004"
    BEHIND_RELAY_DOWN = "50005"
    BEHIND_HUB_DOWN = "50006"
    RELAY_CONVERSION = "50007"
    MAINTENANCE = "50008"
    OUT_OF_WINDOW = "50009"


class OAuthError(StrEnum):
    """`error` of the token endpoints."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    UNAUTHORIZED_USER = "unauthorized_user"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SERVER_ERROR = "server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class Failure(StrEnum):
    """What the transport met instead of an answer."""

    UNKNOWN = "unknown"  # the directory does not have it
    CONNECT = "connect"
    ADDRESS = "address"  # its name leads into a private network
    TLS = "tls"
    PEER = "peer"  # a good certificate with another SERIALNUMBER than the directory's
    RESET = "reset"
    DEADLINE = "deadline"
    CUT = "cut"  # the call had not its whole time at the provider: the caller had less, or it stood in line for a connection of ours
    NOT_HTTP = "not_http"
    TRUNCATED = "truncated"
    OVERSIZE = "oversize"
    ENCODED = "encoded"  # a Content-Encoding that we did not ask for
    MALFORMED = "malformed"  # not the JSON that the standard describes
    PAGING = "paging"  # a cursor that comes again, or pages without end
    CIRCUIT_OPEN = "circuit_open"  # refused here, as the next two: nothing left
    CIRCUIT_HALF_OPEN = "circuit_half_open"  # one probe is under way, for all
    CIRCUIT_RAMP = "circuit_ramp"  # it has closed, and lets a growing share through


class Fault(StrEnum):
    """Whose fault it is that a call gave no answer."""

    OURS = "ours"
    THEIRS = "theirs"
    PERSONS = "persons"  # their consent ended, or their asset is gone
    NOBODYS = "nobodys"  # planned


class Weight(StrEnum):
    """What the end of a call means to a circuit (standard, rule 5 of our notes: a 4xx is about one user or asset, never a failure)."""

    OK = "ok"
    SLOW = "slow"  # an answer, over the provider's threshold
    FAILURE = "failure"
    IGNORED = "ignored"  # says nothing about its health: a quota, planned maintenance, a fault of ours


class Outcome(Struct, frozen=True):
    """What one way to end without an answer means. The words for it are `words`, what the person must do is `advice`."""

    trouble: Trouble
    fault: Fault
    weight: Weight

    @property
    def words(self) -> ItemError:
        """The contract's error: code, title, detail, retryable, user_action."""
        return ITEM_ERRORS[self.trouble]

    @property
    def advice(self) -> Advice:
        """What the person must do, in words."""
        return ADVICE[UserAction(self.words.user_action)]


class Advice(Struct, frozen=True):
    """What a person must do about it."""

    ko: str
    en: str


class Finding(Struct, frozen=True):
    """Why there is no answer that we can use. `reason` is a name of the catalogue, or `http_` and three digits."""

    trouble: Trouble
    reason: str


ADVICE: dict[UserAction, Advice] = {
    UserAction.RETRY: Advice("잠시 후 다시 시도해 주세요.", "Try again later."),
    UserAction.WAIT: Advice("기다려 주시면 다시 연결해 드립니다.", "Wait: it is tried again without you."),
    UserAction.SIGN_AGAIN: Advice("다시 동의하고 서명해 주세요.", "Consent and sign again."),
    UserAction.CONTACT_PROVIDER: Advice("해당 기관에 문의해 주세요.", "Ask the provider."),
}

_WORN = Outcome(Trouble.CONSENT_REQUIRED, Fault.PERSONS, Weight.OK)
_NOT_THERE = Outcome(Trouble.REFUSED, Fault.PERSONS, Weight.OK)  # one asset, or one customer
_OUR_CALL = Outcome(Trouble.REFUSED, Fault.OURS, Weight.OK)
_TOO_MUCH = Outcome(Trouble.BUSY, Fault.OURS, Weight.IGNORED)
_BROKEN_DOWN = Outcome(Trouble.UNAVAILABLE, Fault.THEIRS, Weight.FAILURE)
_NO_CALL = Outcome(Trouble.UNAVAILABLE, Fault.OURS, Weight.IGNORED)  # our directory is wrong: nothing left
_CIRCUIT = Outcome(Trouble.RESTING, Fault.THEIRS, Weight.IGNORED)
_UNREADABLE = Outcome(Trouble.INVALID_RESPONSE, Fault.THEIRS, Weight.FAILURE)

# The closed catalogue: every name that `ProviderError.reason` can have, but `http_` and three digits (`_of_status`).
CATALOGUE: dict[str, Outcome] = {
    RspCode.BAD_PARAMETER: _OUR_CALL,
    RspCode.BAD_HEADER: _OUR_CALL,
    RspCode.BAD_VERSION: _OUR_CALL,
    RspCode.PERIOD_TOO_LONG: _OUR_CALL,
    RspCode.TOKEN_INVALID: _WORN,  # after one refresh; see `token_is_worn`
    RspCode.IP_NOT_ALLOWED: _OUR_CALL,
    RspCode.SERIALNUMBER: _OUR_CALL,
    RspCode.NO_SCOPE: _OUR_CALL,
    RspCode.ASSET_NOT_CONSENTED: _NOT_THERE,
    RspCode.CONSENT_ENDED: _WORN,
    RspCode.WRONG_CALL: _OUR_CALL,
    RspCode.CLIENT_RESTRICTED: _TOO_MUCH,
    RspCode.UNKNOWN_ORG: _OUR_CALL,
    RspCode.TOO_OLD: _OUR_CALL,
    RspCode.ASSET_NOT_NORMAL: _NOT_THERE,
    RspCode.NO_ENDPOINT: _OUR_CALL,
    RspCode.NO_ASSET: _NOT_THERE,
    RspCode.NO_CUSTOMER: _NOT_THERE,
    RspCode.WRONG_METHOD: _OUR_CALL,
    RspCode.QUOTA: _TOO_MUCH,
    RspCode.SYSTEM_FAILURE: _BROKEN_DOWN,
    RspCode.REQUEST_FAILED: _BROKEN_DOWN,
    RspCode.PROCESSING_TIMEOUT: _BROKEN_DOWN,
    RspCode.UNKNOWN_FAILURE: _BROKEN_DOWN,
    RspCode.BEHIND_RELAY_DOWN: _BROKEN_DOWN,
    RspCode.BEHIND_HUB_DOWN: _BROKEN_DOWN,
    RspCode.RELAY_CONVERSION: _BROKEN_DOWN,
    RspCode.MAINTENANCE: Outcome(Trouble.RESTING, Fault.NOBODYS, Weight.IGNORED),  # a state of its own, with its own end
    RspCode.OUT_OF_WINDOW: _TOO_MUCH,  # our scheduler's fault: come back inside the window
    OAuthError.INVALID_REQUEST: _OUR_CALL,
    OAuthError.INVALID_CLIENT: _OUR_CALL,
    OAuthError.INVALID_GRANT: _WORN,
    OAuthError.UNAUTHORIZED_CLIENT: _OUR_CALL,
    OAuthError.UNSUPPORTED_GRANT_TYPE: _OUR_CALL,
    OAuthError.INVALID_SCOPE: _OUR_CALL,
    OAuthError.UNAUTHORIZED_USER: _NOT_THERE,
    OAuthError.METHOD_NOT_ALLOWED: _OUR_CALL,
    OAuthError.SERVER_ERROR: _BROKEN_DOWN,
    OAuthError.TEMPORARILY_UNAVAILABLE: _BROKEN_DOWN,
    Failure.UNKNOWN: _NO_CALL,
    Failure.ADDRESS: _NO_CALL,
    Failure.CONNECT: _BROKEN_DOWN,
    Failure.TLS: _BROKEN_DOWN,
    Failure.PEER: _BROKEN_DOWN,
    Failure.RESET: _BROKEN_DOWN,
    Failure.DEADLINE: Outcome(Trouble.TIMEOUT, Fault.THEIRS, Weight.FAILURE),
    Failure.CUT: Outcome(Trouble.TIMEOUT, Fault.NOBODYS, Weight.IGNORED),
    Failure.NOT_HTTP: _UNREADABLE,
    Failure.TRUNCATED: _UNREADABLE,
    Failure.OVERSIZE: _UNREADABLE,
    Failure.ENCODED: _UNREADABLE,
    Failure.MALFORMED: _UNREADABLE,
    Failure.PAGING: _UNREADABLE,
    Failure.CIRCUIT_OPEN: _CIRCUIT,
    Failure.CIRCUIT_HALF_OPEN: _CIRCUIT,
    Failure.CIRCUIT_RAMP: _CIRCUIT,
}

_ERRORS: dict[Trouble, type[ProviderError]] = {
    Trouble.UNAVAILABLE: ProviderUnavailable,
    Trouble.TIMEOUT: ProviderTimeout,
    Trouble.INVALID_RESPONSE: ProviderInvalidResponse,
    Trouble.BUSY: ProviderBusy,
    Trouble.RESTING: ProviderResting,
    Trouble.CONSENT_REQUIRED: ConsentRequired,
    Trouble.REFUSED: ProviderRefused,
}

_OAUTH = frozenset[str](OAuthError)
_BROKEN = frozenset[str]([OAuthError.SERVER_ERROR, OAuthError.TEMPORARILY_UNAVAILABLE])
_CODES = frozenset[str]([*RspCode, *OAuthError]) & CATALOGUE.keys()  # without those that say that all is well
_ONE_ASSET = frozenset[str]([RspCode.ASSET_NOT_CONSENTED, RspCode.NO_ASSET, RspCode.ASSET_NOT_NORMAL])
_NOT_SERVED = frozenset[str]([RspCode.NO_SCOPE, RspCode.NO_ENDPOINT])

_STATUS = re.compile(r"http_([0-9]{3})")

_SHORTEST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(hours=1)


def of_answer(status: int, code: str | None, accepts: frozenset[str]) -> Finding | None:
    """Judges a whole HTTP answer. `code` is its rsp_code or OAuth error; `accepts` are the codes that the caller reads as an answer.

    An empty `accepts` is a token endpoint: HTTP 200 without an `error` is the answer. None: use it.
    """
    if status == 200 and (code in accepts or (not accepts and code not in _OAUTH)):
        return None
    reason = code if code in _CODES and _belongs(status, code) else Failure.MALFORMED if status == 200 else f"http_{status}"
    return Finding(outcome_of(reason).trouble, reason)


def outcome_of(reason: str) -> Outcome:
    """What a `Finding.reason` or `ProviderError.reason` means. KeyError: it is not of this catalogue."""
    status = _STATUS.fullmatch(reason)
    return _of_status(int(status[1])) if status else CATALOGUE[reason]


def weight_of(error: ProviderError | None, seconds: float, slow_after: float) -> Weight:
    """What the end of a call that took so long means to a circuit. `error` None: it was answered."""
    try:
        weight = Weight.OK if error is None else outcome_of(error.reason).weight
    except KeyError:
        return Weight.IGNORED  # not the end of a call
    return Weight.SLOW if weight is Weight.OK and seconds >= slow_after else weight


def of_failure(failure: Failure) -> Finding:
    """Judges a call that ended without a whole HTTP answer."""
    return Finding(CATALOGUE[failure].trouble, failure)


def error_of(org_code: str, finding: Finding, retry_at: datetime | None = None) -> ProviderError:
    """The error that travels inward."""
    return _ERRORS[finding.trouble](org_code, finding.reason, retry_at=retry_at)


def failed(org_code: str, failure: Failure) -> ProviderError:
    """The error for a call that ended without an answer."""
    return error_of(org_code, of_failure(failure))


def only_this_asset(error: ProviderError) -> bool:
    """Whether the error speaks of one asset (gone, closed, not consented) and says nothing about the others."""
    return error.reason in _ONE_ASSET


def not_served(error: ProviderError) -> bool:
    """Whether the provider does not offer this API to us at all: outside the token's scope, or not among its own."""
    return error.reason in _NOT_SERVED


def is_an_answer(reason: str | None) -> bool:
    """Whether the institution itself said it, by a code of the standard: a bare HTTP status a gateway before a dead one can say, too.

    None: no reason.
    """
    return reason in _CODES


def speaks_of_illness(error: ProviderError) -> bool:
    """Whether a circuit counts it against the institution."""
    return weight_of(error, 0.0, math.inf) is Weight.FAILURE


def token_is_worn(error: ProviderError) -> bool:
    """Whether the access token was refused: refresh it once; refused again, the person must sign."""
    return error.reason == RspCode.TOKEN_INVALID


def retry_at(retry_after: str | None, now: datetime) -> datetime | None:
    """The moment that a Retry-After header names (seconds or an HTTP date), between one second and one hour from now."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=min(int(text[:9]), 10**6))
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return now + min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT)


def _belongs(status: int, code: str) -> bool:
    """Whether the code can be believed: a 500 that says 40101 is a broken provider, not a worn token."""
    if code in _OAUTH:
        return status < 500 or code in _BROKEN
    return status == 200 or code[0] == str(status)[0]


def _of_status(status: int) -> Outcome:
    """An answer that has no code which can be believed."""
    if status == 429:
        return _TOO_MUCH
    if 400 <= status < 500:
        return _OUR_CALL
    return _BROKEN_DOWN if status >= 500 else _UNREADABLE
