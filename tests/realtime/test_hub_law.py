"""In whatever order things happen between Valkey and the hub, a client hears everything once and in order, or that something is lost."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.events import Position
from tests.realtime.listening import ANNA, Client, World, entries, settle

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3)),
        st.tuples(st.just("deaf"), st.booleans()),
        st.tuples(st.just("attach"), st.integers(0, 7)),
        st.tuples(st.sampled_from(["check", "cut", "settle", "erase", "detach", "breathe"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.lists(st.integers(0, 12), min_size=1, max_size=5))
async def test_every_client_hears_everything_once_in_order_or_that_something_is_lost(
    steps: list[tuple[str, int]], delays: list[int]
) -> None:
    world = World()
    world.feed.delays = itertools.cycle(delays)
    async with world.hub:
        clients = [await Client(world.hub).attach()]
        for what, value in steps:
            await _step(world, clients, what, value)
            assert all(client.gapless() for client in clients)
        world.deaf = False
        await world.hub.check()
        await settle()
        newest = await world.feed.position(ANNA)
        for client in clients:
            assert client.gapless()
            assert client.start is not None
            if not client.lost:
                assert Position(client.start.epoch, client.start.offset + len(client.heard)) == newest


async def _step(world: World, clients: list[Client], what: str, value: int) -> None:
    newest = await world.feed.position(ANNA)
    match what:
        case "append":
            await world.feed.append(ANNA, entries(newest.offset + 1, newest.offset + value))
        case "deaf":
            world.deaf = bool(value)
        case "attach":
            asked = Position(newest.epoch, max(0, newest.offset - value % 3))
            joining, meanwhile = Client(world.hub).attach(asked), _meanwhile(world, value)
            client, _ = await asyncio.gather(joining, meanwhile)
            clients.append(client)
        case "check":
            await world.hub.check()
        case "cut":
            world.exchange.cut()
        case "erase":
            await world.feed.erase(ANNA)
        case "detach" if len(clients) > 1:
            world.hub.detach(clients.pop().mailbox)
        case "settle":
            await settle()
        case _:
            await asyncio.sleep(0)


async def _meanwhile(world: World, moment: int) -> None:
    """Appends, or erases, at some moment while somebody else attaches."""
    for _ in range(moment):
        await asyncio.sleep(0)
    if moment == 7:
        await world.feed.erase(ANNA)
    newest = await world.feed.position(ANNA)
    await world.feed.append(ANNA, entries(newest.offset + 1, newest.offset + 2))
