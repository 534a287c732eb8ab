"""A provider's authorization endpoints: a signed consent becomes a pair of tokens; refresh; revoke (standard, section 6).

MyData 2.0's consent flow and nothing less: `request_type` 1, the industry's full scope, all assets, the person's CMS signature over the
very document. In: form fields. Out: an answer, or `Refusal` in the shape of RFC 6749.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cryptography import x509
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.clock import KST, Clock
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.contract import Provider
from backend.providers.outcomes import OAuthError
from backend.providers.sandbox.ca import CertificationAuthority, check_client
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.signatures import BadSignature, identity_of, verified
from backend.providers.sandbox.tokens import Kind, Tokens, user_of
from backend.providers.sandbox.wire import Answer, Request, Rsp, refuse_oauth, says

TOKEN = "/oauth/2.0/token"
REVOKE = "/oauth/2.0/revoke"

_MOST_CONSENT_BYTES = 7_000
_FIXED = {"request_type": "1", "auth_type": "1", "consent_type": "1"}
_ASKED = ("tx_id", "ca_code", "username", "password_len", "password", "consent_len", "consent", "cert_tx_id", "service_id")

Flag = Literal["true", "false"]
Cycle = Annotated[str, Meta(pattern=r"^1/[1-4]?w$")]
Date = Annotated[str, Meta(pattern=r"^[0-9]{8}$")]


class TargetInfo(Struct, frozen=True):
    scope: str
    asset_list: list[dict[str, str]] | UnsetType = UNSET  # left out: all assets


class ConsentDocument(Struct, frozen=True):
    """What the person signed for one provider."""

    snd_org_code: str
    rcv_org_code: str
    is_scheduled: Flag
    end_date: Date
    purpose: str
    period: Date
    target_info: tuple[TargetInfo, ...]
    is_consent_trans_memo: Flag
    is_consent_merchant_name_regno: Flag
    fnd_cycle: Cycle | UnsetType = UNSET
    add_cycle: Cycle | UnsetType = UNSET

    def told(self) -> dict[str, str]:
        """What GET /consents (CM02) answers later."""
        names = ("is_scheduled", "fnd_cycle", "add_cycle", "end_date", "purpose", "period")
        values = {name: getattr(self, name) for name in (*names, "is_consent_trans_memo", "is_consent_merchant_name_regno")}
        return {name: value for name, value in values.items() if value is not UNSET}


@dataclass(kw_only=True, eq=False)
class Granting:
    """One provider's authorization server."""

    provider: Provider
    options: SandboxOptions
    ca: CertificationAuthority
    root: x509.Certificate
    tokens: Tokens
    clock: Clock

    def answer(self, request: Request) -> Answer:
        """Carries a request out. Raises `Refusal`."""
        request.check_tran_id()
        if request.path not in (TOKEN, REVOKE):
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "path", 404)
        if request.method != "POST":
            raise refuse_oauth(OAuthError.METHOD_NOT_ALLOWED, "POST", 405)
        form = request.form()
        check_client(form, self.options)
        if form.get("org_code") != self.provider.org_code:
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "org_code")
        if request.path == REVOKE:
            return self._revoke(request, form)
        match form.get("grant_type"):
            case "password":
                return self._grant(request, form)
            case "refresh_token":
                return self._refresh(request, form)
            case _:
                raise refuse_oauth(OAuthError.UNSUPPORTED_GRANT_TYPE, "password, refresh_token")

    def _grant(self, request: Request, form: dict[str, str]) -> Answer:
        for name in (*_ASKED, *_FIXED):
            if not form.get(name) or form[name] != _FIXED.get(name, form[name]):
                raise refuse_oauth(OAuthError.INVALID_REQUEST, name)
        request.user = user_of(form["username"])
        self._check_lengths(form)
        self._check_signature(form)
        document = self._document(form)
        scope = FULL_SCOPES[self.provider.industry]
        pair = self.tokens.issue(self.provider.org_code, request.user, scope, document.told(), self.clock.now())
        return Answer(200, {"tx_id": form["tx_id"], **pair.fields(), "scope": scope})

    def _check_lengths(self, form: dict[str, str]) -> None:
        consent_bytes = len(form["consent"].encode())
        if form["password_len"] != str(len(form["password"])):
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "password_len")
        if form["consent_len"] != str(consent_bytes) or consent_bytes > _MOST_CONSENT_BYTES:
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "consent_len")
        if form["ca_code"] != self.ca.org_code:
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "ca_code")

    def _check_signature(self, form: dict[str, str]) -> None:
        try:
            content, identity = verified(form["password"], self.root, self.clock.now())
        except BadSignature as exc:
            raise refuse_oauth(OAuthError.INVALID_GRANT, f"signed consent: {exc}") from exc
        if content != hashlib.sha256(form["consent"].encode()).hexdigest().encode():
            raise refuse_oauth(OAuthError.INVALID_GRANT, "signed consent: another document was signed")
        if identity != identity_of(form["username"]):
            raise refuse_oauth(OAuthError.UNAUTHORIZED_USER, "signed by another person")
        if not self.ca.knows(form["cert_tx_id"], form["tx_id"], form["username"]):
            raise refuse_oauth(OAuthError.UNAUTHORIZED_USER, "cert_tx_id, tx_id")

    def _document(self, form: dict[str, str]) -> ConsentDocument:
        try:
            document = msgspec.json.decode(form["consent"].encode(), type=ConsentDocument)
        except (msgspec.DecodeError, RecursionError):
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "consent") from None
        if document.snd_org_code != self.provider.org_code or form["tx_id"].split("_")[2] != self.provider.org_code:
            raise refuse_oauth(OAuthError.INVALID_GRANT, "snd_org_code")
        if document.rcv_org_code != self.options.operator_org_code:
            raise refuse_oauth(OAuthError.INVALID_GRANT, "rcv_org_code")
        if document.end_date < f"{self.clock.now().astimezone(KST):%Y%m%d}":
            raise refuse_oauth(OAuthError.INVALID_GRANT, "end_date")
        asked = [target.scope for target in document.target_info if target.asset_list is UNSET]
        full = FULL_SCOPES[self.provider.industry].split()
        if sorted(asked) != sorted(full) or len(asked) != len(document.target_info):
            raise refuse_oauth(OAuthError.INVALID_SCOPE, "target_info")
        return document

    def _refresh(self, request: Request, form: dict[str, str]) -> Answer:
        grant = self.tokens.read(form.get("refresh_token", ""))
        if grant is None or grant.kind is not Kind.REFRESH or grant.org_code != self.provider.org_code:
            raise refuse_oauth(OAuthError.INVALID_GRANT, "refresh_token")
        request.user = grant.user
        now = self.clock.now()
        if not self.tokens.is_live(grant, now) or grant.consent["end_date"] < f"{now.astimezone(KST):%Y%m%d}":
            raise refuse_oauth(OAuthError.INVALID_GRANT, "refresh_token")
        return Answer(200, dict(self.tokens.refresh(grant, now).fields()))

    def _revoke(self, request: Request, form: dict[str, str]) -> Answer:
        grant = self.tokens.read(form.get("token", ""))
        if grant is None or grant.org_code != self.provider.org_code or not self.tokens.is_live(grant, self.clock.now()):
            return says(Rsp.TOKEN_NOT_VALID)
        request.user = grant.user
        self.tokens.revoke(grant)
        return says(Rsp.OK)
