"""Connections to PostgreSQL: the one pool of a process, and the border where SQL trouble becomes ours.

In: a URL. Out: reads and transactions on asyncpg connections, within bounds and deadlines. PostgreSQL away is `EngineUnavailable`; no
other exception of the driver travels inward. Statements are written once, as values (`statements.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import asyncpg
import orjson
import structlog
from asyncpg.pool import PoolConnectionProxy

from backend import failpoints
from backend.errors import EngineUnavailable
from backend.failpoints import Failpoint
from backend.metrics import Metric, Sample, Samples
from backend.storage.statements import Connection, statement

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 15.0
POOL_SECONDS = 5.0  # how long a request waits for a free connection before it is told to come back
CLOSE_SECONDS = 5.0
WARM_SECONDS = 2.0  # nobody is answered meanwhile
_AGAIN = 3  # tries of a transaction that PostgreSQL asked us to repeat

_T = TypeVar("_T")

# SQLSTATE classes and codes that say "not now": connection exceptions, shutdown, too many connections, read-only, disk full.
_UNAVAILABLE = ("08", "57P", "53", "25006")
# What the driver says of a connection that broke: the second when PostgreSQL died between two steps of its protocol.
_BROKEN = (asyncpg.InterfaceError, asyncpg.InternalClientError)
_REPEAT = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)  # the same transaction can succeed at once

_SESSION = {
    "application_name": "moa",
    "idle_in_transaction_session_timeout": "30000",
    # Who gave up a statement leaves its connection. Without this PostgreSQL goes on with it, waits for a lock as long as that takes, and
    # keeps a place of its `max_connections` that is in no pool: it looks each second whether we are there, and ends what none of us awaits.
    "client_connection_check_interval": "1000",
    "timezone": "UTC",
    "plan_cache_mode": "force_generic_plan",  # every statement goes by keys; to plan one anew costs more than to run it
    "jit": "off",
}
_PING = statement("SELECT 1")

log = structlog.get_logger()


class _PlainConnection(asyncpg.Connection):
    """Nobody here changes a session, so nothing is to be reset when a connection goes back into the pool: one round trip less."""

    def get_reset_query(self) -> str:
        return ""


async def _speak_json(connection: Connection) -> None:
    """jsonb in and out as Python values. Its binary form is a version byte and the text."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda stored: orjson.loads(stored[1:]),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turns "PostgreSQL is away" into `EngineUnavailable`; faults of our own SQL stay what they are."""
    try:
        yield
    except asyncpg.DataError as exc:  # a value that does not fit; the message quotes it, and it is somebody's
        raise ValueError(str(exc).partition(":")[0]) from None
    except (*_BROKEN, OSError, TimeoutError) as exc:
        raise EngineUnavailable("PostgreSQL") from exc
    except asyncpg.PostgresError as exc:
        if (exc.sqlstate or "").startswith(_UNAVAILABLE):
            raise EngineUnavailable("PostgreSQL") from exc
        raise


def _about_to_commit() -> None:
    failpoints.reached(Failpoint.COMMIT_BEFORE)


class Database:
    """Reads and transactions. One per process, made in `services.py`; connects on first use."""

    def __init__(self, database_url: str, *, pool: int) -> None:
        """`pool`: the most connections it holds."""
        self._url = database_url
        self._size = pool
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._returning: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection for reads outside of a transaction of ours."""
        with translated():
            pool = self._pool or await self._opened()
            # With a time limit the pool takes a task of its own for each; there is nothing to wait for if one is free.
            connection = await pool.acquire(timeout=None if pool.get_idle_size() else POOL_SECONDS)
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError, *_BROKEN):
                with suppress(asyncpg.InterfaceError):  # it has ended already; that is no reason to lose a cancellation
                    connection.terminate()  # whatever it still does is of no use, and may never end
                raise
            finally:
                self._give_back(pool, connection)

    async def transaction(self, deed: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Runs `deed` in one transaction and returns its value after the commit; repeats it when PostgreSQL asks for that.

        `deed` must have no effect outside of the transaction.
        """

        async def whole(connection: Connection) -> _T:
            transaction = connection.transaction()  # as a context manager it would also roll back when nobody may answer any more
            await transaction.start()
            try:
                done = await deed(connection)
                _about_to_commit()
            except (TimeoutError, *_BROKEN):  # like a cancellation: the connection ends, and so does what it began
                raise
            except Exception:
                await transaction.rollback()
                raise
            await transaction.commit()
            return done

        return await self._repeated(whole)

    async def single(self, deed: Callable[[Connection], Awaitable[_T]]) -> _T:
        """The same for a deed of one statement, which is a transaction by itself and needs no more than its own round trip."""

        async def alone(connection: Connection) -> _T:
            _about_to_commit()
            return await deed(connection)

        return await self._repeated(alone)

    async def _repeated(self, deed: Callable[[Connection], Awaitable[_T]]) -> _T:
        for last in (*(False,) * (_AGAIN - 1), True):
            try:
                async with self.reading() as connection:
                    return await deed(connection)
            except _REPEAT:
                if last:
                    raise
        raise AssertionError("unreachable")

    def _give_back(self, pool: asyncpg.Pool, connection: PoolConnectionProxy) -> None:
        """Nobody waits for it: what was asked has been answered."""
        task = asyncio.create_task(pool.release(connection))
        self._returning.add(task)
        task.add_done_callback(self._given_back)

    def _given_back(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:  # the pool has dropped the connection
            log.info("database.connection_lost", error=type(exc).__name__)

    async def ping(self) -> None:
        """Raises `EngineUnavailable` when PostgreSQL does not answer."""
        async with self.reading() as connection:
            await _PING.value(connection)

    def measured(self) -> Samples:
        """The pool of this process."""
        opened, idle = (self._pool.get_size(), self._pool.get_idle_size()) if self._pool is not None else (0, 0)
        yield Sample(Metric.DATABASE_CONNECTIONS, ("used",), opened - idle)
        yield Sample(Metric.DATABASE_CONNECTIONS, ("idle",), idle)
        yield Sample(Metric.DATABASE_LIMIT, (), self._size)

    async def warm(self) -> None:
        """Opens the pool's connections before they are needed: the first request is not to pay for all of them.

        Raises `EngineUnavailable`, at the latest after `WARM_SECONDS`. Those that are open stay so.
        """
        with translated():
            async with AsyncExitStack() as stack, asyncio.timeout(WARM_SECONDS):
                opening = (stack.enter_async_context(self.reading()) for _ in range(self._size))
                for opened in await asyncio.gather(*opening, return_exceptions=True):  # none may come in when the stack is left
                    if isinstance(opened, BaseException):
                        raise opened

    async def close(self) -> None:
        """Ends every connection, at the latest after `CLOSE_SECONDS`, whoever still uses one."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=0,
                    connection_class=_PlainConnection,
                    init=_speak_json,
                    timeout=CONNECT_SECONDS,
                    command_timeout=COMMAND_SECONDS,
                    server_settings=_SESSION,
                )
            return self._pool
