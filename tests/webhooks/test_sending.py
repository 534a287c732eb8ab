"""Facts reach their webhooks: at least once, in order per user, whoever is slow, ill or gone."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from backend.errors import EngineUnavailable
from backend.events import EventType
from backend.logs import hidden
from backend.metrics import Metric, Metrics
from backend.storage import webhooks
from backend.storage.sealed import WEBHOOK_SECRET
from backend.storage.vault import Vault
from backend.storage.webhooks import ILL_AFTER, OVERTAKEN_AFTER
from backend.watching import watch_deliveries
from backend.webhooks.endpoints import view
from backend.webhooks.keeping import TEST_EVENT
from backend.webhooks.retrying import NoAnswer
from backend.webhooks.sending import AT_ONCE, Sender
from backend.webhooks.signing import headers_of
from tests.webhooks.given import DEADLINE, OPERATOR, World

OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
IN_TRANSACTION = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND {OTHERS}"
LOCKS = f"SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'webhook_deliveries'::regclass AND {OTHERS}"

COMPLETED, FAILED = EventType.PROVIDER_COMPLETED, EventType.PROVIDER_FAILED


async def test_a_fact_arrives_signed_with_its_event_as_the_feed_carries_it(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    assert await world.send(webhook) == 1
    (call,) = world.receiver.received
    assert call.url == "https://hooks.example/moa"
    message = call.headers["webhook-id"]
    event = b'{"type":"provider.completed","at":"2026-11-22T03:00:00.000Z","registration_id":"reg_1","data":{}}'
    assert call.body == b'{"id":"%s","user_id":"anna","offset":1,"event":%s}' % (message.encode(), event)
    assert call.headers == headers_of(webhook.keys, message, world.clock.now(), call.body)
    assert await world.rows() == []


async def test_what_is_rolled_back_is_never_sent(world: World) -> None:
    webhook = await world.webhook()
    with pytest.raises(AttributeError):
        await world.commit(COMPLETED, None)  # type: ignore[arg-type]
    assert await world.send(webhook) == 0


async def test_a_webhook_gets_only_what_it_wants_and_what_came_after_it(world: World) -> None:
    await world.commit(COMPLETED)
    webhook, other = await world.webhook(COMPLETED), await world.webhook(FAILED, EventType.SIGNATURE_DENIED)
    await world.commit(COMPLETED, FAILED)
    assert await world.send(webhook) == 1
    assert await world.send(other) == 1
    assert world.receiver.what == [("anna", 2), ("anna", 3)]


async def test_a_users_events_go_one_after_the_other_and_different_users_at_once(world: World) -> None:
    webhook = await world.webhook()
    for number in range(3):
        await world.commit(COMPLETED, COMPLETED, user_id=f"user-{number}")
    world.receiver.held = asyncio.Event()
    lane = await world.lane(webhook)
    assert await lane.send_due() == 3
    assert await lane.send_due() == 0, "the second event of each waits for the first"
    await asyncio.sleep(0)
    assert {offset for _, offset in world.receiver.what} == {1}
    world.receiver.held.set()
    await lane.idle()
    assert await world.send(webhook) == 3


async def test_a_refused_event_is_sent_again_and_holds_up_only_its_users_later_ones(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED, FAILED)
    await world.commit(COMPLETED, user_id="berta")
    world.receiver.answers = lambda call: 500 if call.what == ("anna", 1) else 200
    await world.send(webhook)
    assert sorted(world.receiver.what) == [("anna", 1), ("berta", 1)]
    assert await world.later(webhook, seconds=3.9) == 0
    world.receiver.answers = lambda _: 200
    assert await world.later(webhook, seconds=2.2) == 2
    assert world.receiver.what[-2:] == [("anna", 1), ("anna", 2)]
    ids = [call.headers["webhook-id"] for call in world.receiver.received if call.what == ("anna", 1)]
    assert len(ids) == 2
    assert len(set(ids)) == 1, "the same message"


async def test_an_event_that_is_refused_again_and_again_is_overtaken(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED, FAILED)
    world.receiver.answers = lambda call: 400 if call.what[1] == 1 else 200
    for _ in range(OVERTAKEN_AFTER):
        await world.later(webhook, hours=1.3)
    assert world.receiver.what.count(("anna", 1)) >= OVERTAKEN_AFTER
    await world.later(webhook, hours=1.3)
    assert ("anna", 2) in world.receiver.what
    assert [(offset, state) for _, offset, state, _ in await world.rows()] == [(1, "pending")]


async def test_after_three_days_an_event_is_given_up_and_later_forgotten(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    world.receiver.answers = lambda _: NoAnswer.CONNECT
    await world.send(webhook)
    assert await world.later(webhook, days=2.9) == 1
    assert (await world.rows())[0][2] == "pending"
    assert await world.later(webhook, days=0.2) == 1
    assert (await world.rows())[0][2] == "failed"
    assert await world.later(webhook, days=1) == 0
    assert (await world.keeping.counted())[webhook.id] == (0, 1)
    await world.sweep()
    assert len(await world.rows()) == 1
    world.clock.move(timedelta(days=7))
    await world.sweep()
    assert await world.rows() == []


async def test_what_nobody_came_to_try_is_given_up_too(world: World) -> None:
    await world.webhook()
    await world.commit(COMPLETED)
    world.clock.move(timedelta(days=3, seconds=1))
    await world.sweep()
    assert [state for _, _, state, _ in await world.rows()] == ["failed"]


async def test_410_ends_the_webhook_and_what_waited_for_it(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED, FAILED)
    world.receiver.answers = lambda _: 410
    await world.send(webhook)
    ended = await world.seen(webhook)
    assert (ended.status, ended.last_failure) == ("disabled", "410")
    await world.commit(COMPLETED)
    await world.sweep()
    assert await world.rows() == []
    assert (await world.seen(webhook)).status == "disabled", "it is still listed"


@pytest.mark.parametrize("answer", [100, 199, 300, 301, 302, 307, 400, 401, 404, 429, 500, 503, *NoAnswer])
async def test_only_2xx_takes_an_event(world: World, answer: int | NoAnswer) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    world.receiver.answers = lambda _: answer
    await world.send(webhook)
    assert [attempts for *_, attempts in await world.rows()] == [1]
    assert (await world.seen(webhook)).last_failure == str(answer)


async def test_an_ill_receiver_is_tried_by_one_delivery_of_the_whole_fleet_and_then_gets_everything_in_order(world: World) -> None:
    webhook = await world.webhook()
    world.receiver.answers = lambda _: NoAnswer.CONNECT
    for number in range(ILL_AFTER):
        await world.commit(COMPLETED, user_id=f"user-{number}")
    await world.send(webhook)
    assert (await world.seen(webhook)).failures == ILL_AFTER
    await world.commit(COMPLETED, FAILED)
    assert await world.send(webhook) == 0
    before = len(world.receiver.received)
    world.clock.move(timedelta(seconds=5))
    lanes = [await world.lane(webhook) for _ in range(3)]
    assert sum(await asyncio.gather(*(lane.send_due() for lane in lanes))) == 1
    await asyncio.gather(*(lane.idle() for lane in lanes))
    assert len(world.receiver.received) == before + 1
    assert (await world.seen(webhook)).rests_until == world.clock.now() + timedelta(seconds=10), "and twice as long again"
    world.receiver.answers = lambda _: 200
    await world.later(webhook, minutes=2)
    await world.send(webhook)
    assert (await world.seen(webhook)).failures == 0
    assert [what for what in world.receiver.what if what[0] == "anna"][-2:] == [("anna", 1), ("anna", 2)]
    assert await world.rows() == []


async def test_calls_to_one_webhook_are_bounded_and_hold_no_connection(world: World) -> None:
    webhook = await world.webhook()
    for number in range(AT_ONCE * 2):
        await world.commit(COMPLETED, user_id=f"user-{number}")
    world.receiver.held = asyncio.Event()
    lane = await world.lane(webhook)
    assert await lane.send_due() == AT_ONCE
    assert await lane.send_due() == 0
    async with world.database.reading() as connection:
        for question in (IN_TRANSACTION, LOCKS):
            assert await connection.fetchval(question) == 0
    world.receiver.held.set()
    await lane.idle()
    assert world.receiver.most_at_once == AT_ONCE


async def test_a_slow_receiver_holds_up_no_other(world: World) -> None:
    slow, quick = await world.webhook(url="https://slow.example"), await world.webhook(url="https://quick.example")
    await world.commit(COMPLETED)
    world.receiver.held = asyncio.Event()
    lane = await world.lane(slow)
    await lane.send_due()
    await asyncio.sleep(0)
    held, world.receiver.held = world.receiver.held, None
    assert await world.send(quick) == 1
    held.set()


async def test_what_a_killed_worker_had_in_hand_is_sent_again_when_its_lease_is_over(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    now = world.clock.now()
    taken = await world.database.transaction(
        lambda connection: webhooks.claim(connection, webhook.id, slots=1, now=now, until=now + timedelta(seconds=30))
    )
    assert len(taken) == 1
    assert await world.later(webhook, seconds=29) == 0
    assert await world.later(webhook, seconds=1) == 1
    assert not await world.database.transaction(lambda connection: webhooks.delivered(connection, taken[0], world.clock.now()))


async def test_who_lost_the_lease_cannot_say_how_it_ended(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    claims = []
    for _ in range(2):
        now = world.clock.now()
        claims += await world.database.transaction(
            lambda connection, now=now: webhooks.claim(connection, webhook.id, slots=1, now=now, until=now + timedelta(seconds=30))
        )
        world.clock.move(timedelta(seconds=31))
    late, current = claims
    now = world.clock.now()
    assert not await world.database.transaction(lambda connection: webhooks.failed(connection, late, "500", due_at=now, over=True, now=now))
    assert [state for _, _, state, _ in await world.rows()] == ["pending"]
    assert await world.database.transaction(lambda connection: webhooks.delivered(connection, current, now))
    assert await world.rows() == []


async def test_two_workers_never_send_the_same_delivery_at_once(world: World) -> None:
    webhook = await world.webhook()
    for number in range(30):
        await world.commit(COMPLETED, FAILED, user_id=f"user-{number % 10}")
    lanes = [await world.lane(webhook) for _ in range(3)]
    for _ in range(40):
        await asyncio.gather(*(lane.send_due() for lane in lanes))
        await asyncio.gather(*(lane.idle() for lane in lanes))
    assert await world.rows() == []
    for number in range(10):
        assert [offset for user_id, offset in world.receiver.what if user_id == f"user-{number}"] == [1, 2, 3, 4, 5, 6]


async def test_a_new_secret_signs_beside_the_old_one_for_a_day(world: World) -> None:
    webhook = await world.webhook()
    new = await world.keeping.renew_secret(webhook.id, by=OPERATOR)
    await world.commit(COMPLETED)
    await world.send(webhook)
    both = world.receiver.received[-1]
    old = webhook.keys[0]
    assert both.headers == headers_of([new, old], both.headers["webhook-id"], world.clock.now(), both.body)
    world.clock.move(timedelta(hours=24))
    await world.commit(COMPLETED)
    await world.send(webhook)
    one = world.receiver.received[-1]
    assert one.headers == headers_of([new], one.headers["webhook-id"], world.clock.now(), one.body)


async def test_a_test_event_is_in_nobodys_feed_and_can_be_sent_again(world: World) -> None:
    webhook = await world.webhook(COMPLETED)
    for _ in range(2):
        await world.keeping.test(webhook.id, by=OPERATOR)
        assert await world.send(webhook) == 1
        assert world.receiver.what[-1] == ("operator", None)
        assert TEST_EVENT.encode() in world.receiver.received[-1].body
    await world.keeping.test(webhook.id, by=OPERATOR)
    await world.keeping.test(webhook.id, by=OPERATOR)
    assert await world.send(webhook) == 1


async def test_a_deleted_webhook_gets_nothing_more_and_leaves_nothing(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    await world.keeping.delete(webhook.id, by=OPERATOR)
    await world.commit(COMPLETED)
    assert await world.keeping.listed() == []
    for _ in range(2):
        await world.sweep()
    async with world.database.reading() as connection:
        count = "SELECT count(*) FROM webhooks"
        assert await connection.fetchval(count) == 1, "somebody may still be publishing to it"
    world.clock.move(timedelta(seconds=61))
    await world.sweep()
    async with world.database.reading() as connection:
        assert await connection.fetchval(count) == 0
    assert await world.rows() == []


# --- a whole worker's sender -----------------------------------------------------------------------------------------


async def until(done: object, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not done():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_a_worker_sends_when_it_is_woken_and_learns_of_webhooks_by_its_sweep(world: World) -> None:
    published = asyncio.Event()
    sender = Sender(
        keeping=world.keeping, database=world.database, post=world.receiver, clock=world.clock, deadline=DEADLINE, published=published
    )
    running = asyncio.create_task(sender.run())
    try:
        webhook = await world.webhook()
        await world.commit(COMPLETED)
        await sender.sweep(world.clock.now())
        await until(lambda: len(world.receiver.received) == 1)
        await world.commit(COMPLETED, FAILED)
        published.set()
        await until(lambda: len(world.receiver.received) == 3)
        await world.keeping.delete(webhook.id, by=OPERATOR)
        await sender.sweep(world.clock.now())
        await world.commit(COMPLETED)
        published.set()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(world.receiver.received) == 3


async def test_a_secret_that_nobody_can_open_stops_its_own_webhook_only_and_a_new_one_mends_that(world: World) -> None:
    lost, well = await world.webhook(url="https://hooks.example/lost"), await world.webhook(url="https://hooks.example/well")
    async with world.database.reading() as connection:
        await connection.execute("UPDATE webhooks SET secret_sealed = $2 WHERE id = $1", lost.id, sealed_by_a_lost_key(lost.id))
    await world.commit(COMPLETED)
    sender = Sender(
        keeping=world.keeping, database=world.database, post=world.receiver, clock=world.clock, deadline=DEADLINE, published=asyncio.Event()
    )
    running = asyncio.create_task(sender.run())
    try:
        with capture_logs() as lines:
            for _ in range(3):
                await sender.sweep(world.clock.now())
            await until(lambda: len(world.receiver.received) == 1)
        (told,) = [line for line in lines if line["log_level"] == "error"]
        assert (told["event"], told["webhook_id"]) == ("webhook.secret_unreadable", lost.id)
        assert f"POST /v1/webhooks/{lost.id}/secret" in told["mend"]
        assert "MOA_VAULT_KEYS" in told["mend"]
        assert hidden(told["mend"]) == told["mend"], "or nobody could read what to do"
        assert world.receiver.received[0].url == well.url
        assert view(await world.seen(lost), (1, 0))["deliveries"]["last_failure"] == "secret_unreadable"
        assert [state for _, _, state, _ in await world.rows()] == ["pending"]
        key = await world.keeping.renew_secret(lost.id, by=OPERATOR)
        await sender.sweep(world.clock.now())
        await until(lambda: len(world.receiver.received) == 2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    one = world.receiver.received[-1]
    assert one.url == lost.url
    assert one.headers == headers_of([key], one.headers["webhook-id"], world.clock.now(), one.body)


def sealed_by_a_lost_key(webhook_id: str) -> bytes:
    vault = Vault("lost:" + base64.b64encode(b"l" * 32).decode())
    return vault.seal(b"s" * 24, *WEBHOOK_SECRET.row(webhook_id))


async def test_an_old_secret_that_nobody_can_open_is_no_reason_not_to_send(world: World) -> None:
    webhook = await world.webhook()
    key = await world.keeping.renew_secret(webhook.id, by=OPERATOR)
    async with world.database.reading() as connection:
        await connection.execute("UPDATE webhooks SET old_secret_sealed = $2 WHERE id = $1", webhook.id, sealed_by_a_lost_key(webhook.id))
    assert (await world.seen(webhook)).keys == (key,)


async def test_an_engine_that_is_away_ends_no_lane(world: World) -> None:
    webhook = await world.webhook()
    await world.commit(COMPLETED)
    lane = await world.lane(webhook)

    class Away:
        async def transaction(self, deed: object) -> None:
            raise EngineUnavailable("PostgreSQL")

    well, lane._database = lane._database, Away()  # type: ignore[assignment]
    running = asyncio.create_task(lane.run())
    lane.woken.set()
    await asyncio.sleep(0.05)
    assert not running.done()
    lane._database = well
    lane.woken.set()
    await until(lambda: len(world.receiver.received) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_operators_see_for_how_long_the_oldest_waits(world: World) -> None:
    async def none() -> None:
        return None

    async def shown() -> dict[tuple[str, ...], object]:
        return {sample.labels: sample.value for sample in await metrics.samples() if sample.metric is Metric.WEBHOOK_OLDEST}

    metrics = Metrics()
    watch_deliveries(metrics, database=world.database, messages=none, clock=world.clock)
    webhook = await world.webhook()
    assert await shown() == {("app",): 0, ("operators",): 0}
    await world.commit(COMPLETED)
    world.receiver.answers = lambda _: 500
    await world.send(webhook)
    world.clock.move(timedelta(seconds=90))
    assert await shown() == {("app",): 90, ("operators",): 0}
    world.receiver.answers = lambda _: 200
    await world.send(webhook)
    assert await shown() == {("app",): 0, ("operators",): 0}
