"""Processes beside the generator: they answer, they can be frozen, and they end with whoever asked."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from backend.clock import SystemClock
from backend.providers.clients import http_clients
from backend.providers.contract import ApiType, Person, SignedConsent
from backend.providers.directory import directory_of
from backend.providers.user_ci import development_user_ci
from backend.realtime.feed import Feed
from backend.settings import Settings
from benchmarks.callers import WAYS
from benchmarks.companions import Silent, companion
from benchmarks.handing_over import Load, by_ours
from benchmarks.pushing import PROVIDER, directory, event_of
from benchmarks.standing_in import LATENCY
from benchmarks.takers import RAW_WAITING, wire

CLOCK = SystemClock()


async def test_a_companion_that_ends_is_told_of() -> None:
    with pytest.raises(Silent):
        async with companion("benchmarks.figures"):  # a module that serves nothing
            raise AssertionError("it has nothing to say")


@pytest.mark.parametrize("taker", [("leased",), ("stock", "--poll", "0.005")])
async def test_a_taker_notes_when_each_job_was_entered(taker: tuple[str, ...], valkey_url: str) -> None:
    redis = wire(valkey_url)
    async with companion("benchmarks.takers", *taker, "--url", valkey_url) as process:
        load = Load(process, by_ours(redis))
        times = await load.picked_up([0.0, 0.01, 0.02])
        await load.hold(3)
        assert len(await load.picked_up([0.0])) == 1
    await redis.aclose()
    assert len(times) == 3
    assert all(0 < each < 5000 for each in times)


async def test_a_frozen_taker_takes_nothing_until_it_is_let_go(valkey_url: str) -> None:
    redis = wire(valkey_url)
    async with companion("benchmarks.takers", "raw", "--url", valkey_url) as process:
        await process.ask(all=True)
        process.freeze()
        await redis.rpush(RAW_WAITING, "n1", "n2", "n3")
        await asyncio.sleep(0.1)  # real time: another process must not move
        waiting = await redis.llen(RAW_WAITING)
        process.thaw()
        async with asyncio.timeout(5):
            while await redis.llen(RAW_WAITING):
                await asyncio.sleep(0.01)
        entered = (await process.ask(all=True))["entered"]
    await redis.aclose()
    assert waiting >= 2  # the first was handed over by Valkey
    assert [number for number, _ in entered] == [1, 2, 3]


async def test_the_floor_brings_each_append_to_the_client_as_one_frame(valkey_url: str) -> None:
    redis = wire(valkey_url)

    async def nothing_waits(_person: str) -> int:
        return 0

    feed = Feed(redis=redis, relayed=nothing_waits)
    async with companion("benchmarks.floor", "--valkey", valkey_url) as floor, companion("benchmarks.listening") as client:
        url = (await floor.ask(url=True))["url"]
        await client.ask(url=url, open=[("alice", "alice"), ("bob", "bob")])
        before = time.monotonic()
        await feed.append("bob", [(1, event_of(7))])
        await feed.append(
            "alice",
            [
                (1, event_of(8)),
            ],
        )
        heard = []
        async with asyncio.timeout(5):
            while len(heard) < 2:
                heard += await client.ask(take=True)
    await redis.aclose()
    assert {(person, text) for person, _, text in heard} == {("bob", event_of(7).decode()), ("alice", event_of(8).decode())}
    assert all(before < moment < time.monotonic() for _, moment, _ in heard)


async def test_who_stands_in_for_a_provider_is_read_like_one_and_notes_its_list(tmp_path: Path) -> None:
    async with companion("benchmarks.standing_in") as provider:
        listed = tmp_path / "providers.toml"
        listed.write_text(directory(1, (await provider.ask(url=True))["url"]), encoding="utf-8")
        settings = Settings(_env_file=None, providers_file=listed)  # type: ignore[call-arg]
        known = directory_of(settings)
        async with http_clients(lambda: known, settings, CLOCK) as clients:
            client, now = clients.provider(PROVIDER), CLOCK.now()
            tokens = await client.request_token(ALICE, CONSENT, now)
            before = time.monotonic()
            async with aclosing(client.collect(tokens.access_token, ApiType.USER_CONSENT, now)) as answers:
                assets = [asset async for answer in answers for asset in answer]
        ((user, moment),) = await provider.ask(take=True)
    assert assets[0].kind.value == "telecom"
    assert user == "alice"
    assert moment >= before + LATENCY - 0.002  # timers count in milliseconds


@pytest.mark.parametrize("way", list(WAYS))
async def test_every_way_to_call_a_bank_reads_the_page_that_it_sent(way: str) -> None:
    async with companion("benchmarks.listed_bank") as bank:
        url = (await bank.ask(url=True))["url"]
        async with companion("benchmarks.callers", way, "--url", url) as caller:
            told = await caller.ask(seconds=0.02, at_once=3)
    assert told["answered"] >= 3
    assert 0 < told["cpu"] < told["seconds"] + 1
    assert len(told["times"]) == told["answered"]


ALICE = Person(user_ci=development_user_ci("alice"), real_name="김모아", phone_num="+821000000000")
CONSENT = SignedConsent(
    org_code=PROVIDER,
    tx_id="tx",
    document="{}",
    ends_on=CLOCK.now().date(),
    signed_consent="signed",
    cert_tx_id="cert",
    ca_code="CAMOA00001",
)
