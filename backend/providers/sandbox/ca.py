"""The certification authority: one signature for many providers (standard, section 6, 101 to 103).

sign_request remembers what is to be signed, sign_result signs once the person has decided: after `approve_after_ms`, or at the signing
page. Only digests of consents are held (`consent_type` 1), for the newest transactions. How it misbehaves is decided before it is asked.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from backend.clock import Clock
from backend.providers.outcomes import OAuthError
from backend.providers.sandbox.bounded import Bounded
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.signatures import Signer
from backend.providers.sandbox.steering import CaBehaviour, CaMode
from backend.providers.sandbox.tokens import Kind, Tokens, user_of
from backend.providers.sandbox.wire import Answer, Request, Rsp, ok, refuse, refuse_oauth

TOKEN = "/oauth/2.0/token"
SIGN_REQUEST = "/v1/ca/sign_request"
SIGN_RESULT = "/v1/ca/sign_result"
PATHS = frozenset((TOKEN, SIGN_REQUEST, SIGN_RESULT))

_TX_ID = re.compile(r"MD(_[A-Za-z0-9]{10}){4}_\d{14}_[A-Za-z0-9]{12}")
_SIGN_TX_ID = r"^[A-Za-z0-9]{10}_[A-Za-z0-9]{10}_\d{14}_[A-Za-z0-9]{12}$"
_REMEMBERED = 20_000  # transactions
_AT_ONCE = 8  # consents that are signed before others get a turn: some half a millisecond

Text = Annotated[str, Meta(min_length=1, max_length=300)]


class ConsentItem(Struct, frozen=True):
    """One consent of a sign_request."""

    consent_len: Annotated[str, Meta(pattern=r"^64$")]
    consent_title: Text
    consent: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]  # SHA-256 of the document
    tx_id: Annotated[str, Meta(min_length=74, max_length=74)]


class SignRequest(Struct, frozen=True):
    """102; every value a string."""

    sign_tx_id: Annotated[str, Meta(pattern=_SIGN_TX_ID)]
    user_ci: Annotated[str, Meta(min_length=1, max_length=100)]
    real_name: Text
    phone_num: Annotated[str, Meta(pattern=r"^\+?[0-9]{8,15}$")]
    request_title: Text
    device_code: Annotated[str, Meta(pattern=r"^(PC|TB|MO)$")]
    device_browser: Annotated[str, Meta(pattern=r"^(WB|NA|HY)$")]
    consent_type: Annotated[str, Meta(pattern=r"^1$")]
    consent_cnt: Annotated[str, Meta(pattern=r"^[0-9]{1,3}$")]
    consent_list: Annotated[tuple[ConsentItem, ...], Meta(min_length=1, max_length=100)]
    return_app_scheme_url: str = ""


class SignResult(Struct, frozen=True):
    """103."""

    cert_tx_id: Text
    sign_tx_id: Text


class Decision(StrEnum):
    """What the person did."""

    APPROVED = "approved"
    DENIED = "denied"


class Transaction(Struct):
    """One signature that was asked for. `decision` None: the person has not been at the signing page."""

    cert_tx_id: str
    sign_tx_id: str
    user_ci: str
    title: str
    consents: tuple[ConsentItem, ...]
    asked_at: float  # monotonic seconds
    decision: Decision | None = None

    def __repr__(self) -> str:
        return f"Transaction({self.cert_tx_id})"


@dataclass(kw_only=True, eq=False)
class CertificationAuthority:
    """The CA of the directory."""

    options: SandboxOptions
    signer: Signer
    tokens: Tokens
    clock: Clock
    transactions: Bounded[str, Transaction] = field(default_factory=lambda: Bounded(_REMEMBERED))

    @property
    def org_code(self) -> str:
        return self.options.directory.ca.org_code

    async def answer(self, request: Request, behaviour: CaBehaviour) -> Answer:
        """Carries a request out. Raises `Refusal`."""
        request.check_tran_id()
        if request.method != "POST":
            if request.is_oauth:
                raise refuse_oauth(OAuthError.METHOD_NOT_ALLOWED, "POST", 405)
            raise refuse(Rsp.WRONG_METHOD)
        if request.path == TOKEN:
            return self._token(request)
        self._check_token(request)
        if request.path == SIGN_REQUEST:
            return self._sign_request(request)
        return await self._sign_result(request, behaviour)

    def knows(self, cert_tx_id: str, tx_id: str, user_ci: str) -> bool:
        """Whether that person was asked for that consent in that transaction."""
        transaction = self.transactions.get(cert_tx_id)
        if transaction is None or transaction.user_ci != user_ci:
            return False
        return any(consent.tx_id == tx_id for consent in transaction.consents)

    def _token(self, request: Request) -> Answer:
        form = request.form()
        if form.get("grant_type") != "client_credentials":
            raise refuse_oauth(OAuthError.UNSUPPORTED_GRANT_TYPE, "client_credentials")
        check_client(form, self.options)
        if form.get("scope") != "ca":
            raise refuse_oauth(OAuthError.INVALID_SCOPE, "ca")
        return Answer(200, {**self.tokens.issue_for_ca(self.org_code, self.clock.now()).fields(), "scope": "ca"})

    def _check_token(self, request: Request) -> None:
        grant = self.tokens.read(request.bearer or "")
        if grant is None or grant.kind is not Kind.CA or not self.tokens.is_live(grant, self.clock.now()):
            raise refuse(Rsp.INVALID_TOKEN)

    def _sign_request(self, request: Request) -> Answer:
        asked = request.json(SignRequest)
        request.user = user_of(asked.user_ci)
        if str(len(asked.consent_list)) != asked.consent_cnt:
            raise refuse(Rsp.BAD_PARAMETER, "consent_cnt")
        tx_ids = {consent.tx_id for consent in asked.consent_list if _TX_ID.fullmatch(consent.tx_id)}
        if len(tx_ids) != len(asked.consent_list):
            raise refuse(Rsp.BAD_PARAMETER, "tx_id")
        cert_tx_id = secrets.token_hex(20)  # 40 characters, the most that the standard allows
        self.transactions[cert_tx_id] = Transaction(
            cert_tx_id, asked.sign_tx_id, asked.user_ci, asked.request_title, asked.consent_list, self.clock.monotonic()
        )
        return ok(
            {
                "sign_ios_app_scheme_url": f"moasandbox://sign?cert_tx_id={cert_tx_id}",
                "sign_aos_app_scheme_url": f"intent://sign?cert_tx_id={cert_tx_id}#Intent;scheme=moasandbox;end",
                "sign_web_url": f"{request.base_url}/sandbox/sign/{cert_tx_id}",
                "cert_tx_id": cert_tx_id,
            }
        )

    async def _sign_result(self, request: Request, behaviour: CaBehaviour) -> Answer:
        asked = request.json(SignResult)
        transaction = self.transactions.get(asked.cert_tx_id)
        if transaction is None or transaction.sign_tx_id != asked.sign_tx_id:
            raise refuse(Rsp.BAD_PARAMETER, "cert_tx_id")
        request.user = user_of(transaction.user_ci)
        match self._decision(transaction, behaviour):
            case None:
                return Answer(200, {"rsp_code": self.options.pending_code, "rsp_msg": "서명 대기 중"})
            case Decision.DENIED:
                return Answer(200, {"rsp_code": self.options.denied_code, "rsp_msg": "사용자가 서명을 거부함"})
            case Decision.APPROVED:
                return ok(await self._signed(transaction))

    def _decision(self, transaction: Transaction, behaviour: CaBehaviour) -> Decision | None:
        if transaction.decision is not None:
            return transaction.decision
        if behaviour.mode is CaMode.NEVER or behaviour.approve_after_ms is None:
            return None
        if (self.clock.monotonic() - transaction.asked_at) * 1000 < behaviour.approve_after_ms:
            return None
        return Decision.DENIED if behaviour.mode is CaMode.DENY else Decision.APPROVED

    async def _signed(self, transaction: Transaction) -> dict[str, object]:
        signed: list[dict[str, str]] = []
        for consent in transaction.consents:
            if signed and len(signed) % _AT_ONCE == 0:
                await asyncio.sleep(0)
            cms = self.signer.sign(transaction.user_ci, consent.consent.encode(), self.clock.now())
            signed.append({"signed_consent_len": str(len(cms)), "signed_consent": cms, "tx_id": consent.tx_id})
        return {"signed_consent_cnt": str(len(signed)), "signed_consent_list": signed}


def check_client(form: dict[str, str], options: SandboxOptions) -> None:
    """Whether the operator is who it says. Raises invalid_client."""
    given = (form.get("client_id", ""), form.get("client_secret", ""))
    expected = (options.client_id, options.client_secret)
    if not all(secrets.compare_digest(one.encode(), other.encode()) for one, other in zip(given, expected, strict=True)):
        raise refuse_oauth(OAuthError.INVALID_CLIENT, "client_id, client_secret")
