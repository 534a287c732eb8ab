"""Connections to PostgreSQL: the one constructor of engines, and the border where SQL trouble becomes ours.

In: a URL. Out: SQLAlchemy engines with bounded pools and deadlines. A connection that fails is `EngineUnavailable`; no driver's
exception travels inward.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import asyncpg
import orjson
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from backend import failpoints
from backend.errors import EngineUnavailable
from backend.failpoints import Failpoint

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 15.0
POOL_SECONDS = 5.0  # how long a request waits for a free connection before it is told to come back
_AGAIN = 3  # tries of a transaction that PostgreSQL asked us to repeat

_T = TypeVar("_T")

# SQLSTATE classes and codes that say "not now": connection exceptions, shutdown, too many connections, read-only, disk full.
_UNAVAILABLE = ("08", "57P", "53", "25006")
_REPEAT = ("40001", "40P01")  # serialization failure, deadlock: the same transaction can succeed at once


def open_engine(database_url: str, *, pool: int) -> AsyncEngine:
    """An engine over asyncpg with at most `pool` connections. Connects on first use."""
    return create_async_engine(
        _asyncpg_url(database_url),
        pool_size=pool,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_recycle=1800,
        hide_parameters=True,  # a failed statement is logged, and its values are somebody's
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": COMMAND_SECONDS,
            "server_settings": {"application_name": "moa", "idle_in_transaction_session_timeout": "30000", "timezone": "UTC"},
        },
    )


def _asyncpg_url(database_url: str) -> URL:
    url = make_url(database_url)
    return url.set(drivername="postgresql+asyncpg")


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns "PostgreSQL is away" into `EngineUnavailable`; faults of our own SQL stay what they are."""
    try:
        yield
    except (PoolTimeout, InterfaceError, OperationalError, OSError, TimeoutError, asyncpg.PostgresConnectionError) as exc:
        raise EngineUnavailable("PostgreSQL") from exc
    except DBAPIError as exc:
        if exc.connection_invalidated or _sqlstate(exc).startswith(_UNAVAILABLE):
            raise EngineUnavailable("PostgreSQL") from exc
        raise
    except asyncpg.PostgresError as exc:
        if (exc.sqlstate or "").startswith(_UNAVAILABLE):
            raise EngineUnavailable("PostgreSQL") from exc
        raise


def _sqlstate(exc: DBAPIError) -> str:
    return getattr(exc.orig, "sqlstate", None) or ""


class Database:
    """Reads and transactions. One per process, made in `services.py`."""

    def __init__(self, *, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads outside of a transaction of ours."""
        async with translated(), self._engine.connect() as connection:
            yield connection

    async def transaction(self, deed: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """Runs `deed` in one transaction and returns its value after the commit; repeats it when PostgreSQL asks for that.

        `deed` must have no effect outside of the transaction.
        """
        for last in (*(False,) * (_AGAIN - 1), True):
            try:
                async with translated(), self._engine.begin() as connection:
                    done = await deed(connection)
                    failpoints.reached(Failpoint.COMMIT_BEFORE)
                return done
            except DBAPIError as exc:
                if last or _sqlstate(exc) not in _REPEAT:
                    raise
        raise AssertionError("unreachable")

    async def ping(self) -> None:
        """Raises `EngineUnavailable` when PostgreSQL does not answer."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def warm(self) -> None:
        """Opens the pool's connections before they are needed: the first request is not to pay for all of them."""
        size = self._engine.pool.size()  # type: ignore[attr-defined]  # the queue pool's
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(stack.enter_async_context(self.reading()) for _ in range(size)))

    async def close(self) -> None:
        await self._engine.dispose()
