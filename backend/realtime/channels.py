"""Pub/sub as the hub needs it: one connection, channels come and go, messages arrive in order or the line breaks.

In: channel names. Out: `Heard` values, until the connection is lost (`EngineUnavailable`). At most once: what was missed is not repeated.
`dialer` makes lines to Valkey, on a connection of redis-py of their own; `MemoryExchange` is the twin for tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from backend.errors import EngineUnavailable
from backend.jobs.valkey import engine_errors

_CONNECT_SECONDS = 5.0
_SEND_SECONDS = 1.0  # a server that takes nothing in for so long is as good as away


class Heard(Struct, frozen=True):
    """Something came in. `message` None: the subscription to `channel` holds from now on; both empty: the line answers."""

    channel: str
    message: bytes | None


class Line(Protocol):
    """One pub/sub connection. Every method raises `EngineUnavailable` when it is lost."""

    async def subscribe(self, channels: Sequence[str]) -> None: ...

    async def unsubscribe(self, channels: Sequence[str]) -> None: ...

    async def ping(self) -> None:
        """Makes a living line be heard."""
        ...

    def heard(self) -> AsyncIterator[Heard]: ...

    async def close(self) -> None: ...


Dial: TypeAlias = Callable[[], Awaitable[Line]]


def dialer(redis: Redis) -> Dial:
    """Lines to the server of `redis`, with its address, password and TLS, but not from its pool."""
    pool = redis.connection_pool

    async def dial() -> Line:
        options: dict[str, Any] = {**pool.connection_kwargs, "socket_timeout": None, "health_check_interval": 0}
        connection: AbstractConnection = pool.connection_class(**options)
        line = ValkeyLine(connection)
        try:
            with engine_errors():
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await line.close()  # redis-py leaves the socket of a handshake that was called off
            raise
        return line

    return dial


class ValkeyLine:
    """A line to Valkey. Reading has no timeout; the hub pings and hangs up on silence."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def subscribe(self, channels: Sequence[str]) -> None:
        await self._send("SUBSCRIBE", *channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self._send("UNSUBSCRIBE", *channels)

    async def ping(self) -> None:
        await self._send("PING")

    async def _send(self, *command: str) -> None:
        if not self._connection.is_connected:  # redis-py would connect again, and nobody would read that connection
            raise EngineUnavailable("Valkey")
        with engine_errors():
            async with asyncio.timeout(_SEND_SECONDS):
                await self._connection.send_command(*command, check_health=False)

    async def heard(self) -> AsyncIterator[Heard]:
        while True:
            with engine_errors():
                answer: Any = await self._connection.read_response()
            match answer:
                case [b"message", bytes(channel), bytes(message)]:
                    yield Heard(channel.decode(), message)
                case [b"subscribe", bytes(channel), _]:
                    yield Heard(channel.decode(), None)
                case _:
                    yield Heard("", b"")

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


class MemoryExchange:
    """The twin: `publish` reaches every line that subscribed, unless the line was cut."""

    def __init__(self) -> None:
        self._lines: set[MemoryLine] = set()

    async def dial(self) -> Line:
        line = MemoryLine(self._lines.discard)
        self._lines.add(line)
        return line

    def publish(self, channel: str, message: bytes) -> None:
        for line in self._lines:
            if channel in line.channels:
                line.queue.put_nowait(Heard(channel, message))

    def cut(self) -> None:
        """Every line is lost, with what it had not passed on."""
        for line in list(self._lines):
            line.break_off()


class MemoryLine:
    """A line of `MemoryExchange`."""

    def __init__(self, forget: Callable[[MemoryLine], None]) -> None:
        self.channels: set[str] = set()
        self.queue: asyncio.Queue[Heard | None] = asyncio.Queue()  # None: broken off
        self._forget = forget

    async def subscribe(self, channels: Sequence[str]) -> None:
        self.channels.update(channels)
        for channel in channels:
            self.queue.put_nowait(Heard(channel, None))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self.channels.difference_update(channels)

    async def ping(self) -> None:
        self.queue.put_nowait(Heard("", b""))

    async def heard(self) -> AsyncIterator[Heard]:
        while (heard := await self.queue.get()) is not None:
            yield heard
        raise EngineUnavailable("Valkey")

    def break_off(self) -> None:
        self._forget(self)
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)

    async def close(self) -> None:
        self._forget(self)
