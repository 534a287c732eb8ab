"""What the tests of a transport call, and the line that they call over: a transport, and a server that misbehaves as it is told to."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from backend.errors import ProviderError, Trouble
from backend.providers.calling.transport import Transport
from backend.providers.calling.wire import open_wire
from backend.providers.calls import Call, Scope
from backend.providers.contract import ApiType
from backend.providers.payloads import Envelope, reader
from tests.providers.given import BANK, provider, transport
from tests.providers.rogue import Behaviour, Rogue, rogue

READ: Call[Envelope] = Call(
    api_code="BA01",
    scope=Scope.READ,
    method="GET",
    path="/v1/bank/accounts",
    read=reader(Envelope),
    query={"org_code": BANK, "next_page": "a&b=c"},
    token="secret-token",
    api_type=ApiType.USER_CONSENT,
    repeatable=True,
)


POST = replace(READ, api_code="BA03", method="POST", query={}, body=b'{"account_num":"110123456789"}')


@dataclass
class Line:
    """A transport and the server at its other end."""

    transport: Transport
    server: Rogue


@asynccontextmanager
async def line(behaviour: Behaviour, *, connections: int = 10, **more: Any) -> AsyncIterator[Line]:
    async with rogue(behaviour) as server, open_wire(provider(server.url, max_connections=connections)) as wire:
        yield Line(transport(wire, server.url, **more), server)


async def trouble(behaviour: Behaviour, call: Call[Any] = READ, **more: Any) -> tuple[Trouble, str]:
    """What one call to such a server becomes."""
    async with line(behaviour, **more) as each:
        with pytest.raises(ProviderError) as caught:
            await each.transport.call(call)
        printed = "".join(traceback.format_exception(caught.value))
        assert "During handling" not in printed  # causes quote URLs and bytes
        assert "direct cause" not in printed
        return caught.value.TROUBLE, caught.value.reason


def tran_id_of(request: bytes) -> bytes:
    return next(entry for entry in request.lower().split(b"\r\n") if entry.startswith(b"x-api-tran-id"))


FIRST = replace(READ, query={"first": "1"})
