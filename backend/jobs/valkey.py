"""The one constructor of Valkey clients, and the one translation of their errors.

In: a URL (`redis://`, `rediss://`, `unix://`) and two bounds. Out: a client whose every wait ends.
Nothing connects here; the first command does. No URL is ever logged: it may hold a password.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.exceptions import ReadOnlyError, RedisError

from backend.errors import EngineUnavailable

HEALTH_CHECK_SECONDS = 15  # an idle connection is asked before it is trusted again
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a silent peer is noticed within a minute

# What a Valkey that is away, frozen, full or loading looks like to a caller.
VALKEY_AWAY = (RedisError, OSError)


class _Careful(AbstractConnection):
    """Sends without `asyncio.wait_for`: before Python 3.12 it may swallow a cancellation, and so any deadline around a command.

    Leaves a server that has become a replica: its address may have another by now, and the connection would refuse every write for ever.
    """

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:  # its pool connects; redis-py would do it here, too, when the pool has been let go of
            raise redis.exceptions.ConnectionError("Connection was closed")
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        pieces = [command.encode() if isinstance(command, str) else command] if isinstance(command, str | bytes) else command
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(pieces)
        except BaseException as exc:
            await self.disconnect(nowait=True)  # half a command may have been sent
            if isinstance(exc, TimeoutError):
                raise redis.exceptions.TimeoutError("Timeout writing to socket") from None
            if isinstance(exc, OSError):
                raise redis.exceptions.ConnectionError(f"Error while writing to socket: {type(exc).__name__}") from exc
            raise


class _Tcp(_Careful, Connection):
    pass


class _Tls(_Careful, SSLConnection):
    pass


class _Unix(_Careful, UnixDomainSocketConnection):
    pass


class _Pool(BlockingConnectionPool):
    """Once closed it stays so. redis-py would connect again for a command that comes late, and nobody would close that."""

    closed = False

    async def disconnect(self, inuse_connections: bool = True) -> None:
        self.closed = True
        await super().disconnect(inuse_connections)

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        if not self.closed:
            await super().ensure_connection(connection)
        if self.closed:  # perhaps while it connected
            await connection.disconnect(nowait=True)
            await asyncio.sleep(0)  # who tries again at once can be cancelled
            raise redis.exceptions.ConnectionError("Client was closed")


CONNECTIONS: dict[str, type[AbstractConnection]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


def connect(url: str, *, timeout: float, pool: int) -> Redis:
    """A client with at most `pool` connections; a command, or the wait for a connection, fails after `timeout` seconds.

    Without these bounds a frozen server holds its callers for ever. Commands are never repeated silently: few of ours may be.
    What the URL's query says (`?db=1&ssl_ca_certs=…`) goes first. Raises `ValueError` for a URL of another scheme.
    """
    options: dict[str, Any] = {
        "max_connections": pool,
        "timeout": timeout,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": HEALTH_CHECK_SECONDS,
    }
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive_options()}
    if scheme == "rediss":
        options |= {"ssl_check_hostname": True}  # redis-py leaves it off
    options |= parse_url(url) | {"connection_class": CONNECTIONS.get(scheme)}
    return Redis.from_pool(_Pool(**options))


def _keepalive_options() -> dict[int, int]:
    """macOS lacks one of the three names."""
    return {getattr(socket, name): value for name, value in KEEPALIVE.items() if hasattr(socket, name)}


@contextmanager
def engine_errors() -> Iterator[None]:
    """Translates at the border: whatever redis-py raises inside becomes `EngineUnavailable("Valkey")`."""
    try:
        yield
    except VALKEY_AWAY as exc:
        raise EngineUnavailable("Valkey") from exc
