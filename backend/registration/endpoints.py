"""The HTTP side of registrations: providers, registrations, assets. Each endpoint checks, asks, answers; rules live elsewhere.

In: requests with a token of scope `user`. Out: the contract's JSON. A GET reads the feed's position before the data, so that whoever
follows the feed from there misses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.errors import Problem, Refused
from backend.events import Availability, Industry, Position, to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.directory import Directory
from backend.registration.accepting import ACCEPTED, Accepting, Answer
from backend.registration.handling import Handling
from backend.registration.rows import restored
from backend.registration.views import etag, registration_view
from backend.storage import assets, registrations
from backend.storage.database import Database
from backend.web import (
    idempotency_key,
    json_answer,
    limit_of,
    malformed,
    page_token,
    page_token_parts,
    read_json,
    request_id,
    with_position,
)

_ID = re.compile(r"reg_[0-9A-HJKMNP-TV-Z]{26}")  # reg_ + ULID
ORG_CODE = re.compile(r"[A-Za-z0-9]{10}")

log = structlog.get_logger()

OrgCode = Annotated[str, Meta(min_length=1, max_length=64)]


class NewRegistration(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/registrations`. Bounds beyond the contract's 100 keep a hostile body cheap to refuse."""

    providers: Annotated[list[OrgCode], Meta(max_length=10_000)]


@dataclass(frozen=True, kw_only=True)
class RegistrationEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    accepting: Accepting
    handling: Handling
    database: Database
    directory: Callable[[], Directory]
    status_of: Callable[[str], Availability]  # of a provider by its org_code; asks nobody
    position: Callable[[str], Awaitable[Position]]
    max_body: int  # bytes

    def routes(self) -> list[Route]:
        one = "/v1/registrations/{id}"
        return [
            Route("/v1/providers", self.providers, methods=["GET"]),
            Route("/v1/registrations", self.begin, methods=["POST"]),
            Route("/v1/registrations", self.listing, methods=["GET"]),
            Route(one, self.registration, methods=["GET"]),
            Route(one, self.cancel, methods=["DELETE"]),
            Route(one + "/retry", self.retry, methods=["POST"]),
            Route("/v1/assets", self.assets, methods=["GET"]),
        ]

    async def providers(self, request: Request) -> Response:
        await self._caller(request)
        rows = [
            {
                "org_code": provider.org_code,
                "name": provider.name,
                "industry": provider.industry,
                "status": self.status_of(provider.org_code),
            }
            for provider in self.directory().providers
        ]
        return json_answer(to_json({"providers": rows}))

    async def begin(self, request: Request) -> Response:
        caller = await self._caller(request)
        key = idempotency_key(request)
        body = await read_json(request, NewRegistration, limit=self.max_body)
        answer = await self.accepting.begin(caller, tuple(body.providers), key=key, request_id=request_id(request))
        name = answer.location.rpartition("/")[2]
        log.info("registration.accepted", registration_id=name, providers=len(body.providers), replayed=answer.replayed)
        return _accepted(answer)

    async def retry(self, request: Request) -> Response:
        caller = await self._caller(request)
        return _accepted(await self.accepting.retry(caller, _registration_id(request), request_id=request_id(request)))

    async def cancel(self, request: Request) -> Response:
        caller = await self._caller(request)
        return _accepted(await self.accepting.cancel(caller, _registration_id(request)))

    async def registration(self, request: Request) -> Response:
        caller = await self._caller(request)
        position = await self.position(caller.user_id)
        found = await self.handling.find(caller.user_id, _registration_id(request))
        if found is None:
            raise Refused(Problem.NOT_FOUND)
        tag = etag(found, self.directory())
        headers = {**with_position(position), "ETag": tag, "Cache-Control": "private, no-cache"}
        if {tag, "*"} & _tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return json_answer(to_json(registration_view(found, self.directory(), position)), headers=headers)

    async def listing(self, request: Request) -> Response:
        caller = await self._caller(request)
        limit = limit_of(request, default=20, most=100)
        before = page_token_parts(request, 1)
        position = await self.position(caller.user_id)
        async with self.database.reading() as connection:
            page = registrations.Page(limit + 1, before[0] if before else None)
            rows = await registrations.listed(connection, caller.user_id, page)
        views = [registration_view(restored(row), self.directory(), position) for row in rows[:limit]]
        more = {"next_page_token": page_token(views[-1].id)} if len(rows) > limit else {}
        return json_answer(to_json({"registrations": views, **more}), headers=with_position(position))

    async def assets(self, request: Request) -> Response:
        caller = await self._caller(request)
        limit = limit_of(request, default=100, most=500)
        after = page_token_parts(request, 2)
        query = assets.AssetQuery(
            limit=limit + 1,
            industry=_industry(request),
            org_code=_org_code(request),
            after=(after[0], after[1]) if after else None,
        )
        position = await self.position(caller.user_id)
        async with self.database.reading() as connection:
            found = await assets.listed(connection, caller.user_id, query)
        shown = found[:limit]
        more = {"next_page_token": page_token(shown[-1].org_code, shown[-1].id)} if len(found) > limit else {}
        return json_answer(to_json({"assets": shown, **more}), headers=with_position(position))

    async def _caller(self, request: Request) -> Identity:
        return await identify(request, self.verifier, scope="user")


def _accepted(answer: Answer) -> Response:
    replayed = {"Idempotent-Replayed": "true"} if answer.replayed else {}
    return json_answer(answer.body, status=ACCEPTED, headers={"Location": answer.location, **replayed})


def _registration_id(request: Request) -> str:
    """What is no id of ours cannot be found, and does not reach the database."""
    registration_id = str(request.path_params["id"])
    if not _ID.fullmatch(registration_id):
        raise Refused(Problem.NOT_FOUND)
    return registration_id


def _org_code(request: Request) -> str | None:
    org_code = request.query_params.get("org_code")
    if org_code is not None and not ORG_CODE.fullmatch(org_code):
        raise malformed("org_code", "10 letters or digits are needed")
    return org_code


def _industry(request: Request) -> str | None:
    industry = request.query_params.get("industry")
    if industry is not None and industry not in set(Industry):
        raise malformed("industry", "one of " + ", ".join(Industry))
    return industry


def _tags(header: str) -> set[str]:
    """RFC 9110, 13.1.2: weak comparison; `*` stands for whatever there is."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
