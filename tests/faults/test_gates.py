"""A door that says that it is shut must be: otherwise the tests behind it are worth nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.gates import Gate, gate

MOMENT = 0.1  # seconds; an echo takes none


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Gate]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.read(100):
            writer.write(line)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(echo, str(tmp_path / "s")), gate(tmp_path / "s") as door:
        yield door


class Visitor:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def is_answered(self) -> bool:
        try:
            self.writer.write(b"hello")
            return await asyncio.wait_for(self.reader.read(100), MOMENT) == b"hello"
        except TimeoutError:
            return False


Comes = Callable[[], Awaitable[Visitor]]


@pytest.fixture
async def visitor(door: Gate) -> AsyncIterator[Comes]:
    async with contextlib.AsyncExitStack() as stack:

        async def comes() -> Visitor:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)

            async def leaves() -> None:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

            stack.push_async_callback(leaves)
            return Visitor(reader, writer)

        yield comes


async def test_an_open_door_is_not_felt(visitor: Comes) -> None:
    assert await (await visitor()).is_answered()


async def test_behind_a_silent_door_nobody_is_answered_until_it_is_well_again(door: Gate, visitor: Comes) -> None:
    inside = await visitor()
    assert await inside.is_answered()
    door.silence()
    assert not await inside.is_answered()
    assert not await (await visitor()).is_answered()
    door.heal()
    assert await (await visitor()).is_answered()
    with pytest.raises(ConnectionError):  # its bytes are gone, and it is told so
        await inside.reader.read(100)


async def test_a_shut_door_refuses_nobody_and_lets_nobody_in(door: Gate, visitor: Comes) -> None:
    inside = await visitor()
    assert await inside.is_answered()
    door.shut()
    assert not await inside.is_answered()
    for _ in range(3):
        with pytest.raises(TimeoutError):  # not even the system's own word
            await asyncio.wait_for(visitor(), MOMENT)
    door.heal()
    assert await (await visitor()).is_answered()


async def test_what_a_door_forgets_stays_silent_while_others_come_in(door: Gate, visitor: Comes) -> None:
    inside = await visitor()
    assert await inside.is_answered()
    door.silence()
    door.heal(forget=True)
    assert not await inside.is_answered()
    assert await (await visitor()).is_answered()
