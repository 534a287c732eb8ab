"""Decisions of one leader reach every node, at a real Valkey; whoever was replaced is refused; operators are obeyed over outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg import QueryCanceledError

from backend.clock import SystemClock
from backend.coordinator.leader import FENCE
from backend.coordinator.store import STANDINGS
from backend.coordinator.stream import ModesChanged
from backend.providers.circuits import CircuitState, Mode
from backend.providers.outcomes import Weight
from tests.coordinator.shell import OPTIONS, OTHER, READ, TOKEN, Fleet, ended, until

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@pytest.fixture
async def fleet(valkey_url: str) -> AsyncIterator[Fleet]:
    built = Fleet(valkey_url)
    yield built
    await built.close()


async def test_what_two_nodes_met_opens_the_circuit_at_all(fleet: Fleet) -> None:
    await fleet.several(4)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        assert all(node.state(OTHER) is CLOSED for node in fleet.nodes)


async def test_one_node_alone_opens_nothing(fleet: Fleet) -> None:
    first, *_ = await fleet.several(2)
    async with fleet.led(1):
        await fleet.nodes[1].report(Weight.OK)
        await first.report(Weight.FAILURE, 10)
        await asyncio.sleep(0.2)
        assert first.state() is CLOSED


async def test_a_report_that_comes_twice_counts_once(fleet: Fleet) -> None:
    first, second = await fleet.several(2)
    async with fleet.led(1):
        await second.report(Weight.FAILURE)
        report = await first.report(Weight.FAILURE)
        for _ in range(5):
            await first.stream.append(report)
        await asyncio.sleep(0.2)
        assert first.state() is CLOSED
        await first.report(Weight.FAILURE)
        await fleet.all_are(OPEN)


async def test_the_next_leader_closes_nothing_that_is_open(fleet: Fleet) -> None:
    await fleet.several(2)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
    epochs = [node.mirrors.of("A", READ.scope).epoch for node in fleet.nodes]
    async with fleet.led(2):
        await asyncio.sleep(0.2)
        assert [node.state() for node in fleet.nodes] == [OPEN, OPEN]
        assert [node.mirrors.of("A", READ.scope).epoch for node in fleet.nodes] == epochs, "nothing was told that had not changed"


async def test_a_leader_that_was_replaced_is_refused_until_it_leads_again(fleet: Fleet) -> None:
    await fleet.several(2)
    async with fleet.led(1):
        await fleet.redis.set(FENCE, 2)  # another was elected, and this one does not know yet
        await fleet.fails()
        await asyncio.sleep(0.3)
        assert [node.state() for node in fleet.nodes] == [CLOSED, CLOSED]
        assert await fleet.redis.hlen(STANDINGS) == 0
        await fleet.redis.set(FENCE, 1)
        await asyncio.sleep(0.3)  # it looks, and begins with what is stored
        await fleet.fails()
        await fleet.all_are(OPEN)


async def test_two_leaders_at_once_decide_each_thing_once(fleet: Fleet) -> None:
    await fleet.several(3)
    async with fleet.led(1), fleet.led(2):
        await fleet.fails()
        await fleet.all_are(OPEN)
        await asyncio.sleep(0.15)
    opened = [decision.epoch for _, decision in fleet.nodes[2].changes if decision.circuit == READ]
    assert opened == [1]


async def test_the_one_who_asks_gets_the_probe_and_nobody_else(fleet: Fleet) -> None:
    first, second = await fleet.several(2)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        assert await first.asking.ask(READ) is None, "its wait is not over"
        granted = await first.asking.ask(READ)
        assert granted is not None
        assert (granted.state, granted.circuit) == (HALF_OPEN, READ)
        assert await second.asking.ask(READ) is None


async def test_a_lease_is_prolonged_and_the_probes_calls_close_the_circuit(fleet: Fleet) -> None:
    first, second = await fleet.several(2)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        await asyncio.sleep(0.35)
        granted = await first.asking.ask(READ)
        assert granted is not None
        assert await first.asking.ask(READ) == granted or granted.state is HALF_OPEN
        await until(lambda: second.state() is HALF_OPEN)
        await first.report(Weight.OK, 2, epoch=granted.epoch)
        await fleet.all_are(CLOSED)


async def test_a_probe_that_is_given_back_is_free_at_once(fleet: Fleet) -> None:
    first, second = await fleet.several(2)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        await asyncio.sleep(0.35)
        granted = await first.asking.ask(READ)
        assert granted is not None
        await first.asking.release(READ, granted.epoch)
        assert await second.asking.ask(READ) is not None


class Drifting(SystemClock):
    """A leader's even clock beside Valkey's: as far ahead as Valkey's was set back, or has lost, since the reign began."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_a_valkey_whose_clock_was_set_back_gives_probes_all_the_same(fleet: Fleet) -> None:
    first, _ = await fleet.several(2)
    clock = Drifting()
    async with fleet.led(1, fleet.deciding(clock=clock)):
        clock.ahead = 5.0
        await fleet.fails()
        await fleet.all_are(OPEN)
        await asyncio.sleep(0.35)
        assert await first.asking.ask(READ) is not None


