"""Both official clients, SSE and poll through abrupt cuts: each person registers, and every app of theirs hears the same, once, in order.

Connections are torn 20 to 150 ms after they begin, in the middle of a frame where one passes by, half of them by a reset.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.clients.cutting import CuttingProxy, cutting
from tests.clients.household import five_apps
from tests.clients.node import Node
from tests.clients.people import Person, a_person, an_api
from tests.realtime.given import until
from tests.registration.house import ALL_SEVEN, BANK2, House

LIFE = (0.02, 0.15)  # seconds
SLOW = {"p50": 40, "p99": 200}  # ms: results come one by one, while connections come and go


async def live(person: Person, proxy: CuttingProxy, node: Node, *, registrations: int, random: Random) -> None:
    """A person registers several times; then what their apps heard is held against the log and against the rows."""
    begin = await person.place()
    async with five_apps(person, proxy, node) as apps:
        for _ in range(registrations):
            await person.registers(*random.sample([*ALL_SEVEN, BANK2], random.randint(2, 5)))
        proxy.life = None  # on a machine with little time, a connection of 20 ms gets nobody anywhere
        top, log = await person.log(begin)
        await until(lambda: all(app.place == top and app.attaches for app in apps[:4]) and apps[4].place == top, 30)
        assert [app.disconnected for app in apps] == [[]] * 5, "somebody gave up"
    fresh = (await person.snapshot()).view()
    for app in apps:
        assert (app.faults, app.losses) == ([], 0)
        assert app.began is not None
        assert [(offset, event) for _, offset, event in app.heard] == log[app.began[1] - begin[1] :]
        assert app.snapshot is None or app.view().shows_what(fresh)
    assert proxy.cuts > 5 * registrations
    assert sum(app.attaches for app in apps) > 2 * registrations, "nobody came back"


async def lives(house: House, node: Node, *, seed: int, registrations: int) -> None:
    print(f"seed {seed}")  # pytest shows it when the test fails
    for org_code in [*ALL_SEVEN, BANK2]:
        await house.provider(org_code, latency_ms=SLOW)
    async with an_api(house) as api, cutting(api.port, seed=seed, life=LIFE) as proxy, a_person(house, api.url) as person:
        await live(person, proxy, node, registrations=registrations, random=Random(seed))


async def test_every_app_hears_everything_once_and_in_order_through_cuts(house: House, node: Node) -> None:
    await lives(house, node, seed=20261122, registrations=6)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
async def test_fifty_registrations_through_cuts(house: House, node: Node, seed: int) -> None:
    await lives(house, node, seed=seed, registrations=10)
