"""The error catalogue: what went wrong, whose fault it is, whether it is worth another try, what the person should do.

    MoaError
    ├── Refused(code)             a request that we answer with a problem document (RFC 9457); see `Problem`
    └── ProviderError             a call to the CA or a provider that gave no answer we can use; see `Trouble`
        ├── ProviderUnavailable      it refused, reset, or answered 5xx      retry    theirs
        ├── ProviderTimeout          our deadline passed                     retry    theirs
        ├── ProviderInvalidResponse  an answer that is not the standard's    retry    theirs
        ├── ProviderBusy             429: come back later                    retry    ours
        ├── ProviderResting          50008 planned maintenance; circuit open deferred nobody's, theirs
        ├── ConsentRequired          token or consent is no longer good      sign     the person's
        └── ProviderRefused          any other 4xx                           no       ours

No exception of httpx, redis, SQLAlchemy or msgspec travels inward past the room that met it: `raise ProviderTimeout(org_code) from exc`.
A message never repeats a value that came from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from backend.events import ItemError


class MoaError(Exception):
    """The root: catch it at the outermost shell only."""


# --- what a client did -----------------------------------------------------------------------------------------------


class Problem(StrEnum):
    """Codes of the problem documents that the API answers with."""

    MALFORMED_JSON = "malformed_json"
    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    SCOPE_MISSING = "scope_missing"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_SLOW = "body_too_slow"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    NOTHING_TO_RETRY = "nothing_to_retry"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    NOTHING_TO_REFRESH = "nothing_to_refresh"
    OUTSIDE_WINDOW = "outside_window"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    VALIDATION_FAILED = "validation_failed"
    UNKNOWN_PROVIDER = "unknown_provider"
    IDENTITY_REQUIRED = "identity_required"
    RATE_LIMITED = "rate_limited"
    HEADERS_TOO_LARGE = "headers_too_large"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


@dataclass(frozen=True)
class ProblemKind:
    status: int
    title: str
    detail: str  # what to do about it
    retry_after: int | None = None  # seconds; None: trying again changes nothing


PROBLEMS: dict[Problem, ProblemKind] = {
    Problem.MALFORMED_JSON: ProblemKind(400, "Malformed JSON", "Send one JSON object in UTF-8."),
    Problem.MALFORMED_REQUEST: ProblemKind(400, "Malformed request", "Correct the named parameters."),
    Problem.UNAUTHENTICATED: ProblemKind(401, "Unauthenticated", "Send `Authorization: Bearer <JWT>`."),
    Problem.TOKEN_INVALID: ProblemKind(401, "Invalid token", "Get a new token; its signature or its claims are not acceptable."),
    Problem.TOKEN_EXPIRED: ProblemKind(401, "Expired token", "Get a new token."),
    Problem.SCOPE_MISSING: ProblemKind(403, "Scope missing", "This needs a token with another scope."),
    Problem.ORIGIN_NOT_ALLOWED: ProblemKind(403, "Origin not allowed", "Add the origin to MOA_ALLOWED_ORIGINS if it is yours."),
    Problem.NOT_FOUND: ProblemKind(404, "Not found", "There is nothing at this address for this user."),
    Problem.METHOD_NOT_ALLOWED: ProblemKind(405, "Method not allowed", "Use one of the methods named in `Allow`."),
    Problem.BODY_TOO_SLOW: ProblemKind(408, "Body too slow", "Send the whole body within five seconds.", retry_after=1),
    Problem.IDEMPOTENCY_CONFLICT: ProblemKind(
        409, "Idempotency conflict", "This Idempotency-Key was used with another body in the last 24 hours; use a new one."
    ),
    Problem.NOTHING_TO_RETRY: ProblemKind(
        409, "Nothing to retry", "Only a partial or failed registration with failed providers can be retried."
    ),
    Problem.NOTHING_TO_CANCEL: ProblemKind(409, "Nothing to cancel", "Every provider of this registration has already ended."),
    Problem.NOTHING_TO_REFRESH: ProblemKind(409, "Nothing to refresh", "No provider is linked; connect one with POST /v1/registrations."),
    Problem.OUTSIDE_WINDOW: ProblemKind(
        409, "Outside of the transfer window", "The provider takes scheduled calls only in its transfer window; ask again within it."
    ),
    Problem.BODY_TOO_LARGE: ProblemKind(413, "Body too large", "Send a smaller body."),
    Problem.UNSUPPORTED_MEDIA_TYPE: ProblemKind(415, "Unsupported media type", "Send `Content-Type: application/json`."),
    Problem.VALIDATION_FAILED: ProblemKind(422, "Validation failed", "Correct the fields named in `errors`."),
    Problem.UNKNOWN_PROVIDER: ProblemKind(422, "Unknown provider", "Choose providers from GET /v1/providers."),
    Problem.IDENTITY_REQUIRED: ProblemKind(422, "Identity required", "The token must carry the claim `user_ci`."),
    Problem.RATE_LIMITED: ProblemKind(429, "Too many requests", "Slow down and try again.", retry_after=1),
    Problem.HEADERS_TOO_LARGE: ProblemKind(
        431, "Request header too large", "Send at most 64 KiB in 100 lines, and to a WebSocket at most 8 KiB a line."
    ),
    Problem.ENGINE_UNAVAILABLE: ProblemKind(503, "Temporarily unavailable", "Nothing was lost; try again shortly.", retry_after=1),
    Problem.SHUTTING_DOWN: ProblemKind(503, "Shutting down", "This process is going away; try again at once.", retry_after=1),
    Problem.INTERNAL: ProblemKind(500, "Internal error", "This is our fault; the request id helps us to find it."),
}


class Refused(MoaError):
    """A request that we do not carry out. Nothing of it is stored."""

    def __init__(
        self, problem: Problem, detail: str | None = None, *, errors: tuple[dict[str, str], ...] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(problem.value)
        self.problem = problem
        self.detail = detail or PROBLEMS[problem].detail
        self.errors = errors  # [{"field": "providers[3]", "message": "…"}]
        self.retry_after = retry_after if retry_after is not None else PROBLEMS[problem].retry_after


class EngineUnavailable(Refused):
    """PostgreSQL or Valkey does not answer: the request was not carried out, and trying again is right."""

    def __init__(self, engine: str) -> None:
        super().__init__(Problem.ENGINE_UNAVAILABLE, f"{engine} does not answer. Nothing was lost; try again shortly.")
        self.engine = engine


# --- what a provider did ---------------------------------------------------------------------------------------------


class Trouble(StrEnum):
    """Codes in the `error` of a provider that failed."""

    UNAVAILABLE = "provider_unavailable"
    TIMEOUT = "provider_timeout"
    INVALID_RESPONSE = "provider_invalid_response"
    BUSY = "provider_busy"
    RESTING = "provider_resting"
    CONSENT_REQUIRED = "consent_required"
    REFUSED = "provider_refused"
    INTERNAL = "internal_error"  # our own fault, three times in a row


class UserAction(StrEnum):
    """What the person should do; clients translate these."""

    RETRY = "retry"  # POST /v1/registrations/{id}/retry, now or later
    WAIT = "wait"  # it is tried again without them
    SIGN_AGAIN = "sign_again"
    CONTACT_PROVIDER = "contact_provider"


ITEM_ERRORS: dict[Trouble, ItemError] = {
    Trouble.UNAVAILABLE: ItemError(
        Trouble.UNAVAILABLE,
        "기관에 연결할 수 없습니다",
        "The provider does not answer at the moment. Try again later.",
        True,
        UserAction.RETRY,
    ),
    Trouble.TIMEOUT: ItemError(
        Trouble.TIMEOUT, "기관의 응답이 늦어지고 있습니다", "The provider took too long to answer. Try again later.", True, UserAction.RETRY
    ),
    Trouble.INVALID_RESPONSE: ItemError(
        Trouble.INVALID_RESPONSE,
        "기관의 응답을 읽을 수 없습니다",
        "The provider sent an answer that is not valid. Try again later.",
        True,
        UserAction.RETRY,
    ),
    Trouble.BUSY: ItemError(
        Trouble.BUSY, "기관이 혼잡합니다", "The provider asks for fewer calls. Try again later.", True, UserAction.RETRY
    ),
    Trouble.RESTING: ItemError(
        Trouble.RESTING, "기관이 점검 중입니다", "The provider is resting. It is tried again by itself.", True, UserAction.WAIT
    ),
    Trouble.CONSENT_REQUIRED: ItemError(
        Trouble.CONSENT_REQUIRED, "다시 동의가 필요합니다", "The consent is no longer valid. Sign again.", True, UserAction.SIGN_AGAIN
    ),
    Trouble.INTERNAL: ItemError(
        Trouble.INTERNAL, "일시적인 오류입니다", "Something is wrong on our side. Try again later.", True, UserAction.RETRY
    ),
    Trouble.REFUSED: ItemError(
        Trouble.REFUSED,
        "기관이 요청을 거절했습니다",
        "The provider refused the request. Ask the provider.",
        False,
        UserAction.CONTACT_PROVIDER,
    ),
}


class ProviderError(MoaError):
    """A call that gave no usable answer. `reason` is for logs: codes and class names only, never data."""

    TROUBLE: ClassVar[Trouble]

    def __init__(self, org_code: str, reason: str = "", *, retry_at: datetime | None = None) -> None:
        super().__init__(f"{org_code}: {self.TROUBLE} ({reason})" if reason else f"{org_code}: {self.TROUBLE}")
        self.org_code = org_code
        self.reason = reason
        self.retry_at = retry_at  # when the provider said it may be called again; None: it did not say


class ProviderUnavailable(ProviderError):
    TROUBLE = Trouble.UNAVAILABLE


class ProviderTimeout(ProviderError):
    TROUBLE = Trouble.TIMEOUT


class ProviderInvalidResponse(ProviderError):
    TROUBLE = Trouble.INVALID_RESPONSE


class ProviderBusy(ProviderError):
    TROUBLE = Trouble.BUSY


class ProviderResting(ProviderError):
    TROUBLE = Trouble.RESTING


class ConsentRequired(ProviderError):
    TROUBLE = Trouble.CONSENT_REQUIRED


class ProviderRefused(ProviderError):
    TROUBLE = Trouble.REFUSED
