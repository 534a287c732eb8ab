"""Circuits over HTTP, for operators: look at them, force them, leave them to the coordinator again, and look back.

In: requests with a token of scope `ops`. Out: the contract's JSON. A mode is answered as soon as it is committed, whether or not Valkey and
a coordinator are there to put it in force; looking needs Valkey, and says so when it is away.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
import structlog
from msgspec import Meta, Struct
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.clock import iso
from backend.coordinator.breakers import breakers
from backend.coordinator.figures import Figures
from backend.coordinator.modes import Modes
from backend.coordinator.standing import Standing
from backend.coordinator.stream import ModesChanged, Stream
from backend.errors import EngineUnavailable, Problem, Refused
from backend.events import to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.circuits import Circuit, Mode
from backend.providers.directory import Directory
from backend.storage.decisions import Change
from backend.storage.operators import Action
from backend.web import Words, json_answer, limit_of, malformed, read_json, request_id

PATH = "/ops/breakers"
MOST_SHOWN = 1000  # actions, and decisions, of one answer
HURRY_SECONDS = 2.0  # for a word that only saves time

_ORG_CODE = re.compile(r"[A-Za-z0-9]{10}")

log = structlog.get_logger()


class NewMode(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /ops/breakers/{org_code}`."""

    mode: Mode
    reason: Annotated[Words, Meta(min_length=1)]


class Standings(Protocol):
    """Where the leading coordinator keeps how circuits stand."""

    async def standings(self) -> Sequence[Standing]:
        """All that are stored. Raises `EngineUnavailable`."""
        ...


@dataclass(frozen=True, kw_only=True)
class BreakerEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    modes: Modes
    standings: Standings
    figures: Callable[[], Awaitable[Mapping[Circuit, Figures]]]
    stream: Stream
    directory: Callable[[], Directory]
    began: datetime  # of this process
    max_body: int  # bytes

    def routes(self) -> list[Route]:
        return [
            Route(PATH, self.listing, methods=["GET"]),
            Route(PATH + "/history", self.history, methods=["GET"]),
            Route(PATH + "/{org_code}", self.set_mode, methods=["PUT"]),
        ]

    async def listing(self, request: Request) -> Response:
        await self._operator(request)
        standings = {standing.circuit: standing for standing in await self.standings.standings()}
        shown = breakers(self.directory(), standings, await self._set_modes(), await self.figures(), began=self.began)
        return json_answer(to_json({"breakers": shown}))

    async def set_mode(self, request: Request) -> Response:
        operator = await self._operator(request)
        org_code = str(request.path_params["org_code"])
        if not self._is_known(org_code):
            raise Refused(Problem.NOT_FOUND, "There is no such institution in the directory.")
        wanted = await read_json(request, NewMode, limit=self.max_body)
        reason = wanted.reason.strip()
        if not reason:
            raise Refused(Problem.VALIDATION_FAILED, errors=({"field": "reason", "message": "say why"},))
        done = await self.modes.set(org_code, wanted.mode, reason, who=operator.user_id, request_id=request_id(request))
        log.info("breaker.mode_set", org_code=org_code, mode=wanted.mode.value)
        shown = {"org_code": org_code, "mode": wanted.mode, "reason": reason, "set_by": done.who, "set_at": iso(done.at)}
        answer = json_answer(to_json(shown))
        answer.background = BackgroundTask(self._hurry)
        return answer

    async def history(self, request: Request) -> Response:
        await self._operator(request)
        org_code = request.query_params.get("org_code")
        if org_code is not None and not _ORG_CODE.fullmatch(org_code):
            raise malformed("org_code", "10 letters or digits are needed")
        limit = limit_of(request, default=100, most=MOST_SHOWN)
        done, decided = await self.modes.history(org_code=org_code, limit=limit)
        shown = {"actions": [_dated(each) for each in done], "decisions": [_dated(each) for each in decided]}
        return json_answer(to_json(shown))

    async def _set_modes(self) -> Mapping[str, tuple[Mode, str]] | None:
        """What operators set; None while PostgreSQL is away, which is no reason to show nothing."""
        try:
            return await self.modes.modes()
        except EngineUnavailable:
            return None

    async def _hurry(self) -> None:
        """The leader looks again and again; told so, it looks at once."""
        with suppress(EngineUnavailable, TimeoutError):
            async with asyncio.timeout(HURRY_SECONDS):
                await self.stream.append(ModesChanged())

    def _is_known(self, org_code: str) -> bool:
        directory = self.directory()
        return directory.provider(org_code) is not None or org_code == directory.ca.org_code

    async def _operator(self, request: Request) -> Identity:
        return await identify(request, self.verifier, scope="ops")


def _dated(row: Action | Change) -> dict[str, Any]:
    """As operators see it."""
    return {**msgspec.structs.asdict(row), "at": iso(row.at)}
