"""The HTTP side of links: look at them, revoke and refresh them; and the end of all of them with their person.

In: requests with a token of scope `user`. Out: the contract's JSON. A GET reads the feed's position before the data.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.errors import Problem, Refused
from backend.events import Position, to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.links.forgetting import Forgetting
from backend.links.refreshes import Refreshes
from backend.links.unlinking import Links
from backend.registration.accepting import ACCEPTED
from backend.registration.endpoints import ORG_CODE, OrgCode
from backend.web import json_answer, read_json, request_id, with_position

_REFRESH_ID = re.compile(r"ref_[0-9A-HJKMNP-TV-Z]{26}")  # ref_ + ULID


class NewRefresh(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/refresh`. Without `providers`: everything that is linked."""

    providers: Annotated[list[OrgCode], Meta(max_length=10_000)] | None = None


@dataclass(frozen=True, kw_only=True)
class LinkEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    refreshes: Refreshes
    links: Links
    forgetting: Forgetting
    position: Callable[[str], Awaitable[Position]]
    max_body: int  # bytes

    def routes(self) -> list[Route]:
        return [
            Route("/v1/links", self.listing, methods=["GET"]),
            Route("/v1/links/{org_code}", self.revoke, methods=["DELETE"]),
            Route("/v1/me", self.forget, methods=["DELETE"]),
            Route("/v1/refresh", self.refresh, methods=["POST"]),
            Route("/v1/refresh/{id}", self.refreshed, methods=["GET"]),
        ]

    async def listing(self, request: Request) -> Response:
        caller = await self._caller(request)
        position = await self.position(caller.user_id)
        found = await self.links.listed(caller.user_id)
        return json_answer(to_json({"links": found}), headers=with_position(position))

    async def revoke(self, request: Request) -> Response:
        caller = await self._caller(request)
        org_code = str(request.path_params["org_code"])
        if not ORG_CODE.fullmatch(org_code):
            raise Refused(Problem.NOT_FOUND)
        return json_answer(to_json(await self.links.revoke(caller.user_id, org_code)), status=ACCEPTED)

    async def forget(self, request: Request) -> Response:
        caller = await self._caller(request)
        await self.forgetting.forget(caller.user_id)
        return Response(status_code=ACCEPTED)

    async def refresh(self, request: Request) -> Response:
        caller = await self._caller(request)
        body = await self._asked(request)
        chosen = tuple(body.providers) if body.providers is not None else None
        view = await self.refreshes.begin(caller.user_id, chosen, request_id=request_id(request))
        return json_answer(to_json(view), status=ACCEPTED, headers={"Location": f"/v1/refresh/{view.refresh_id}"})

    async def refreshed(self, request: Request) -> Response:
        caller = await self._caller(request)
        name = str(request.path_params["id"])
        if not _REFRESH_ID.fullmatch(name):
            raise Refused(Problem.NOT_FOUND)
        view = await self.refreshes.find(caller.user_id, name)
        return json_answer(to_json(view), headers=with_position(view.position))

    async def _asked(self, request: Request) -> NewRefresh:
        """No body at all asks for everything, as `{}` does."""
        empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
        if empty and "content-type" not in request.headers:
            return NewRefresh()
        return await read_json(request, NewRefresh, limit=self.max_body)

    async def _caller(self, request: Request) -> Identity:
        return await identify(request, self.verifier, scope="user")
