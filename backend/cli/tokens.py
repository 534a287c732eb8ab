"""Development JWTs for invented people.

In: settings with the data folder's secret, a user. Out: a token as `backend/identity.py` takes it. Production has its own issuer.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import jwt

from backend.errors import MoaError
from backend.providers.user_ci import development_user_ci
from backend.settings import Settings

FAMILY_NAMES = "김이박최정강조윤장임"
GIVEN_NAMES = ("하늘", "다온", "가람", "누리", "도담", "새벽", "보람", "아라", "한결", "이든")


class NoSecret(MoaError):
    """There is nothing to sign with. The message is one plain line."""


def development_token(settings: Settings, *, user: str, ops: bool, ttl: int, now: datetime) -> str:
    """A JWT that is good for `ttl` seconds. Raises `NoSecret`."""
    if not 1 <= len(user.encode()) <= 255:
        raise NoSecret("--user must have 1 to 255 bytes")
    if settings.jwt_secret is None:
        raise NoSecret(f"no secret to sign with in {settings.data.absolute()}: run `moa up` once, or set MOA_JWT_SECRET")
    claims: dict[str, object] = {
        "sub": user,
        "scope": "user ops" if ops else "user",
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=ttl)).timestamp()),
        **_invented_person(user),
        **{name: value for name, value in (("aud", settings.jwt_audience), ("iss", settings.jwt_issuer)) if value is not None},
    }
    if settings.user_ci == "derived":
        claims["user_ci"] = development_user_ci(user)
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")


def _invented_person(user: str) -> dict[str, str]:
    """Always the same name and number for the same user; nobody has a number that begins with 010-0."""
    digest = int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big")
    name = FAMILY_NAMES[digest % 10] + GIVEN_NAMES[digest // 10 % 10]
    return {"name": name, "phone_number": f"+82100{digest // 100 % 10_000_000:07d}"}
