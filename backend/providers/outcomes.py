"""What an answer, or the lack of one, means: from (HTTP status, rsp_code, OAuth error, transport failure) to one `ProviderError`.

RULE: pure, and the only place that knows the codes of the standard (sections 5 and 6). In: what was seen. Out: a `Finding`, or None for
"this is an answer". Nothing that came from outside is repeated: a reason is one of the names below, or `http_` and three digits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from msgspec import Struct

from backend.errors import (
    ConsentRequired,
    ProviderBusy,
    ProviderError,
    ProviderInvalidResponse,
    ProviderRefused,
    ProviderResting,
    ProviderTimeout,
    ProviderUnavailable,
    Trouble,
)


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
    RESET = "reset"
    DEADLINE = "deadline"
    NOT_HTTP = "not_http"
    TRUNCATED = "truncated"
    OVERSIZE = "oversize"
    ENCODED = "encoded"  # a Content-Encoding that we did not ask for
    MALFORMED = "malformed"  # not the JSON that the standard describes
    PAGING = "paging"  # a cursor that comes again, or pages without end


class Finding(Struct, frozen=True):
    """Why there is no answer that we can use."""

    trouble: Trouble
    reason: str


_BY_CODE: dict[str, Trouble] = {
    RspCode.TOKEN_INVALID: Trouble.CONSENT_REQUIRED,  # after one refresh; see `token_is_worn`
    RspCode.CONSENT_ENDED: Trouble.CONSENT_REQUIRED,
    RspCode.CLIENT_RESTRICTED: Trouble.BUSY,
    RspCode.QUOTA: Trouble.BUSY,
    RspCode.MAINTENANCE: Trouble.RESTING,
    RspCode.OUT_OF_WINDOW: Trouble.BUSY,  # our scheduler's fault: come back inside the window
    OAuthError.INVALID_GRANT: Trouble.CONSENT_REQUIRED,
    OAuthError.SERVER_ERROR: Trouble.UNAVAILABLE,
    OAuthError.TEMPORARILY_UNAVAILABLE: Trouble.UNAVAILABLE,
}

_BY_FAILURE: dict[Failure, Trouble] = {
    Failure.UNKNOWN: Trouble.UNAVAILABLE,
    Failure.CONNECT: Trouble.UNAVAILABLE,
    Failure.ADDRESS: Trouble.UNAVAILABLE,
    Failure.TLS: Trouble.UNAVAILABLE,
    Failure.RESET: Trouble.UNAVAILABLE,
    Failure.DEADLINE: Trouble.TIMEOUT,
    Failure.NOT_HTTP: Trouble.INVALID_RESPONSE,
    Failure.TRUNCATED: Trouble.INVALID_RESPONSE,
    Failure.OVERSIZE: Trouble.INVALID_RESPONSE,
    Failure.ENCODED: Trouble.INVALID_RESPONSE,
    Failure.MALFORMED: Trouble.INVALID_RESPONSE,
    Failure.PAGING: Trouble.INVALID_RESPONSE,
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

_CODES = frozenset[str]([*RspCode, *OAuthError])
_OAUTH = frozenset[str](OAuthError)
_BROKEN = frozenset[str]([OAuthError.SERVER_ERROR, OAuthError.TEMPORARILY_UNAVAILABLE])
_GOOD = frozenset[str]([RspCode.OK, RspCode.UP_TO_DATE, RspCode.TOKEN_NOT_VALID])
_ONE_ASSET = frozenset[str]([RspCode.ASSET_NOT_CONSENTED, RspCode.NO_ASSET, RspCode.ASSET_NOT_NORMAL])

_SHORTEST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(hours=1)


def of_answer(status: int, code: str | None, accepts: frozenset[str]) -> Finding | None:
    """Judges a whole HTTP answer. `code` is its rsp_code or OAuth error; `accepts` are the codes that the caller reads as an answer.

    An empty `accepts` is a token endpoint: HTTP 200 without an `error` is the answer. None: use it.
    """
    if status == 200 and (code in accepts or (not accepts and code not in _OAUTH)):
        return None
    if code in _CODES and code not in _GOOD and _belongs(status, code):
        return Finding(_BY_CODE.get(code) or _by_first_digit(code), str(code))
    return Finding(_by_status(status), f"http_{status}" if status != 200 else Failure.MALFORMED)


def of_failure(failure: Failure) -> Finding:
    """Judges a call that ended without a whole HTTP answer."""
    return Finding(_BY_FAILURE[failure], failure)


def error_of(org_code: str, finding: Finding, retry_at: datetime | None = None) -> ProviderError:
    """The error that travels inward."""
    return _ERRORS[finding.trouble](org_code, finding.reason, retry_at=retry_at)


def failed(org_code: str, failure: Failure) -> ProviderError:
    """The error for a call that ended without an answer."""
    return error_of(org_code, of_failure(failure))


def only_this_asset(error: ProviderError) -> bool:
    """Whether the error speaks of one asset (gone, closed, not consented) and says nothing about the others."""
    return error.reason in _ONE_ASSET


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


def _by_first_digit(code: str) -> Trouble:
    return Trouble.UNAVAILABLE if code[0] == "5" else Trouble.REFUSED


def _by_status(status: int) -> Trouble:
    if status == 429:
        return Trouble.BUSY
    if 400 <= status < 500:
        return Trouble.REFUSED
    return Trouble.UNAVAILABLE if status >= 500 else Trouble.INVALID_RESPONSE