async def test_an_operators_word_holds_for_every_scope_and_over_a_leaders_end(fleet: Fleet) -> None:
    await fleet.several(2)
    fleet.operators.said["A"] = (Mode.FORCED_OPEN, "they asked us to")
    async with fleet.led(1):
        await fleet.all_are(OPEN, READ)
        await fleet.all_are(OPEN, TOKEN)
        fleet.operators.away = True
    async with fleet.led(2):
        await asyncio.sleep(0.3)
        assert [node.state() for node in fleet.nodes] == [OPEN, OPEN], "nobody knows of an end"
        fleet.operators.away = False
        fleet.operators.said["A"] = (Mode.AUTO, "over")
        await until(lambda: all(node.mirrors.of("A", READ.scope).decision.mode is Mode.AUTO for node in fleet.nodes))  # type: ignore[union-attr]


async def test_a_fault_in_reading_modes_once_leaves_no_operator_unheard(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.several(2)

    async def cancelled_by_the_database() -> None:
        raise QueryCanceledError

    async with fleet.led(1):
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(fleet.operators, "modes", cancelled_by_the_database)
            await fleet.stream.append(ModesChanged())
            await asyncio.sleep(0.1)
        fleet.operators.said["A"] = (Mode.FORCED_OPEN, "they asked us to")
        await fleet.stream.append(ModesChanged())
        await fleet.all_are(OPEN, READ)


async def test_an_operators_word_is_read_at_once_when_somebody_says_so(fleet: Fleet) -> None:
    await fleet.several(1)
    async with fleet.led(1):
        await asyncio.sleep(0.1)
        fleet.operators.said["A"] = (Mode.FORCED_OPEN, "now")
        await fleet.stream.append(ModesChanged())
        await fleet.all_are(OPEN, seconds=0.5)


async def test_a_wiped_valkey_begins_another_life_in_which_forced_modes_stand_again(fleet: Fleet) -> None:
    await fleet.several(2)
    fleet.operators.said["B"] = (Mode.FORCED_OPEN, "kept")
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        await fleet.all_are(OPEN, OTHER)
        await fleet.redis.flushall()
        await fleet.redis.set(FENCE, 1)  # elected anew, by chance under the same number
        await until(lambda: all(node.mirrors.of("B", OTHER.scope).epoch == 1 for node in fleet.nodes), 6)
        assert [node.state(OTHER) for node in fleet.nodes] == [OPEN, OPEN]
        await fleet.all_are(CLOSED, seconds=6)  # nobody speaks of it any more: it ends by itself
        for node in fleet.nodes[:2]:
            await node.report(Weight.FAILURE, 2)
        await fleet.all_are(OPEN)


async def test_a_wiped_valkey_is_reminded_of_an_open_circuit_by_who_waits_for_its_probe(fleet: Fleet) -> None:
    """Else everybody would call the institution again as soon as nodes cease to believe what they heard in the old life."""
    first, second = await fleet.several(2)
    async with fleet.led(1):
        await fleet.fails()
        await fleet.all_are(OPEN)
        epoch = first.mirrors.of(READ.org_code, READ.scope).epoch
        await fleet.redis.flushall()
        await fleet.redis.set(FENCE, 1)
        await until(lambda: first.mirrors.of(READ.org_code, READ.scope).epoch == 0, 5)  # it has heard of the new life
        await asyncio.sleep(0.3)  # so has the leader
        assert await first.asking.ask(READ, epoch=epoch) is None, "another may still be at its probe"
        await until(lambda: second.mirrors.of(READ.org_code, READ.scope).epoch > epoch)
        assert first.state() is second.state() is OPEN
        await asyncio.sleep(OPTIONS.probe_lease_ms / 1000)
        granted = await first.asking.ask(READ, epoch=epoch)
        assert granted is not None
        assert granted.state is HALF_OPEN


async def test_nodes_decide_for_themselves_while_a_full_valkey_takes_no_decision(fleet: Fleet) -> None:
    """It can still be read, and heard; but nobody's word would be stored, so nobody may wait for one."""
    [node] = await fleet.several(1)
    await fleet.redis.config_set("maxmemory", 1)
    try:
        node.following._whole_at = 0.0  # it reads the whole state every few seconds
        await until(lambda: node.alone.decides)
    finally:
        await fleet.redis.config_set("maxmemory", 0)
    await until(lambda: not node.alone.decides)


async def test_a_leader_ends_when_it_is_told_to(fleet: Fleet) -> None:
    await fleet.redis.set(FENCE, 1)
    task = asyncio.ensure_future(fleet.deciding().reign(1))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        await ended(task)
