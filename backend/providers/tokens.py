"""The token endpoints of a provider: what is asked, how an answer becomes a `TokenPair` (standard, section 6, 002 to 004). RULE: pure.

In: client credentials, a signed consent or a refresh token. Out: `Call` values. Lives are cut to what the law allows: access 90 days,
refresh one year. A token that would not fit into a header is `Malformed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from backend.providers.calls import FORM, OAUTH_ACCEPTED, Call, Scope, form
from backend.providers.consents import token_form
from backend.providers.contract import Person, Provider, SignedConsent, TokenPair
from backend.providers.outcomes import RspCode
from backend.providers.payloads import Count, Malformed, decode

Bearer = Annotated[str, Meta(min_length=1, max_length=1500, pattern=r"^[\x21-\x7e]+\Z")]  # aNS(1500)

_LONGEST_ACCESS = timedelta(days=90)
_LONGEST_REFRESH = timedelta(days=365)
_PATH = "/oauth/2.0/token"
_REVOKE_ACCEPTED = frozenset[str]([RspCode.OK, RspCode.TOKEN_NOT_VALID])


class Credentials(Struct, frozen=True, kw_only=True):
    """Who we are to a token endpoint."""

    client_id: str
    client_secret: str
    service_id: str

    def __repr__(self) -> str:
        return "Credentials(…)"


class _Granted(Struct, frozen=True):
    """Answer of 002."""

    token_type: str
    access_token: Bearer
    expires_in: Count
    refresh_token: Bearer
    refresh_token_expires_in: Count
    scope: Annotated[str, Meta(max_length=1000, pattern=r"^[\x20-\x7e]*\Z")] = ""


class _Refreshed(Struct, frozen=True):
    """Answer of 003; v2 may answer with a new refresh token too."""

    token_type: str
    access_token: Bearer
    expires_in: Count
    refresh_token: Bearer | None = None
    refresh_token_expires_in: Count | None = None


def request_call(
    person: Person, consent: SignedConsent, credentials: Credentials, now: datetime, user: str | None = None
) -> Call[TokenPair]:
    """A token pair for a signed consent. Not repeated by itself: a new pair drops the old one."""
    fields = token_form(
        person,
        consent,
        client_id=credentials.client_id,
        client_secret=credentials.client_secret,
        service_id=credentials.service_id,
    )

    def read(_code: str | None, body: bytes) -> TokenPair:
        granted = decode(_Granted, body)
        _check_type(granted.token_type)
        return TokenPair(
            access_token=granted.access_token,
            access_expires_at=_end(now, granted.expires_in, _LONGEST_ACCESS),
            refresh_token=granted.refresh_token,
            refresh_expires_at=_end(now, granted.refresh_token_expires_in, _LONGEST_REFRESH),
            scope=granted.scope,
        )

    return _call("AU02", fields, read, user)


def refresh_call(provider: Provider, token: TokenPair, credentials: Credentials, now: datetime, user: str | None = None) -> Call[TokenPair]:
    """A new access token for the refresh token."""
    fields = {
        "org_code": provider.org_code,
        "grant_type": "refresh_token",
        "refresh_token": token.refresh_token,
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
    }

    def read(_code: str | None, body: bytes) -> TokenPair:
        refreshed = decode(_Refreshed, body)
        _check_type(refreshed.token_type)
        life = refreshed.refresh_token_expires_in
        return TokenPair(
            access_token=refreshed.access_token,
            access_expires_at=_end(now, refreshed.expires_in, _LONGEST_ACCESS),
            refresh_token=refreshed.refresh_token or token.refresh_token,
            refresh_expires_at=token.refresh_expires_at if life is None else _end(now, life, _LONGEST_REFRESH),
            scope=token.scope,
        )

    return _call("AU03", fields, read, user, repeatable=True)


def revoke_call(provider: Provider, access_token: str, credentials: Credentials, user: str | None = None) -> Call[None]:
    """Ends the pair. 99999 says that it had ended already, which is as good."""
    fields = {
        "org_code": provider.org_code,
        "token": access_token,
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
    }
    return Call(
        api_code="AU04",
        scope=Scope.TOKEN,
        method="POST",
        path="/oauth/2.0/revoke",
        read=lambda _code, _body: None,
        accepts=_REVOKE_ACCEPTED,
        body=form(fields),
        content_type=FORM,
        user=user,
        repeatable=True,
    )


def _call(
    api_code: str, fields: Mapping[str, str], read: Callable[[str | None, bytes], TokenPair], user: str | None, *, repeatable: bool = False
) -> Call[TokenPair]:
    return Call(
        api_code=api_code,
        scope=Scope.TOKEN,
        method="POST",
        path=_PATH,
        read=read,
        accepts=OAUTH_ACCEPTED,
        body=form(fields),
        content_type=FORM,
        user=user,
        repeatable=repeatable,
    )


def _check_type(token_type: str) -> None:
    if token_type.lower() != "bearer":
        raise Malformed("token_type")


def _end(now: datetime, seconds: int, longest: timedelta) -> datetime:
    return now + min(timedelta(seconds=min(seconds, 10**9)), longest)
