"""The one constructor of Valkey clients, and the one translation of their errors.

In: a URL (`redis://`, `rediss://`, `unix://`) and two bounds. Out: a client whose every wait ends.
Nothing connects here; the first command does. No URL is ever logged: it may hold a password.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from backend.errors import EngineUnavailable

HEALTH_CHECK_SECONDS = 15  # an idle connection is asked before it is trusted again
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a silent peer is noticed within a minute

# What a Valkey that is away, frozen, full or loading looks like to a caller.
VALKEY_AWAY = (RedisError, OSError)


def connect(url: str, *, timeout: float, pool: int) -> Redis:
    """A client with at most `pool` connections; a command, or the wait for a connection, fails after `timeout` seconds.

    Without these bounds a frozen server holds its callers for ever. Commands are never repeated silently: few of ours may be.
    Raises `ValueError` for a URL of another scheme.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": HEALTH_CHECK_SECONDS,
    }
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive_options()}
    if scheme == "rediss":
        options |= {"ssl_check_hostname": True}  # redis-py leaves it off
    return Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=pool, timeout=timeout, **options))


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
