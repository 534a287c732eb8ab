"""The certification authority over HTTP: one signature for all providers (standard, section 6, 101 to 103).

In: a person and their consents. Out: where to sign, later what was signed. The CA's own token is kept in this process until shortly
before its end; many callers wait for one request, and a refused token is replaced once. No answer about signing is ever guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import orjson
from msgspec import Meta, Struct

from backend.errors import ConsentRequired, ProviderRefused
from backend.providers import ids, outcomes
from backend.providers.calling.transport import Guard, Transport
from backend.providers.calls import ACCEPTED, FORM, OAUTH_ACCEPTED, Call, Scope, form
from backend.providers.consents import sign_request_form
from backend.providers.contract import (
    CertificationAuthority,
    Consent,
    NotSignedYet,
    Person,
    SignatureRefused,
    SignatureRequest,
    Signed,
)
from backend.providers.ids import Serials
from backend.providers.payloads import Count, Malformed, decode, reader
from backend.providers.tokens import Bearer
from backend.settings import Settings

T = TypeVar("T")

_EARLY = timedelta(minutes=1)  # a token this near to its end is not used any more
_LONGEST = timedelta(days=365)  # of any token (standard, section 6)

WebUrl = Annotated[str, Meta(max_length=2000, pattern=r"^https?://[\x21-\x7e]+\Z")]
AppUrl = Annotated[str, Meta(max_length=2000, pattern=r"^(?!(?i:javascript|data|vbscript|file):)[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+\Z")]
TxId = Annotated[str, Meta(min_length=1, max_length=74, pattern=r"^[\x21-\x7e]+\Z")]
Base64Url = Annotated[str, Meta(min_length=1, max_length=50_000, pattern=r"^[A-Za-z0-9_=-]+\Z")]


class _Token(Struct, frozen=True):
    access_token: Bearer
    expires_in: Count


class _Asked(Struct, frozen=True):
    """Answer of sign_request."""

    cert_tx_id: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[\x21-\x7e]+\Z")]
    sign_web_url: WebUrl
    sign_ios_app_scheme_url: AppUrl
    sign_aos_app_scheme_url: AppUrl


class _SignedRow(Struct, frozen=True):
    tx_id: TxId
    signed_consent: Base64Url


class _Result(Struct, frozen=True):
    """Answer of sign_result once the person has signed."""

    signed_consent_list: Annotated[tuple[_SignedRow, ...], Meta(max_length=100)]


class HttpCaClient:
    """`contract.CaClient` over HTTP."""

    def __init__(self, ca: CertificationAuthority, transport: Transport, *, settings: Settings, serials: Serials) -> None:
        self._ca = ca
        self._transport = transport
        self._settings = settings
        self._serials = serials
        self._token: str | None = None
        self._good_until = datetime.min.replace(tzinfo=UTC)
        self._asking: asyncio.Task[str] | None = None

    async def request_signature(self, person: Person, consents: tuple[Consent, ...], now: datetime) -> SignatureRequest:
        """Asks for one signature over all consents. Not repeated by itself: each call is a request that the person sees."""
        sign_tx_id = ids.sign_tx_id(self._settings.operator_org_code, self._ca.org_code, now, self._serials.next())
        body = sign_request_form(person, consents, sign_tx_id=sign_tx_id, return_scheme=self._settings.app_scheme_url)
        path = f"/{self._ca.api_version}/ca/sign_request"

        def call(token: str) -> Call[_Asked]:
            return Call(
                api_code="AU12",
                scope=Scope.CA,
                method="POST",
                path=path,
                read=reader(_Asked),
                body=orjson.dumps(body),
                token=token,
            )

        asked = await self._with_token(call, now)
        return SignatureRequest(
            sign_tx_id=sign_tx_id,
            cert_tx_id=asked.cert_tx_id,
            web_url=asked.sign_web_url,
            ios_app_scheme_url=asked.sign_ios_app_scheme_url,
            aos_app_scheme_url=asked.sign_aos_app_scheme_url,
        )

    async def signature(
        self, request: SignatureRequest, consents: tuple[Consent, ...], now: datetime
    ) -> NotSignedYet | SignatureRefused | Signed:
        """What the person has decided so far. A signature that lacks one of the consents is a `ProviderInvalidResponse`."""
        body = orjson.dumps({"cert_tx_id": request.cert_tx_id, "sign_tx_id": request.sign_tx_id})
        path = f"/{self._ca.api_version}/ca/sign_result"
        pending, denied = self._settings.ca_pending_code, self._settings.ca_denied_code

        def read(code: str | None, answer: bytes) -> NotSignedYet | SignatureRefused | Signed:
            if code == pending:
                return NotSignedYet()
            if code == denied:
                return SignatureRefused()
            return _signed(decode(_Result, answer), consents)

        def call(token: str) -> Call[NotSignedYet | SignatureRefused | Signed]:
            return Call(
                api_code="AU13",
                scope=Scope.CA,
                method="POST",
                path=path,
                read=read,
                accepts=ACCEPTED | {pending, denied},
                body=body,
                token=token,
                repeatable=True,
            )

        return await self._with_token(call, now)

    async def ask_token(self, guard: Guard) -> None:
        """Whether it answers at all, under a probe's guard: a token of our own, which is thrown away. No person is to sign anything."""
        await self._transport.under(guard).call(self._token_call())

    async def aclose(self) -> None:
        """Ends a token request that may still be under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _with_token(self, call: Callable[[str], Call[T]], now: datetime) -> T:
        """No person's consent is at stake here: where the CA refuses our token twice, it refuses us."""
        try:
            return await self._called(call, now)
        except ConsentRequired as error:
            raise ProviderRefused(self._ca.org_code, error.reason) from None

    async def _called(self, call: Callable[[str], Call[T]], now: datetime) -> T:
        token = await self._good_token(now)
        try:
            return await self._transport.call(call(token))
        except ConsentRequired as error:
            if not outcomes.token_is_worn(error):
                raise
        if self._token == token:  # else somebody has replaced it meanwhile
            self._token = None
        return await self._transport.call(call(await self._good_token(now)))

    async def _good_token(self, now: datetime) -> str:
        """The token in the cache, or the one that all who wait here share, or its failure."""
        if self._token is not None and now < self._good_until:
            return self._token
        if self._asking is None:
            self._asking = asyncio.create_task(self._fresh_token(now))
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    async def _fresh_token(self, now: datetime) -> str:
        token = await self._transport.call(self._token_call())
        life = min(timedelta(seconds=min(token.expires_in, 10**9)), _LONGEST)
        self._token, self._good_until = token.access_token, now + max(life - _EARLY, life / 2)
        return token.access_token

    def _asked(self, task: asyncio.Task[str]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # those who waited have it; perhaps all of them were cancelled

    def _token_call(self) -> Call[_Token]:
        fields = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.get_secret_value(),
            "scope": "ca",
        }
        return Call(
            api_code="AU11",
            scope=Scope.CA,
            method="POST",
            path="/oauth/2.0/token",
            read=reader(_Token),
            accepts=OAUTH_ACCEPTED,
            body=form(fields),
            content_type=FORM,
            repeatable=True,
        )


def _signed(result: _Result, consents: tuple[Consent, ...]) -> Signed:
    rows = {row.tx_id: row.signed_consent for row in result.signed_consent_list}
    wanted = [consent.tx_id for consent in consents]
    if len(result.signed_consent_list) != len(wanted) or rows.keys() != set(wanted):
        raise Malformed("not the consents that were asked for")
    return Signed(rows)
