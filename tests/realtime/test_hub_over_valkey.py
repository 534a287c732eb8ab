"""A hub over a real Valkey: lines that are cut, a message that is lost, a feed that is wiped, two processes."""

from __future__ import annotations

import asyncio

from backend.jobs.valkey import connect
from backend.realtime.channels import dialer
from backend.realtime.feed import Feed, channel
from backend.realtime.hub import Hub
from tests.realtime.given import Api, event, token, until
from tests.realtime.listening import ANNA, Client, entries, nothing_relayed


async def test_lines_that_valkey_cuts_are_dialled_again(api: Api) -> None:
    one = await Client(api.hub).attach()
    for round_ in range(5):
        await api.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await api.append(2 * round_ + 1, 2 * round_ + 1)
        await until(lambda: len(one.read()) == 2 * round_ + 1)  # noqa: B023  # awaited before the next round
        await api.append(2 * round_ + 2, 2 * round_ + 2)
        await until(lambda: len(one.read()) == 2 * round_ + 2)  # noqa: B023
    assert one.heard == [(offset, event(offset)) for offset in range(1, 11)]
    assert not one.lost


async def test_a_lost_last_message_is_repaired_within_a_second(api: Api) -> None:
    one = await Client(api.hub).attach()
    await api.redis.execute_command("CLIENT", "NO-EVICT", "OFF")  # a command of no effect: the feed's own line stays as it is
    assert api.hub._line is not None
    await api.hub._line.unsubscribe([channel(ANNA)])  # from now on, Valkey tells the hub nothing about this user
    await api.append(1, 1)
    await until(lambda: bool(one.read()), seconds=1.5)  # real time: the hub's own timer is what is tested
    assert one.heard == [(1, event(1))]


async def test_a_wiped_valkey_is_noticed_and_told(api: Api) -> None:
    one = await Client(api.hub).attach()
    await api.append(1, 2)
    await until(lambda: len(one.read()) == 2)
    api.relayed[ANNA] = 2
    await api.redis.flushall()
    await api.hub.check()

    def told() -> bool:
        one.read()
        return one.lost

    await until(told)
    assert (await api.feed.position(ANNA)).offset == 2


async def test_two_processes_hear_the_same(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=5, pool=4)
    feed = Feed(redis=redis, relayed=nothing_relayed)
    async with Hub(feed=feed, dial=dialer(redis)) as here, Hub(feed=feed, dial=dialer(redis)) as there:
        one, two = await Client(here).attach(), await Client(there).attach()
        for offset in range(1, 51):
            await feed.append(ANNA, entries(offset, offset))
        await until(lambda: len(one.read()) == len(two.read()) == 50)
        assert one.heard == two.heard == entries(1, 50)
    await redis.aclose()


async def test_who_subscribes_anew_before_they_could_be_told_of_a_loss_is_told_of_the_next(api: Api) -> None:
    big = b'{"type":"provider.assets","data":{"n":0,"padding":"%b"}}' % (b"x" * 60_000)
    async with api.raw(max_queue=1) as raw:
        await raw.ask({"id": 1, "connect": {"token": token()}})
        await raw.ask({"id": 2, "subscribe": {"channel": "feed"}})
        [mailbox] = api.hub._places
        offset = 0
        while not mailbox._items:  # what the client does not read has filled every buffer on the way
            offset += 1
            await api.feed.append("anna", [(offset, big)])
            await asyncio.sleep(0.005)
        await api.redis.flushall()
        await api.hub.check()
        await until(lambda: not api.hub._places)
        await raw.say({"id": 3, "unsubscribe": {"channel": "feed"}}, {"id": 4, "subscribe": {"channel": "feed"}})
        await until(lambda: mailbox in api.hub._places)
        while (await raw.hear()).get("id") != 4:
            pass
        await api.redis.flushall()
        await api.hub.check()
        assert (await raw.hear())["push"]["unsubscribe"]["code"] == 2500
