"""HTTP in and out, for every room's endpoints: checked requests, JSON answers, problem documents (RFC 9457).

In: a Starlette request. Out: typed values, or `Refused` with every fault that was found. Bodies are bounded while they are read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from backend.errors import PROBLEMS, Problem, Refused
from backend.events import Position, to_json

BODY_SECONDS = 5.0  # for a whole body to come; less than an answer may take
REQUEST_ID = "request_id"  # in `request.state`
FEED_POSITION = "X-Feed-Position"
MOST_WORDS = 200  # characters of an operator's words

# What an operator says, on one line: kept, and shown in the terminals of others. Control characters could do there what nobody sees, and
# those that break lines (U+2028, U+2029) or turn the direction (U+202A-202E, U+2066-2069) could show it as something else.
Words = Annotated[str, Meta(max_length=MOST_WORDS, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$(?!\n)")]

T = TypeVar("T")

_AT = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def request_id(request: Request) -> str:
    """The id that the middleware gave this request; it goes through to the bank's call."""
    return str(getattr(request.state, REQUEST_ID, ""))


def json_answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def with_position(position: Position) -> dict[str, str]:
    """The header of every GET of a user's data. The position must have been read before the data."""
    return {FEED_POSITION: str(position)}


def problem_answer(refused: Refused, of_request: str) -> Response:
    """The problem document of a refusal."""
    kind = PROBLEMS[refused.problem]
    document = {
        "type": f"urn:moa:problem:{refused.problem}",
        "title": kind.title,
        "status": kind.status,
        "detail": refused.detail,
        "code": refused.problem,
        "request_id": of_request,
        **({"errors": refused.errors} if refused.errors else {}),
    }
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after is not None else {}
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if kind.status == 408:
        headers["Connection"] = "close"  # what is still on its way belongs to no request (RFC 9110, 15.5.9)
    return Response(to_json(document), kind.status, headers, media_type="application/problem+json")


async def read_json(request: Request, kind: type[T], *, limit: int) -> T:
    """The body as `kind`. Raises `Refused`: 415, 413, 400 for what is no JSON, 422 for JSON of another shape."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(Problem.UNSUPPORTED_MEDIA_TYPE)
    body = await _body(request, limit)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise Refused(Problem.VALIDATION_FAILED, errors=(_field_fault(str(exc)),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Problem.MALFORMED_JSON) from None


async def _body(request: Request, limit: int) -> bytes:
    if (int_or_none(request.headers.get("content-length")) or 0) > limit:
        raise Refused(Problem.BODY_TOO_LARGE, f"Send at most {limit} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(Problem.BODY_TOO_LARGE, f"Send at most {limit} bytes.")
    except TimeoutError:
        raise Refused(Problem.BODY_TOO_SLOW) from None
    except ClientDisconnect:  # nobody will read this; it keeps who went from looking like a fault of ours
        raise Refused(Problem.MALFORMED_JSON) from None
    return bytes(body)


def _field_fault(message: str) -> dict[str, str]:
    """msgspec names the place at the end: "Expected `str`, got `int` - at `$.providers[0]`"."""
    at = _AT.search(message)
    return {"field": at["field"] if at else "", "message": message[: at.start()] if at else message}


def int_or_none(text: str | None) -> int | None:
    """A short decimal number; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else None


def limit_of(request: Request, *, default: int, most: int) -> int:
    """`?limit=`, from 1 to `most`."""
    text = request.query_params.get("limit")
    if text is None:
        return default
    limit = int_or_none(text)
    if limit is None or not 1 <= limit <= most:
        raise malformed("limit", f"a number from 1 to {most} is needed")
    return limit


def malformed(field: str, message: str) -> Refused:
    """400 for one parameter."""
    return Refused(Problem.MALFORMED_REQUEST, errors=({"field": field, "message": message},))


def idempotency_key(request: Request) -> str | None:
    """The `Idempotency-Key`; None: the client sent none."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise malformed("Idempotency-Key", "1 to 255 visible ASCII characters are needed")
    return key


def page_token(*parts: str) -> str:
    """Where a listing goes on, opaque to clients."""
    return base64.urlsafe_b64encode("\0".join(parts).encode()).rstrip(b"=").decode()


def page_token_parts(request: Request, count: int) -> list[str] | None:
    """The parts of `?page_token=`; None: the client wants the first page."""
    token = request.query_params.get("page_token")
    if token is None:
        return None
    try:
        parts = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode().split("\0")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        parts = []
    # The parts go into queries as parameters; here only their shape is checked.
    if len(parts) != count or len(token) > 512 or not all(parts):
        raise malformed("page_token", "use the next_page_token of an earlier page")
    return parts
