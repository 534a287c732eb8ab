"""The proxy itself: each fault does what its name says, is switched while bytes flow, and is over when it is healed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.chaos import PIECE, PIECES, Address, Blackhole, Corrupt, HalfClose, Latency, Proxy, Reset, Stall, Truncate, proxying
from tests.faults.supervisor import free_port

LINE = b"all that is said comes back\n"


class Line:
    """One client of the echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, words: bytes = LINE) -> None:
        self.writer.write(words)
        await self.writer.drain()

    async def hears(self, words: bytes = LINE, seconds: float = 2) -> None:
        async with asyncio.timeout(seconds):
            assert await self.reader.readexactly(len(words)) == words

    async def hears_nothing(self, seconds: float = 0.1) -> None:
        with pytest.raises(TimeoutError):
            await self.hears(seconds=seconds)

    async def ends(self) -> bytes:
        async with asyncio.timeout(2):
            return await self.reader.read(-1)


class Edge:
    def __init__(self, proxy: Proxy, address: Address) -> None:
        self.proxy, self.address = proxy, address
        self.heard = bytearray()
        self.lines: list[Line] = []

    async def line(self) -> Line:
        if isinstance(self.address, Path):
            streams = await asyncio.open_unix_connection(str(self.address))
        else:
            streams = await asyncio.open_connection(*self.address)
        self.lines.append(Line(*streams))
        return self.lines[-1]


@asynccontextmanager
async def an_edge(listen: Address, upstream: Address) -> AsyncIterator[Edge]:
    """A proxy before a server that sends back what it hears."""
    edge: Edge

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while words := await reader.read(PIECE):
                edge.heard += words
                writer.write(words)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    if isinstance(upstream, Path):
        server = await asyncio.start_unix_server(echo, str(upstream))
    else:
        server = await asyncio.start_server(echo, *upstream)
    async with proxying(listen, upstream, seed=7) as proxy:
        edge = Edge(proxy, listen)
        yield edge
        for line in edge.lines:
            line.writer.transport.abort()
    server.close()
    await server.wait_closed()


@pytest.fixture(params=["tcp", "unix"])
async def edge(request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    with TemporaryDirectory(prefix="moa-") as folder:
        addresses: Callable[[str], Address] = (
            (lambda name: Path(folder) / name) if request.param == "unix" else (lambda _: ("127.0.0.1", free_port()))
        )
        async with an_edge(addresses("near"), addresses("far")) as made:
            yield made


async def test_without_a_fault_everything_passes_both_ways_to_the_last_byte(edge: Edge) -> None:
    line = await edge.line()
    words = bytes(range(256)) * 1000
    sending = asyncio.create_task(line.say(words))
    await line.hears(words)
    await sending
    line.writer.write_eof()
    assert await line.ends() == b""


async def test_latency_delays_every_piece_but_does_not_add_up(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(Latency(0.1))
    began = time.monotonic()
    for _ in range(5):
        await line.say()
        await asyncio.sleep(0.01)  # pieces of their own
    await line.hears(LINE * 5)
    assert 0.2 <= time.monotonic() - began < 0.5


async def test_a_stall_loses_nothing(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(Stall())
    await line.say()
    await line.hears_nothing()
    edge.proxy.heal()
    await line.hears()


async def test_a_blackhole_swallows_silently_and_resets_its_victims_when_it_is_healed(edge: Edge) -> None:
    line, other = await edge.line(), await edge.line()
    await other.say()
    await other.hears()
    edge.proxy.set(Blackhole())
    await line.say()
    await line.hears_nothing()
    edge.proxy.heal()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await line.hears()
    await other.say()
    await other.hears()


async def test_a_reset_ends_what_is_open_and_what_opens(edge: Edge) -> None:
    line = await edge.line()
    await line.say()
    await line.hears()
    edge.proxy.set(Reset())
    for victim in (line, await edge.line()):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await victim.hears()
    edge.proxy.heal()
    well = await edge.line()
    await well.say()
    await well.hears()


async def test_after_a_half_close_the_server_still_hears(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(HalfClose())
    await line.say()
    assert await line.ends() == b""
    await line.say(b"and this")
    async with asyncio.timeout(2):
        while not edge.heard.endswith(b"and this"):
            await asyncio.sleep(0.005)


async def test_corruption_changes_one_bit(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(Corrupt())
    await line.say()
    async with asyncio.timeout(2):
        came = await line.reader.readexactly(len(LINE))
    assert sum((one ^ other).bit_count() for one, other in zip(came, LINE, strict=True)) == 1


async def test_a_truncated_connection_ends_after_so_many_bytes(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(Truncate(10))
    await line.say()
    assert await line.ends() == LINE[:10]


async def test_a_stalled_edge_holds_a_bounded_number_of_bytes(edge: Edge) -> None:
    line = await edge.line()
    edge.proxy.set(Stall())
    sending = asyncio.create_task(line.say(b"x" * PIECE * PIECES * 40))
    done, _ = await asyncio.wait({sending}, timeout=0.3)
    assert not done, "somebody has taken it all in"
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
