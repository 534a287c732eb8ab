"""The standard's vocabulary on the wire: response codes, requests as they arrived, answers as they will leave.

A refusal is raised as `Refusal(answer)` by whoever finds the fault and caught once, at the front. Every JSON value is a string
(standard, section 1). No sockets here: `delivering.py` has them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from backend.providers.outcomes import OAuthError

Body = dict[str, Any]
T = TypeVar("T")

_TRAN_ID = re.compile(r"[A-Za-z0-9]{10}[MSRCPA][A-Za-z0-9]{14}")


class Rsp(StrEnum):
    """`rsp_code` and the words that go with it (standard, section 5); the first three digits of a refusal are its HTTP status."""

    message: str

    def __new__(cls, code: str, message: str) -> Rsp:
        made = str.__new__(cls, code)
        made._value_, made.message = code, message
        return made

    OK = "00000", "성공"
    UP_TO_DATE = "00001", "성공 (UP_TO_DATE)"
    TOKEN_NOT_VALID = "99999", "유효하지 않은 토큰"  # answer of a revocation, HTTP 200
    BAD_PARAMETER = "40001", "요청 파라미터에 문제가 있는 경우"
    BAD_HEADER = "40002", "헤더 값 미존재 또는 잘못된 헤더값"
    BAD_VERSION = "40003", "허용되지 않는 버전"
    PERIOD_TOO_LONG = "40004", "전송 기간 규칙을 넘는 조회"
    INVALID_TOKEN = "40101", "유효하지 않은 접근토큰"
    NO_SCOPE = "40104", "API 사용 권한 없음"
    CONSENT_ENDED = "40106", "전송요구 종료시점 경과"
    UNKNOWN_ORG_CODE = "40303", "기관코드 미확인"
    OLDER_THAN_FIVE_YEARS = "40304", "5년을 초과한 정보"
    ASSET_NOT_NORMAL = "40305", "정상 상태가 아닌 자산"
    NO_ENDPOINT = "40401", "요청한 엔드포인트는 존재하지 않음"
    UNKNOWN_ASSET = "40402", "요청한 자산은 유효하지 않음"
    WRONG_METHOD = "40501", "허용되지 않는 HTTP Method"
    QUOTA = "42901", "정보제공 요청한도 초과"
    SYSTEM_FAILURE = "50001", "시스템장애"
    MAINTENANCE = "50008", "정기점검"
    OUT_OF_WINDOW = "50009", "정기적 전송 시간대가 아님"


class Answer(Struct, frozen=True):
    """What a provider says."""

    status: int
    body: Body
    retry_after: int | None = None  # seconds; None: no such header

    @property
    def rsp_code(self) -> str | None:
        """For the call log: the response code, or the OAuth error, or None where the standard has neither."""
        return self.body.get("rsp_code") or self.body.get("error")


class Refusal(Exception):
    """A request that is not carried out."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.rsp_code)
        self.answer = answer


def ok(body: Body) -> Answer:
    """00000 with these fields."""
    return Answer(200, {"rsp_code": Rsp.OK.value, "rsp_msg": Rsp.OK.message, **body})


def says(code: Rsp, why: str = "", retry_after: int | None = None) -> Answer:
    """An answer that is only a response code; `why` says more, never a value of the request."""
    status = 200 if code in (Rsp.OK, Rsp.UP_TO_DATE, Rsp.TOKEN_NOT_VALID) else int(code[:3])
    message = f"{code.message} ({why})" if why else code.message
    return Answer(status, {"rsp_code": code.value, "rsp_msg": message}, retry_after)


def refuse(code: Rsp, why: str = "") -> Refusal:
    """To be raised."""
    return Refusal(says(code, why))


def refuse_oauth(error: OAuthError, description: str, status: int = 400) -> Refusal:
    """To be raised by the authorization endpoints."""
    return Refusal(Answer(status, {"error": error.value, "error_description": description}))


class Request(Struct):
    """One request as it arrived. `user` is filled in by whoever finds out."""

    method: str
    path: str  # below the organisation's base path: `/v1/bank/accounts`
    query: str
    headers: dict[bytes, bytes]
    body: bytes = b""
    base_url: str = ""  # where the sandbox is reached
    user: str | None = None  # None: not known (yet)

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"

    @property
    def is_oauth(self) -> bool:
        return self.path.startswith("/oauth/2.0/")

    @property
    def tran_id(self) -> str | None:
        """`x-api-tran-id` if it has the standard's shape."""
        value = self.headers.get(b"x-api-tran-id", b"").decode("latin-1")
        return value if _TRAN_ID.fullmatch(value) else None

    @property
    def api_type(self) -> str | None:
        value = self.headers.get(b"x-api-type")
        return value.decode("latin-1")[:12] if value is not None else None

    @property
    def bearer(self) -> str | None:
        """The access token."""
        scheme, _, token = self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return token if scheme.lower() == "bearer" and token else None

    def check_tran_id(self) -> None:
        """Raises 40002, at authorization endpoints invalid_request."""
        if self.tran_id is None:
            name = "x-api-tran-id"
            raise refuse_oauth(OAuthError.INVALID_REQUEST, name) if self.is_oauth else refuse(Rsp.BAD_HEADER, name)

    def form(self) -> dict[str, str]:
        """The fields of a form body; each once. Raises invalid_request."""
        if not self.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            raise refuse_oauth(OAuthError.INVALID_REQUEST, "Content-Type")
        return self._fields(self.body, refuse_oauth(OAuthError.INVALID_REQUEST, "form"))

    def params(self) -> dict[str, str]:
        """The parameters of a data API: the query of a GET, the JSON object of a POST, all strings. Raises 40001, 40002."""
        if self.method == "GET":
            return self._fields(self.query.encode("latin-1"), refuse(Rsp.BAD_PARAMETER, "query"))
        return self.json(dict[str, str])

    def json(self, shape: type[T]) -> T:
        """The JSON body. Raises 40002 for another content type, 40001 for another shape."""
        if not self.headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            raise refuse(Rsp.BAD_HEADER, "Content-Type")
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise refuse(Rsp.BAD_PARAMETER, "body") from None

    @staticmethod
    def _fields(raw: bytes, refusal: Refusal) -> dict[str, str]:
        try:
            pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100, errors="strict")
        except ValueError:
            raise refusal from None
        if len(fields := dict(pairs)) != len(pairs):
            raise refusal
        return fields
