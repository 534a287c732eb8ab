"""The sandbox's controls under /sandbox: change behaviours, read the call log, reset. Changes are checked strictly.

In: JSON as `steering.py` describes it. Out: JSON, or a problem document (RFC 9457) that names the field. Never part of the standard.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backend.clock import Clock
from backend.errors import PROBLEMS, Problem
from backend.events import to_json
from backend.providers.contract import Provider
from backend.providers.sandbox.calls import CallLog
from backend.providers.sandbox.steering import CaChange, ProviderChange, Steering

_LARGEST_BODY = 64 * 1024
_CALLS_AT_ONCE = 2_000  # entries that are encoded before others get a turn
_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


@dataclass(kw_only=True, eq=False)
class Control:
    """The endpoints. `forget_calls` clears what providers remember about earlier calls."""

    providers: Mapping[str, Provider]
    steering: Steering
    calls: CallLog
    clock: Clock
    forget_calls: Callable[[], None]

    def routes(self) -> list[Route]:
        return [
            Route("/providers", self.list_providers, methods=["GET"]),
            Route("/providers/{org_code}", self.put_provider, methods=["PUT"]),
            Route("/ca", self.put_ca, methods=["PUT"]),
            Route("/calls", self.read_calls, methods=["GET"]),
            Route("/reset", self.reset, methods=["POST"]),
        ]

    async def list_providers(self, _: Request) -> Response:
        """How everybody behaves."""
        return _json({"ca": self._ca_view(), "providers": [self._view(org_code) for org_code in self.providers]})

    async def put_provider(self, request: Request) -> Response:
        """Changes a provider; answers with its behaviour."""
        org_code = request.path_params["org_code"]
        if org_code not in self.providers:
            return _problem(Problem.NOT_FOUND, "The sandbox has no provider with this org_code.")
        change = await _change(request, ProviderChange)
        if isinstance(change, Response):
            return change
        self.steering.providers[org_code].put(change, self.clock.monotonic())
        return _json(self._view(org_code))

    async def put_ca(self, request: Request) -> Response:
        """Changes the CA; answers with its behaviour."""
        change = await _change(request, CaChange)
        if isinstance(change, Response):
            return change
        self.steering.ca.put(change, self.clock.monotonic())
        return _json(self._ca_view())

    async def read_calls(self, request: Request) -> Response:
        """The call log, oldest first; `org_code` and `since` (Unix seconds, included) narrow it."""
        try:
            since = msgspec.json.decode(request.query_params.get("since") or "0", type=float)  # without nan and inf, which `float` takes
        except msgspec.DecodeError:
            return _problem(Problem.VALIDATION_FAILED, errors=[{"field": "since", "message": "Unix seconds"}])
        calls = self.calls.since(since, request.query_params.get("org_code") or None)

        async def written() -> AsyncIterator[bytes]:
            separator = b'{"calls":['
            while some := list(islice(calls, _CALLS_AT_ONCE)):
                yield separator + msgspec.json.encode(some)[1:-1]
                separator = b","
            yield b"]}" if separator == b"," else b'{"calls":[]}'

        return StreamingResponse(written(), media_type="application/json")

    async def reset(self, _: Request) -> Response:
        """Behaviours and the call log as at the start; people and tokens stay."""
        self.steering.reset()
        self.calls.clear()
        self.forget_calls()
        return Response(status_code=204)

    def _view(self, org_code: str) -> dict[str, Any]:
        steered, now, provider = self.steering.providers[org_code], self.clock.monotonic(), self.providers[org_code]
        behaviour = steered.at(now)
        return {
            "org_code": org_code,
            "name": provider.name,
            "industry": provider.industry,
            "mode": behaviour.mode,
            "latency_ms": behaviour.effective_latency,
            "error_rate": behaviour.error_rate,
            "enforce": sorted(behaviour.enforce),
            "for_s": steered.left(now),
        }

    def _ca_view(self) -> dict[str, Any]:
        now = self.clock.monotonic()
        return {**msgspec.to_builtins(self.steering.ca.at(now)), "for_s": self.steering.ca.left(now)}


def _json(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")


def _problem(problem: Problem, detail: str | None = None, errors: list[dict[str, str]] | None = None) -> Response:
    kind = PROBLEMS[problem]
    document: dict[str, Any] = {"type": "about:blank", "title": kind.title, "status": kind.status, "detail": detail or kind.detail}
    document |= {"code": problem} | ({"errors": errors} if errors else {})
    return Response(to_json(document), kind.status, media_type="application/problem+json")


async def _change(request: Request, shape: type[Any]) -> Any:
    """The change that a body asks for, or the problem document that says why it cannot be."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > _LARGEST_BODY:
            return _problem(Problem.BODY_TOO_LARGE)
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as exc:
        return _problem(Problem.VALIDATION_FAILED, errors=[_fault(str(exc))])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _problem(Problem.MALFORMED_JSON)


def _fault(message: str) -> dict[str, str]:
    """The field that a validation error names, and what is wrong with it."""
    path = [*_FIELD.findall(message), *_UNKNOWN_FIELD.findall(message)]
    return {"field": ".".join(filter(None, path)) or "body", "message": _FIELD.sub("", message)}
