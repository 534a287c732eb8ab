"""What is told, stored, lost or told twice: a process ends with what the fleet decided, whatever becomes of Valkey meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from backend.coordinator.leader import FENCE
from backend.coordinator.standing import Standing
from backend.coordinator.store import CHANNEL, Reign, Told
from backend.engines import start_valkey
from backend.providers.calling.noticing import Noticed
from backend.providers.circuits import CircuitState, Decision, Decisions
from backend.providers.outcomes import Weight
from tests.coordinator.shell import CLOCK, READ, Fleet, Node, until

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN


@pytest.fixture
async def fleet(valkey_url: str) -> AsyncIterator[Fleet]:
    built = Fleet(valkey_url)
    yield built
    await built.close()


class OwnValkey:
    """One that may be harmed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.engine = start_valkey(folder)

    def start(self) -> None:
        self.engine = start_valkey(self._folder)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.engine.pid, number)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    own = OwnValkey(tmp_path)
    yield own
    own.engine.stop()


@pytest.fixture
async def frail(own_valkey: OwnValkey) -> AsyncIterator[Fleet]:
    """At a Valkey of its own."""
    built = Fleet(own_valkey.engine.url)
    yield built
    await built.close()


async def put(fleet: Fleet, state: CircuitState, epoch: int, *, silent: bool = False) -> None:
    """As a leader would; `silent`: its message is lost."""
    stored = await fleet.store.read()
    standing = Standing(circuit=READ, state=state, epoch=epoch, probe_at_ms=stored.now_ms + 60_000, believed_ms=stored.now_ms + 90_000)
    decision = Decision(circuit=READ, state=state, epoch=epoch, reason="r", expires_in_ms=90_000)
    await fleet.redis.set(FENCE, 1)
    assert await fleet.store.put(Reign(stored.lineage, 1), [standing], [] if silent else [decision], [])


async def test_a_process_that_starts_reads_the_whole(fleet: Fleet) -> None:
    await put(fleet, OPEN, 3)
    node = await fleet.node("a")
    assert node.state() is OPEN
    assert [decision.epoch for _, decision in node.changes] == [3]


async def test_what_was_told_in_silence_is_found_within_seconds(fleet: Fleet) -> None:
    node = await fleet.node("a")
    await put(fleet, OPEN, 3, silent=True)
    await until(lambda: node.state() is OPEN, 5)


async def test_what_is_older_or_told_twice_changes_nothing(fleet: Fleet) -> None:
    node = await fleet.node("a")
    await put(fleet, OPEN, 3)
    await until(lambda: node.state() is OPEN)
    lineage = (await fleet.store.read()).lineage
    for epoch in (3, 2):
        old = Decision(circuit=READ, state=CLOSED, epoch=epoch, reason="old")
        await fleet.redis.publish(CHANNEL, msgspec.msgpack.encode(Told(Decisions(lineage, (old,)))))
    await fleet.redis.publish(CHANNEL, b"\xc1")
    await asyncio.sleep(0.1)
    assert node.state() is OPEN
    assert len(node.changes) == 1


async def test_a_line_that_is_cut_is_laid_again_and_the_whole_read(fleet: Fleet) -> None:
    node = await fleet.node("a")
    await put(fleet, OPEN, 3, silent=True)
    await fleet.redis.client_kill_filter(_type="pubsub")
    await until(lambda: node.state() is OPEN, 1)


async def test_two_lives_of_the_store_are_never_mixed(fleet: Fleet) -> None:
    node = await fleet.node("a")
    await put(fleet, OPEN, 30)
    await until(lambda: node.state() is OPEN)
    await fleet.redis.flushall()
    await put(fleet, CLOSED, 1)
    await until(lambda: node.state() is CLOSED)
    assert node.mirrors.of("A", READ.scope).epoch == 1


async def test_a_valkey_that_restarts_leaves_everything_as_it_was(frail: Fleet, own_valkey: OwnValkey) -> None:
    node = await frail.node("a")
    await put(frail, OPEN, 3)
    await until(lambda: node.state() is OPEN)
    await asyncio.sleep(1.1)  # its log is written each second
    own_valkey.engine.stop()
    await until(lambda: node.alone.decides)
    assert node.state() is OPEN
    own_valkey.start()
    await until(lambda: not node.alone.decides, 5)
    assert (node.state(), node.mirrors.of("A", READ.scope).epoch) == (OPEN, 3)
    async with frail.led(2):
        assert node.state() is OPEN


async def test_a_frozen_valkey_leaves_each_node_to_itself_until_it_thaws(frail: Fleet, own_valkey: OwnValkey) -> None:
    first, second = await frail.several(2)
    own_valkey.send(signal.SIGSTOP)
    try:
        await until(lambda: first.alone.decides and second.alone.decides, 6)
        for _ in range(3):
            fails(first)
        await until(lambda: first.state() is OPEN, 1)
        assert second.state() is CLOSED
    finally:
        own_valkey.send(signal.SIGCONT)
    await until(lambda: not first.alone.decides, 6)
    assert first.state() is CLOSED, "the fleet never opened it"


def fails(node: Node) -> None:
    """A call of this node."""
    node.alone.notice(Noticed(READ, 0, Weight.FAILURE, CLOCK.monotonic(), 0.0, "BA01", None, "http_500", None))
