"""The batch over HTTP, for operators: how it goes, why it was planned so, hold it, let it go on, rehearse it.

In: requests with a token of scope `ops`. Out: the contract's JSON. Who said what is noted with it. Links are named by number; no person is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import structlog
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.batch.steering import Steering, Word
from backend.clock import iso
from backend.errors import Problem, Refused
from backend.events import to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.directory import Directory
from backend.web import Words, json_answer, read_json, request_id

PATH = "/ops/batch"
SHORTEST, LONGEST = 60, 24 * 3600  # seconds of a rehearsal

log = structlog.get_logger(__name__)

OrgCode = Annotated[str, Meta(pattern="^[A-Za-z0-9]{10}$")]


class Whom(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /ops/batch/pause` and `resume`."""

    org_code: OrgCode | None = None  # None: all
    reason: Words = ""


class Run(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /ops/batch/run`."""

    within_seconds: Annotated[int, Meta(ge=SHORTEST, le=LONGEST)] = 180
    org_code: OrgCode | None = None  # None: all
    reason: Words = ""


@dataclass(frozen=True, kw_only=True)
class BatchEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    steering: Steering
    directory: Callable[[], Directory]
    max_body: int  # bytes

    def routes(self) -> list[Route]:
        return [
            Route(PATH, self.status, methods=["GET"]),
            Route(PATH + "/plan", self.plan, methods=["GET"]),
            Route(PATH + "/pause", self.pause, methods=["POST"]),
            Route(PATH + "/resume", self.resume, methods=["POST"]),
            Route(PATH + "/run", self.run, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        await self._operator(request)
        return json_answer(to_json(await self.steering.status()))

    async def plan(self, request: Request) -> Response:
        await self._operator(request)
        return json_answer(to_json(await self.steering.plan()))

    async def pause(self, request: Request) -> Response:
        word = await self._word(request, await self._operator(request))
        return _held(word, held=await self.steering.pause(word))

    async def resume(self, request: Request) -> Response:
        word = await self._word(request, await self._operator(request))
        return _held(word, held=await self.steering.resume(word))

    async def run(self, request: Request) -> Response:
        operator = await self._operator(request)
        asked = await read_json(request, Run, limit=self.max_body)
        word = self._said(request, operator, asked.org_code, asked.reason)
        opened = await self.steering.rehearse(word, timedelta(seconds=asked.within_seconds))
        log.info("batch.rehearsed", org_code=word.org_code, within_seconds=asked.within_seconds)
        providers = [
            {"org_code": org_code, "ends": iso(ends), "replaced": org_code in opened.replaced} for org_code, ends in opened.ends.items()
        ]
        return json_answer(to_json({"begins": iso(opened.begins), "providers": providers}), status=202)

    async def _word(self, request: Request, operator: Identity) -> Word:
        """An empty body is about everybody."""
        empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
        whom = Whom() if empty else await read_json(request, Whom, limit=self.max_body)
        return self._said(request, operator, whom.org_code, whom.reason)

    def _said(self, request: Request, operator: Identity, org_code: str | None, reason: str) -> Word:
        if org_code is not None and self.directory().provider(org_code) is None:
            raise Refused(Problem.UNKNOWN_PROVIDER)
        return Word(who=operator.user_id, request_id=request_id(request), org_code=org_code, reason=reason.strip())

    async def _operator(self, request: Request) -> Identity:
        return await identify(request, self.verifier, scope="ops")


def _held(word: Word, *, held: bool) -> Response:
    log.info("batch.held" if held else "batch.goes_on", org_code=word.org_code)
    return json_answer(to_json({**({"org_code": word.org_code} if word.org_code else {}), "paused": held}))
