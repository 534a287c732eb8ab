"""The line to one institution: httpx as the interface, aiohttp underneath (decision 0004).

Out goes an `httpx.AsyncBaseTransport`: requests in, responses out, and nothing of what `httpx.AsyncClient` does around them (cookies,
redirects, authentication, proxies of the environment), since none of it is wanted and it costs as much as the call. It never holds more
than `max_connections`. Names that resolve into a private network are refused unless the entry allows it.
Here, and nowhere else, exceptions of httpx and aiohttp are read: `failure_of` turns them into a `Failure`.
"""

from __future__ import annotations

import socket
import ssl
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace

import aiohttp
import httpx
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import is_public
from backend.providers.outcomes import Failure

USER_AGENT = "moa"
KEEPALIVE_SECONDS = 15.0
DNS_SECONDS = 60

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}  # of every call


class ConnectionLost(Exception):
    """The connection ended before an answer began. `stale`: it was kept alive from an earlier call, and closed before this one came."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__("connection lost")
        self.stale = stale


class PrivateAddress(OSError):
    """A public entry of the directory led to an address that is not."""


WIRE_ERRORS: tuple[type[Exception], ...] = (  # everything that a call may raise; `failure_of` reads it
    ConnectionLost,
    httpx.HTTPError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,
)


def open_wire(entry: Provider | CertificationAuthority) -> httpx.AsyncBaseTransport:
    """One institution's line. Connects at the first call; close it with `aclose()`. Deadlines are for `Transport.call`."""
    tls = _tls()

    def session() -> ClientSession:
        names = aiohttp.ThreadedResolver()
        return ClientSession(
            connector=aiohttp.TCPConnector(
                limit=entry.max_connections,
                ssl=tls,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ttl_dns_cache=DNS_SECONDS,
                resolver=names if entry.allow_private else PublicResolver(names),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_never_twice,),
            trace_configs=[_reuse_trace()],
        )

    return AiohttpTransport(verify=tls, client=session)


def failure_of(exc: BaseException) -> Failure:
    """What an exception of the wire says."""
    causes = _causes(exc)
    for kinds, failure in _FAILURES:
        if any(isinstance(cause, kinds) for cause in causes):
            return failure
    return Failure.NOT_HTTP


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only: a name that leads inside our own network is not called."""

    def __init__(self, names: AbstractResolver) -> None:
        self._resolver = names

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises `PrivateAddress`."""
        found = await self._resolver.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise PrivateAddress
        return found

    async def close(self) -> None:
        await self._resolver.close()


_FAILURES: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    ((PrivateAddress,), Failure.ADDRESS),
    ((ConnectionLost,), Failure.RESET),
    ((aiohttp.ClientSSLError, ssl.SSLError), Failure.TLS),
    ((aiohttp.ServerTimeoutError, TimeoutError), Failure.DEADLINE),
    ((aiohttp.ClientPayloadError,), Failure.TRUNCATED),
    ((aiohttp.ClientConnectorError,), Failure.CONNECT),
    ((aiohttp.ClientConnectionError, ConnectionError), Failure.RESET),
    ((aiohttp.ClientResponseError,), Failure.NOT_HTTP),
    ((OSError,), Failure.CONNECT),
)


def _causes(exc: BaseException) -> list[BaseException]:
    """With its causes: httpx-aiohttp calls a lost connection a connect timeout, the cause knows better."""
    causes = [exc]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 10:
        causes.append(cause)
    return causes


_reused: ContextVar[bool] = ContextVar("connection was kept alive", default=False)


async def _never_twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """aiohttp repeats a GET by itself, on fresh connections too. Whether a call is repeated is for `Transport` to say."""
    _reused.set(False)
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        untouched = isinstance(exc, aiohttp.ClientOSError) or isinstance(exc.message, str)  # else it holds half an answer
        raise ConnectionLost(stale=_reused.get() and untouched) from None


async def _connection_reused(_session: ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams) -> None:
    _reused.set(True)


def _reuse_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_connection_reused)
    return trace


@cache
def _tls() -> ssl.SSLContext:
    """TLS 1.3 against the public authorities (standard, section 1); reading them takes 20 ms, so once for all."""
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
