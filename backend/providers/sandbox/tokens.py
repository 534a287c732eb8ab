"""Access and refresh tokens: JWS (RFC 7515) that say by themselves whose they are, so that they outlive a restart.

One live token per (user, provider) (standard, section 6): a newer pair, a refresh, a revocation drops what was before. Which one is
live is kept in memory, for the newest half million pairs; of the others every token that is signed and not expired is good.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from enum import StrEnum

import jwt
from msgspec import Struct

from backend.providers.sandbox.bounded import Bounded
from backend.providers.user_ci import development_sub

_ALGORITHM = "HS256"
_LIVE_PAIRS = 500_000
_READ = 100_000  # tokens whose signature need not be checked again


class Kind(StrEnum):
    ACCESS = "access"
    REFRESH = "refresh"
    CA = "ca"


class Grant(Struct, frozen=True):
    """What a token says."""

    org_code: str  # who issued it
    user: str  # the sub of an invented person
    scope: str
    kind: Kind
    jti: str
    expires_at: int  # Unix seconds
    consent: dict[str, str]  # what GET /consents tells: end_date, period, purpose …


class Pair(Struct, frozen=True):
    """A new access token, and (None: at a refresh, and at the CA) a new refresh token."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    refresh_token_expires_in: int | None = None

    def __repr__(self) -> str:
        return "Pair(…)"

    def fields(self) -> dict[str, str]:
        """As a token endpoint answers."""
        found = {"token_type": "Bearer", "access_token": self.access_token, "expires_in": str(self.expires_in)}
        if self.refresh_token is not None:
            found |= {"refresh_token": self.refresh_token, "refresh_token_expires_in": str(self.refresh_token_expires_in)}
        return found


def user_of(user_ci: str) -> str:
    """The `sub` behind an invented user_ci; of any other a short digest."""
    return development_sub(user_ci) or "ci-" + hashlib.sha256(user_ci.encode()).hexdigest()[:12]


class Tokens:
    """Issues, reads, drops. `access_ttl`, `refresh_ttl`: seconds."""

    def __init__(self, *, seed: str, audience: str, access_ttl: int, refresh_ttl: int) -> None:
        self._key = hashlib.sha256(f"tokens\0{seed}".encode()).digest()
        self._audience = audience
        self._access_ttl = access_ttl
        self._refresh_ttl = refresh_ttl
        self._live: Bounded[tuple[str, str], dict[Kind, str]] = Bounded(_LIVE_PAIRS)  # the ids of the pair that counts; none: revoked
        self._read: Bounded[str, Grant] = Bounded(_READ)

    def issue(self, org_code: str, user: str, scope: str, consent: dict[str, str], now: datetime) -> Pair:
        """A new pair; the one before it is dropped."""
        access, access_id = self._token(org_code, user, scope, Kind.ACCESS, consent, now, self._access_ttl)
        refresh, refresh_id = self._token(org_code, user, scope, Kind.REFRESH, consent, now, self._refresh_ttl)
        self._live[org_code, user] = {Kind.ACCESS: access_id, Kind.REFRESH: refresh_id}
        return Pair(access, self._access_ttl, refresh, self._refresh_ttl)

    def issue_for_ca(self, org_code: str, now: datetime) -> Pair:
        """The operator's token at the CA: a year, no refresh; any number of them live at once."""
        year = 365 * 86_400
        token, _ = self._token(org_code, "", "ca", Kind.CA, {}, now, year)
        return Pair(token, year)

    def refresh(self, grant: Grant, now: datetime) -> Pair:
        """A new access token for a live refresh token, which stays; the access token before it is dropped."""
        access, access_id = self._token(grant.org_code, grant.user, grant.scope, Kind.ACCESS, grant.consent, now, self._access_ttl)
        self._live[grant.org_code, grant.user] = {Kind.ACCESS: access_id, Kind.REFRESH: grant.jti}
        return Pair(access, self._access_ttl)

    def revoke(self, grant: Grant) -> None:
        """Both tokens of the pair end."""
        self._live[grant.org_code, grant.user] = {}

    def read(self, token: str) -> Grant | None:
        """What a token says, live or not; None: it is not one of ours."""
        known = self._read.get(token)
        if known is not None:
            return known
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], options={"verify_exp": False, "verify_aud": False, "verify_iat": False}
            )
            grant = Grant(
                claims["iss"], claims["sub"], claims["scope"], Kind(claims["kind"]), claims["jti"], claims["exp"], claims["consent"]
            )
        except (jwt.InvalidTokenError, KeyError, ValueError):
            return None
        self._read[token] = grant
        return grant

    def is_live(self, grant: Grant, now: datetime) -> bool:
        """Not expired, not dropped."""
        if grant.expires_at <= now.timestamp():
            return False
        live = self._live.get((grant.org_code, grant.user))
        if live is None or grant.kind is Kind.CA:
            return True
        return grant.jti == live.get(grant.kind)

    def _token(self, org_code: str, user: str, scope: str, kind: Kind, consent: dict[str, str], now: datetime, ttl: int) -> tuple[str, str]:
        jti, expires_at = secrets.token_hex(12), int(now.timestamp()) + ttl
        claims = {"iss": org_code, "aud": self._audience, "jti": jti, "exp": expires_at, "scope": scope, "sub": user}
        return jwt.encode({**claims, "kind": kind.value, "consent": consent}, self._key, algorithm=_ALGORITHM), jti
