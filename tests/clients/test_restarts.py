"""The API is replaced by another one in the middle of a registration, politely or not: no app loses or doubles anything."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.clients.cutting import cutting
from tests.clients.household import five_apps
from tests.clients.node import Node
from tests.clients.people import a_person, an_api
from tests.realtime.given import until
from tests.registration.house import ALL_SEVEN, BANK, House

SHUTDOWN = 3001
SLOW = {"p50": 150, "p99": 400}  # ms


@pytest.mark.parametrize("politely", [True, False], ids=["politely", "abruptly"])
async def test_another_api_goes_on_where_the_first_one_ended(house: House, node: Node, politely: bool) -> None:
    for org_code in ALL_SEVEN:
        await house.provider(org_code, latency_ms=SLOW)
    async with AsyncExitStack() as stack, an_api(house) as second:
        first = await stack.enter_async_context(an_api(house))
        async with cutting(first.port) as proxy, a_person(house, second.url) as anna:
            begin = await anna.place()
            async with five_apps(anna, proxy, node) as apps:
                await until(lambda: all(app.attaches for app in apps[:4]), 30)
                registration = await anna.begins(*ALL_SEVEN)
                await registration.until(lambda: "assets" in registration.of(BANK))
                proxy.target = second.port
                if politely:
                    await first.drain()
                    await until(lambda: all(app.attaches > 1 for app in apps[:4]), 15)
                else:
                    proxy.cut()
                await stack.aclose()
                await registration.heard("registration.completed completed")
                top, log = await anna.log(begin)
                await until(lambda: all(app.place == top for app in apps), 15)
                assert [app.disconnected for app in apps] == [[]] * 5, "somebody gave up"
    for app in apps:
        assert (app.faults, app.losses) == ([], 0)
        assert [(offset, event) for _, offset, event in app.heard] == log
    if politely:
        assert all(SHUTDOWN in app.connecting for app in apps[:3]), "the SDKs were told"
