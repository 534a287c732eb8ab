"""The one place that calls receivers: `Poster.post`.

In: a URL, headers, a body. Out: the answer's status, or a `NoAnswer`; nothing raises but cancellation. Each call has a total deadline,
goes only where `Reach` allows (judged at the socket, after names were resolved), follows no redirect, keeps no cookie, and reads nothing of
the answer's body. Names are resolved in threads of its own: a dead name server of a receiver does not hold up the providers'.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from aiohttp.connector import AddrInfoType
from httpx_aiohttp import AiohttpTransport

from backend.providers.calling.names import Names
from backend.webhooks.addresses import Reach, fault_of, may_connect
from backend.webhooks.retrying import NoAnswer, outcome_of

USER_AGENT = "moa-webhooks"
RESOLVER_THREADS = 4
KEEPALIVE_SECONDS = 15.0


class Poster:
    """Connects at the first call; close it with `aclose()`. `connections`: at most so many at once, over all receivers."""

    def __init__(self, *, reach: Reach, deadline: float, connections: int, count: Callable[[str], None] = lambda _: None) -> None:
        """`count`: hears the outcome of each call."""
        self._count = count
        self.reach = reach
        self._deadline = deadline
        self._names = Names(RESOLVER_THREADS)
        tls = httpx.create_ssl_context(trust_env=False)

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(
                limit=connections, ssl=tls, keepalive_timeout=KEEPALIVE_SECONDS, resolver=self._names, socket_factory=self._socket
            )
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(verify=tls, client=session),
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,  # noqa: S113  # httpx's are per operation; `post` has a total one
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int | NoAnswer:
        """The status of the answer."""
        answer = await self._answer(url, headers, body)
        self._count(outcome_of(answer))
        return answer

    async def _answer(self, url: str, headers: Mapping[str, str], body: bytes) -> int | NoAnswer:
        if fault_of(url, self.reach) is not None:
            return NoAnswer.ADDRESS
        try:
            async with asyncio.timeout(self._deadline):
                request = self._client.build_request("POST", url, headers={**headers, "Content-Type": "application/json"}, content=body)
                response = await self._client.send(request, stream=True)
                await response.aclose()
                return response.status_code
        except TimeoutError:
            return NoAnswer.DEADLINE
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as exc:
            return _reason(exc)

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._names.close()

    def _socket(self, to: AddrInfoType) -> socket.socket:
        """Every connection passes here with the address that it goes to, whatever its name was."""
        family, kind, protocol, _, address = to
        if not may_connect(str(address[0]), self.reach):
            raise _NotAllowed
        return socket.socket(family, kind, protocol)


class _NotAllowed(OSError):
    """A name led to an address that may not be called."""

    def __init__(self) -> None:
        super().__init__("address not allowed")


def _reason(exc: BaseException) -> NoAnswer:
    """The innermost cause knows best; none of their words is kept, since they quote addresses."""
    causes: list[BaseException | None] = [exc]
    while causes[-1] is not None and len(causes) < 10:
        causes.append(causes[-1].__cause__ or getattr(causes[-1], "os_error", None))
    for kinds, reason in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return reason
    return NoAnswer.BROKEN


_REASONS: tuple[tuple[tuple[type[BaseException], ...], NoAnswer], ...] = (
    ((_NotAllowed,), NoAnswer.ADDRESS),
    ((aiohttp.ClientSSLError, ssl.SSLError), NoAnswer.TLS),
    ((aiohttp.ServerTimeoutError,), NoAnswer.DEADLINE),
    ((aiohttp.ClientConnectorError, socket.gaierror, ConnectionRefusedError), NoAnswer.CONNECT),
)
