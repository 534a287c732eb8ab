"""The line to one institution: httpx as the interface, aiohttp underneath (decision 0004).

Out goes an `httpx.AsyncBaseTransport`: requests in, responses out, and nothing of what `httpx.AsyncClient` does around them (cookies,
redirects, authentication, proxies of the environment), since none of it is wanted and it costs as much as the call. It never holds more
than `max_connections`. Names that resolve into a private network are refused unless the entry allows it.
Here, and nowhere else, exceptions of httpx and aiohttp are read: `failure_of` turns them into a `Failure`. How long a request stood in
line for one of our own connections is told by `stood_in_line`: that is no time of the institution's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, ClientTimeout
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

from backend.providers.calling.names import Names
from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import is_public
from backend.providers.outcomes import Failure
from backend.providers.tls import context_of, serial_numbers

USER_AGENT = "moa"
KEEPALIVE_SECONDS = 15.0
DNS_SECONDS = 60
MAX_HEADERS = 64  # lines of an answer's head, beside the first
MAX_HEADER_BYTES = 8190  # of one of them

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}  # of every call


class ConnectionLost(Exception):
    """The connection ended before an answer began. `stale`: it was kept alive from an earlier call, and closed before this one came."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__("connection lost")
        self.stale = stale


class PrivateAddress(OSError):
    """A public entry of the directory led to an address that is not."""


class TlsEnded(aiohttp.ClientError):
    """TLS broke after the handshake as we see it: in 1.3 that is how a server refuses our certificate."""


class WrongPeer(aiohttp.ClientError):
    """Whoever answered there has a good certificate, and it is not the institution's."""


WIRE_ERRORS: tuple[type[Exception], ...] = (  # everything that a call may raise; `failure_of` reads it
    ConnectionLost,
    httpx.HTTPError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,
)


def open_wire(entry: Provider | CertificationAuthority) -> httpx.AsyncBaseTransport:
    """One institution's line. Connects at the first call; close it with `aclose()`. Deadlines are for `Transport.call`.

    Raises `TlsFault` for files that can no longer be used; the directory has looked at them when it was read.
    """
    tls = context_of(entry.tls)

    def session() -> ClientSession:
        names = Names()
        return ClientSession(
            connector=KnownPeers(
                entry.tls.peer_serial_number if entry.tls else None,
                limit=entry.max_connections,
                ssl=tls,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ttl_dns_cache=DNS_SECONDS,
                resolver=names if entry.allow_private else PublicResolver(names),
            ),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_never_twice,),
            trace_configs=[_traces()],
        )

    return AiohttpTransport(verify=tls, client=session)


def failure_of(exc: BaseException) -> Failure:
    """What an exception of the wire says."""
    causes = _causes(exc)
    for kinds, failure in _FAILURES:
        if any(isinstance(cause, kinds) for cause in causes):
            return failure
    return Failure.NOT_HTTP


def stood_in_line() -> float:
    """Seconds that this task's last request has waited for one of our connections to be free, before anything of it left."""
    line = _line.get()
    return line.waited + (0.0 if line.since is None else _now() - line.since)


class KnownPeers(aiohttp.TCPConnector):
    """Hands out connections to one peer only: a request is written to what `connect` returns, so none leaves before this look."""

    def __init__(self, serial_number: str | None, **options: Any) -> None:
        """`serial_number`: None: whoever has a good certificate."""
        super().__init__(**options)
        self._serial_number = serial_number
        self._good = b""  # the certificate that was found right the last time: to look again at a kept connection costs 0.5 us

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """Raises `WrongPeer`."""
        connection = await super().connect(req, traces, timeout)
        if self._serial_number is not None and not self._is_known(connection):
            connection.close()
            raise WrongPeer
        return connection

    def _is_known(self, connection: Connection) -> bool:
        tls = connection.transport.get_extra_info("ssl_object") if connection.transport else None
        if tls is None:
            return False
        certificate = tls.getpeercert(binary_form=True)
        if certificate != self._good:
            if serial_numbers(tls.getpeercert()) != [self._serial_number]:
                return False
            self._good = certificate
        return True


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
    ((WrongPeer,), Failure.PEER),
    ((ConnectionLost,), Failure.RESET),
    ((TlsEnded, aiohttp.ClientSSLError, ssl.SSLError), Failure.TLS),
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


@dataclass(slots=True)
class _Line:
    """One request's wait for a connection."""

    since: float | None = None  # it stands in line since then; None: it does not
    waited: float = 0.0


_reused: ContextVar[bool] = ContextVar("connection was kept alive", default=False)
_line: ContextVar[_Line] = ContextVar("wait for a connection", default=_Line())  # noqa: B039  # never written to: each request has its own


async def _never_twice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """aiohttp repeats a GET by itself, on fresh connections too. Whether a call is repeated is for `Transport` to say."""
    _reused.set(False)
    _line.set(_Line())
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        if isinstance(exc.__cause__, ssl.SSLError):
            raise TlsEnded from None  # the original one would be repeated
        untouched = isinstance(exc, aiohttp.ClientOSError) or isinstance(exc.message, str)  # else it holds half an answer
        raise ConnectionLost(stale=_reused.get() and untouched) from None


async def _connection_reused(_session: ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams) -> None:
    _reused.set(True)


async def _line_joined(_session: ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceConnectionQueuedStartParams) -> None:
    _line.get().since = _now()


async def _line_left(_session: ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceConnectionQueuedEndParams) -> None:
    line = _line.get()
    line.since, line.waited = None, stood_in_line()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _traces() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_connection_reused)
    trace.on_connection_queued_start.append(_line_joined)
    trace.on_connection_queued_end.append(_line_left)
    return trace
