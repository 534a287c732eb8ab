"""Every call to the CA and to a provider comes in here: logged, delayed, answered, delivered or not, as the behaviour of the moment says.

One ASGI endpoint for the whole sandbox beside its controls. The entry in the call log is made first. What an answer says is found by
`ca.py`, `granting.py` and `asking.py`; this module only decides who is asked and how it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from random import Random

from starlette.types import Receive, Scope, Send

from backend.clock import Clock
from backend.providers.contract import Provider
from backend.providers.outcomes import OAuthError
from backend.providers.sandbox.asking import DataApis, endpoint
from backend.providers.sandbox.ca import PATHS as CA_PATHS
from backend.providers.sandbox.ca import CertificationAuthority
from backend.providers.sandbox.calls import CLIENT_GONE, NO_ANSWER, Call, CallLog
from backend.providers.sandbox.delivering import LONGEST_HANG, Exchange, deliver
from backend.providers.sandbox.granting import Granting
from backend.providers.sandbox.latency import Latency
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.steering import Behaviour, CaMode, Mode, Steering
from backend.providers.sandbox.tokens import Tokens
from backend.providers.sandbox.wire import Answer, Refusal, Request, Rsp, refuse, says

_ORG_CODE = re.compile(r"/([A-Za-z0-9]{10})(/.*)")
_RETRY_AFTER = 2  # seconds


@dataclass(kw_only=True, eq=False)
class Front:
    """The ASGI endpoint."""

    options: SandboxOptions
    ca: CertificationAuthority
    served: dict[str, tuple[Granting, DataApis]]
    steering: Steering
    calls: CallLog
    tokens: Tokens
    clock: Clock
    random: Random
    _turn: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        org_code, below = self.ca.org_code, path
        if path not in CA_PATHS:
            found = _ORG_CODE.fullmatch(path)
            org_code, below = (found[1], found[2]) if found else ("", path)
        call = self.calls.arrived(self.clock.now().timestamp(), org_code, scope["method"], path)
        request = self._request(scope, below, call)
        exchange = Exchange(receive=receive, send=send, call=call, started=self.clock.monotonic())
        if org_code == self.ca.org_code:
            await self._at_ca(request, exchange)
        elif org_code in self.served:
            await self._at_provider(*self.served[org_code], request, exchange)
        else:
            await self._finish(exchange, request, says(Rsp.NO_ENDPOINT), Mode.OK)

    def _request(self, scope: Scope, path: str, call: Call) -> Request:
        headers = dict(scope["headers"])
        base_url = self.options.public_url or f"{scope['scheme']}://{headers.get(b'host', b'').decode('latin-1')}"
        query = scope["query_string"].decode("latin-1")
        request = Request(scope["method"], path, query, headers, base_url=base_url.rstrip("/"))
        call.tran_id, call.api_type = request.tran_id, request.api_type
        grant = self.tokens.read(request.bearer) if request.bearer else None
        call.user = request.user = grant.user or None if grant else None
        return request

    async def _at_ca(self, request: Request, exchange: Exchange) -> None:
        behaviour = self.steering.ca.at(self.clock.monotonic())
        if behaviour.mode in (CaMode.DOWN, CaMode.HANG):
            await self._say_nothing(exchange, hang=behaviour.mode is CaMode.HANG)
            return
        if not await self._take(request, exchange, behaviour.latency_ms):
            return
        try:
            answer = await self.ca.answer(request, behaviour)
        except Refusal as refusal:
            answer = refusal.answer
        await self._finish(exchange, request, answer, Mode.OK)

    async def _at_provider(self, granting: Granting, data: DataApis, request: Request, exchange: Exchange) -> None:
        behaviour = self.steering.providers[data.provider.org_code].at(self.clock.monotonic())
        exchange.call.api_code = _api_code(data.provider, request)
        if behaviour.mode in (Mode.DOWN, Mode.HANG):
            await self._say_nothing(exchange, hang=behaviour.mode is Mode.HANG)
            return
        if not await self._take(request, exchange, behaviour.effective_latency):
            return
        answer = self._instead(request, behaviour)
        if answer is None:
            try:
                answer = granting.answer(request) if request.is_oauth else data.answer(request, behaviour)
            except Refusal as refusal:
                answer = refusal.answer
        await self._finish(exchange, request, answer, behaviour.mode)

    async def _take(self, request: Request, exchange: Exchange, latency: Latency) -> bool:
        """Reads the body and lets the time pass that an answer takes. False: there is nobody to answer to."""
        body = await exchange.body(self.options.largest_body)
        if body is None:
            if exchange.is_abandoned:
                exchange.finish(CLIENT_GONE, self.clock.monotonic())
            else:
                await self._finish(exchange, request, refuse(Rsp.BAD_PARAMETER, "size").answer, Mode.OK)
            return False
        request.body = body
        delay = latency.draw(self.random)
        if delay > 0:
            await asyncio.sleep(delay)
        return True

    def _instead(self, request: Request, behaviour: Behaviour) -> Answer | None:
        """The answer of a provider that does not do what it is asked; None: it does."""
        mode = behaviour.mode
        if behaviour.error_rate and self.random.random() < behaviour.error_rate:
            mode = Mode.HTTP500
        match mode:
            case Mode.HTTP500 if request.is_oauth:
                return Answer(500, {"error": OAuthError.SERVER_ERROR.value, "error_description": "system failure"})
            case Mode.HTTP500:
                return says(Rsp.SYSTEM_FAILURE)
            case Mode.HTTP429:
                return says(Rsp.QUOTA, retry_after=_RETRY_AFTER)
            case Mode.MAINTENANCE if request.is_oauth:
                oauth = {"error": OAuthError.TEMPORARILY_UNAVAILABLE.value, "error_description": "maintenance"}
                return Answer(503, says(Rsp.MAINTENANCE).body | oauth, _RETRY_AFTER)
            case Mode.MAINTENANCE:
                return says(Rsp.MAINTENANCE)
            case Mode.OUT_OF_WINDOW if not request.is_oauth:
                return says(Rsp.OUT_OF_WINDOW)
            case Mode.TOKEN_EXPIRED if not request.is_oauth:
                return says(Rsp.INVALID_TOKEN)
        return None

    async def _say_nothing(self, exchange: Exchange, *, hang: bool) -> None:
        if hang:
            await exchange.gone(LONGEST_HANG)
        status = CLIENT_GONE if exchange.is_abandoned else NO_ANSWER
        if status == NO_ANSWER:
            await exchange.cut()
        exchange.finish(status, self.clock.monotonic())

    async def _finish(self, exchange: Exchange, request: Request, answer: Answer, mode: Mode) -> None:
        exchange.call.user = request.user
        if exchange.is_abandoned:
            exchange.finish(CLIENT_GONE, self.clock.monotonic())
            return
        self._turn += 1
        status = await deliver(exchange, request, answer, mode, self._turn)
        exchange.finish(status, self.clock.monotonic(), answer.rsp_code)


def _api_code(provider: Provider, request: Request) -> str | None:
    """For the call log; None: no data API."""
    with contextlib.suppress(Refusal):
        return endpoint(provider, request).code
    return None
