"""Who calls: a JWT becomes an `Identity`, or the request is refused.

Development: HS256 with a secret of at least 32 bytes. Production: RS256/ES256 with the keys of a JWKS URL. The algorithm is never taken
from the token. Claims that must be there: `sub` (1 to 255 bytes), `exp`, `scope`; and `aud`, `iss` where they are set, since whoever signs
for several services says `user` of all of them (RFC 7519, 4.1.1, 4.1.3). A token is never logged and never part of an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Protocol

import jwt
import structlog
from msgspec import Struct
from starlette.requests import HTTPConnection

from backend.clock import Clock
from backend.errors import Problem, Refused
from backend.jwks import PATIENCE, PublishedKeys

OPS = "ops"  # the scope of operators
MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: a key as long as the hash
_MAX_TOKEN = 8 * 1024
_MAX_SUB_BYTES = 255
_MAX_CLAIM = 200
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # JSON can escape them, but PostgreSQL and UTF-8 have no place for them

log = structlog.get_logger()


class Identity(Struct, frozen=True, kw_only=True):
    """A user, or an operator, until `expires_at`. The personal claims are None when the token has none."""

    user_id: str
    scopes: frozenset[str]
    expires_at: datetime
    user_ci: str | None = None
    name: str | None = None
    phone_number: str | None = None

    def __repr__(self) -> str:
        return "Identity(…)"


class Budget(Protocol):
    """How many requests a user may make."""

    async def spend(self, user_id: str) -> None:
        """Counts one; raises `Refused` when there are too many."""
        ...


class TokenVerifier:
    """Checks tokens. Give it either `secret` or `jwks_url`; with neither, every token is refused. `budget` None: no limit.

    `audience`, `issuer`: what a token must name as `aud` and `iss`; None: it may name anybody. `patience`: seconds that the server of the
    keys has for an answer.
    """

    def __init__(
        self,
        *,
        secret: str | None,
        jwks_url: str | None,
        clock: Clock,
        budget: Budget | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if secret is not None and len(secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"MOA_JWT_SECRET must have at least {MIN_SECRET_BYTES} bytes")
        self._secret = secret
        self._jwks = PublishedKeys(jwks_url, clock=clock, patience=patience) if jwks_url else None
        self._clock = clock
        self.budget = budget
        self._audience = audience
        self._issuer = issuer

    async def verify(self, token: str) -> Identity:
        """Raises `Refused` with `token_expired` or `token_invalid`; `EngineUnavailable` when the keys cannot be had."""
        if len(token) > _MAX_TOKEN:
            raise Refused(Problem.TOKEN_INVALID)
        try:
            return self._identity(await self._claims(token))
        except jwt.PyJWTError as exc:
            raise Refused(Problem.TOKEN_INVALID) from exc

    async def _claims(self, token: str) -> dict[str, Any]:
        if self._jwks is not None:
            name = jwt.get_unverified_header(token).get("kid")
            if not isinstance(name, str):
                raise Refused(Problem.TOKEN_INVALID)
            return self._checked(token, await self._jwks.key(name), ["RS256", "ES256"])
        if self._secret is None:
            raise Refused(Problem.TOKEN_INVALID, "This server has no key to check tokens with: set MOA_JWT_SECRET or MOA_JWKS_URL.")
        return self._checked(token, self._secret, ["HS256"])

    def _checked(self, token: str, key: Any, algorithms: list[str]) -> dict[str, Any]:
        # Expiry is checked later against our own clock, so that time can be moved.
        options: Any = {
            "verify_exp": False,
            "verify_iat": False,
            "verify_aud": self._audience is not None,
            "require": ["sub", "exp", "scope"],
        }
        try:
            return jwt.decode(token, key, algorithms=algorithms, audience=self._audience, issuer=self._issuer, options=options)
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.MissingRequiredClaimError) as exc:
            raise Refused(Problem.TOKEN_INVALID, "The token lacks a claim, or was made for another service: see `aud`, `iss`.") from exc

    def _identity(self, claims: dict[str, Any]) -> Identity:
        sub, exp, scope = claims["sub"], claims["exp"], claims["scope"]
        if not isinstance(sub, str) or _UNSTORABLE.search(sub) or not 1 <= len(sub.encode()) <= _MAX_SUB_BYTES:
            raise Refused(Problem.TOKEN_INVALID, "The claim `sub` must be a string of 1 to 255 bytes.")
        if isinstance(exp, bool) or not isinstance(exp, int | float) or not 0 < exp < 1e11:
            raise Refused(Problem.TOKEN_INVALID, "The claim `exp` must be a Unix time.")
        expires_at = datetime.fromtimestamp(exp, UTC)
        if expires_at <= self._clock.now():
            raise Refused(Problem.TOKEN_EXPIRED)
        return Identity(
            user_id=sub,
            scopes=_scopes(scope),
            expires_at=expires_at,
            user_ci=_text(claims, "user_ci"),
            name=_text(claims, "name"),
            phone_number=_text(claims, "phone_number"),
        )


def _scopes(scope: object) -> frozenset[str]:
    """RFC 8693 writes scopes as one string with spaces; lists are common, too."""
    if isinstance(scope, str):
        return frozenset(scope.split())
    if isinstance(scope, list) and all(isinstance(part, str) for part in scope):
        return frozenset(scope)
    raise Refused(Problem.TOKEN_INVALID, "The claim `scope` must be a string.")


def _text(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CLAIM or _UNSTORABLE.search(value):
        raise Refused(Problem.TOKEN_INVALID, f"The claim `{name}` must be a string of at most {_MAX_CLAIM} characters.")
    return value


async def identify(request: HTTPConnection, verifier: TokenVerifier, *, scope: str) -> Identity:
    """The caller of `request`, who must hold `scope` (`user` or `ops`). Who is refused what operators may do is logged."""
    try:
        identity = await verifier.verify(bearer_token(request))
    except Refused as refused:
        if scope == OPS:
            denied(request, refused.problem)
        raise
    if scope not in identity.scopes:
        if scope == OPS:
            denied(request, Problem.SCOPE_MISSING, who=identity.user_id)
        raise Refused(Problem.SCOPE_MISSING, f"This needs a token with the scope `{scope}`.")
    if verifier.budget is not None:
        await verifier.budget.spend(identity.user_id)
    return identity


def denied(request: HTTPConnection, problem: Problem, *, who: str | None = None) -> None:
    """Logs that somebody was refused what operators may do. `who` None: no good token says."""
    log.warning("operator.denied", path=request.url.path, code=problem.value, who=who)


def bearer_token(request: HTTPConnection) -> str:
    """The token of the `Authorization` header (RFC 6750, 2.1). Tokens in query strings are not read: URLs end up in logs."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Refused(Problem.UNAUTHENTICATED)
    return token.strip()
