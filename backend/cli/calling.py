"""The requests that commands make: providers, a registration, the snapshots once history was lost, and whatever else they `ask`.

In: an `Api`. Out: typed answers, or `NoAnswer` and `Refusal` with one plain line. A request whose answer was lost is sent again; the
registration carries an Idempotency-Key, so that this begins nothing twice.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from backend.cli.following import Api, NoAnswer
from backend.cli.progress import Shown, Snapshot
from backend.errors import MoaError

TRIES = 3
SECONDS = 10.0  # one request

T = TypeVar("T")


class Refusal(MoaError):
    """The API says no. The message is its reason in one plain line."""


class ProviderRow(Struct, frozen=True):
    org_code: str
    name: str
    industry: str
    status: str = ""


class Providers(Struct, frozen=True):
    providers: tuple[ProviderRow, ...]


class AssetPage(Struct, frozen=True):
    assets: tuple[Shown, ...]
    next_page_token: str | None = None


class FieldFault(Struct, frozen=True):
    field: str = ""
    message: str = ""


class Problem(Struct, frozen=True):
    """What we read of a problem document."""

    detail: str = ""
    errors: tuple[FieldFault, ...] = ()


async def providers(api: Api) -> tuple[ProviderRow, ...]:
    return (await ask(api, Providers, "GET", "/v1/providers")).providers


async def begin(api: Api, org_codes: list[str]) -> Snapshot:
    """Begins a registration; once, however often it is sent."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return await ask(api, Snapshot, "POST", "/v1/registrations", json={"providers": org_codes}, headers=headers)


async def snapshot(api: Api, registration_id: str) -> Snapshot:
    return await ask(api, Snapshot, "GET", f"/v1/registrations/{registration_id}")


async def assets(api: Api) -> list[Shown]:
    """Everything that the user has, page by page."""
    found: list[Shown] = []
    asked = {"limit": "500"}
    while True:
        page = await ask(api, AssetPage, "GET", "/v1/assets", params=asked)
        found += page.assets
        if page.next_page_token is None:
            return found
        asked["page_token"] = page.next_page_token


async def ask(api: Api, kind: type[T], method: str, path: str, **more: Any) -> T:
    """One request and its answer. Raises `NoAnswer` or `Refusal` with one plain line."""
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            answer = await api.http.request(method, path, timeout=SECONDS, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            if last or isinstance(exc, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.InvalidURL):
                raise NoAnswer(f"nothing answers at {api.url}; is `moa up` running there?") from exc
            continue
        if answer.is_success:
            return _read(answer, kind)
        if last or answer.status_code < 500:
            raise _refusal(answer)
    raise AssertionError


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as exc:
        raise NoAnswer("what answers there is not this API") from exc


def _refusal(answer: httpx.Response) -> MoaError:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return NoAnswer(f"what answers there is not this API (HTTP {answer.status_code})")
    problem = _read(answer, Problem)
    faults = ", ".join(f"{fault.field}: {fault.message}" for fault in problem.errors[:3])
    return Refusal(problem.detail + (f" ({faults})" if faults else ""))
