from __future__ import annotations

import ssl

import aiohttp
import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from backend.providers.calling.wire import ConnectionLost, PrivateAddress, PublicResolver, failure_of, open_wire
from backend.providers.outcomes import Failure
from tests.providers.given import provider
from tests.providers.rogue import rogue


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("exc", "failure"),
    [
        (ConnectionLost(stale=False), Failure.RESET),
        (caused(httpx.ConnectTimeout(""), aiohttp.ServerDisconnectedError()), Failure.RESET),
        (caused(httpx.ReadError(""), aiohttp.ClientPayloadError()), Failure.TRUNCATED),
        (caused(httpx.ReadError(""), caused(aiohttp.ClientPayloadError(), ConnectionResetError())), Failure.TRUNCATED),
        (caused(httpx.ConnectError(""), PrivateAddress()), Failure.ADDRESS),
        (ssl.SSLError(), Failure.TLS),
        (TimeoutError(), Failure.DEADLINE),
        (OSError(), Failure.CONNECT),
        (httpx.DecodingError(""), Failure.NOT_HTTP),
    ],
)
def test_the_cause_says_what_happened_not_the_wrapping(exc: Exception, failure: Failure) -> None:
    assert failure_of(exc) is failure


class Names(AbstractResolver):
    """A resolver that knows one answer."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=self._address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def test_a_public_name_that_leads_inside_is_refused() -> None:
    with pytest.raises(PrivateAddress):
        await PublicResolver(Names("10.0.0.7")).resolve("bank.example.com", 443)
    assert await PublicResolver(Names("8.8.8.8")).resolve("bank.example.com", 443)


async def test_a_public_entry_whose_name_is_local_is_not_called() -> None:
    async def behaviour(_talk: object) -> None:
        raise AssertionError

    async with rogue(behaviour) as server:
        port = server.url.rpartition(":")[2]
        entry = provider(f"http://localhost:{port}")
        public = type(entry)(**{name: getattr(entry, name) for name in entry.__struct_fields__} | {"allow_private": False})
        async with open_wire(public) as wire:
            with pytest.raises(httpx.HTTPError) as caught:
                await wire.handle_async_request(httpx.Request("GET", f"http://localhost:{port}/"))
    assert failure_of(caught.value) is Failure.ADDRESS
    assert server.connections == 0
