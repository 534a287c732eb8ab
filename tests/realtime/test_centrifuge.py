"""The official Python client, unmodified, is the examiner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from centrifuge import Client, ClientEventHandler, PublicationContext, StreamPosition, SubscriptionEventHandler
from centrifuge.contexts import ConnectingContext, DisconnectedContext, SubscribedContext, SubscribingContext

from backend.events import Position
from backend.realtime import session
from tests.realtime.given import Api, event, token, until


@dataclass
class Heard(SubscriptionEventHandler, ClientEventHandler):  # type: ignore[misc]
    """Everything that the client says happened."""

    offsets: list[int] = field(default_factory=list)
    subscribed: list[SubscribedContext] = field(default_factory=list)
    subscribing: list[int] = field(default_factory=list)
    connecting: list[int] = field(default_factory=list)
    disconnected: list[int] = field(default_factory=list)

    async def on_publication(self, ctx: PublicationContext) -> None:
        assert ctx.pub.data["data"]["n"] == ctx.pub.offset
        self.offsets.append(ctx.pub.offset)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.append(ctx)

    async def on_subscribing(self, ctx: SubscribingContext) -> None:
        self.subscribing.append(ctx.code)

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self.connecting.append(ctx.code)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.disconnected.append(ctx.code)


class ConnectionOf(ClientEventHandler):  # type: ignore[misc]
    """The connection's events; their names are those of the subscription's too."""

    def __init__(self, heard: Heard) -> None:
        self.on_connecting = heard.on_connecting
        self.on_disconnected = heard.on_disconnected


GetToken = Callable[[], Awaitable[str]]
GetState = Callable[[str], Awaitable[StreamPosition]]


@asynccontextmanager
async def following(
    api: Api, *, get_token: GetToken | None = None, get_state: GetState | None = None
) -> AsyncIterator[tuple[Client, Heard]]:
    heard = Heard()
    options: dict[str, Any] = {"get_token": get_token} if get_token else {"token": token()}
    client = Client(
        api.websocket_url, events=ConnectionOf(heard), min_reconnect_delay=0.01, max_reconnect_delay=0.05, proxy=None, **options
    )
    subscription = client.new_subscription("feed", events=heard, get_state=get_state, min_resubscribe_delay=0.01)
    await client.connect()
    await subscription.subscribe()
    try:
        yield client, heard
    finally:
        await client.disconnect()


async def cut(client: Client) -> None:
    """As a tunnel or a lift does: no goodbye."""
    if client._conn is not None:
        client._conn.transport.abort()
    await asyncio.sleep(0)


async def test_it_follows_events_as_they_come(api: Api) -> None:
    async with following(api) as (_, heard):
        await until(lambda: bool(heard.subscribed))
        for offset in range(1, 31):
            await api.append(offset, offset)
        await until(lambda: len(heard.offsets) == 30)
    assert heard.offsets == list(range(1, 31))


async def test_it_misses_nothing_through_abrupt_cuts(api: Api) -> None:
    async with following(api) as (client, heard):
        await until(lambda: bool(heard.subscribed))

        async def cuts() -> None:
            while True:
                await asyncio.sleep(0.03)  # real time: the client's own back-off is part of what is tested
                await cut(client)

        cutting = asyncio.create_task(cuts())
        for offset in range(1, 201):
            await api.append(offset, offset)
            await asyncio.sleep(0.003)
        cutting.cancel()
        await until(lambda: heard.offsets[-1:] == [200])
    assert heard.offsets == list(range(1, 201))
    assert len(heard.connecting) > 3, "there were no cuts"
    assert all(ctx.recovered for ctx in heard.subscribed[1:])


async def test_with_state_first_it_starts_from_the_snapshots_position(api: Api) -> None:
    await api.append(1, 5)
    epoch = (await api.feed.position("anna")).epoch
    asked: list[str] = []

    async def get_state(channel: str) -> StreamPosition:
        asked.append(channel)
        return StreamPosition(offset=2, epoch=epoch)

    async with following(api, get_state=get_state) as (_, heard):
        await until(lambda: heard.offsets == [3, 4, 5])
    assert asked == ["feed"]


async def test_with_state_first_it_reads_the_state_again_when_history_is_gone(api: Api) -> None:
    await api.append(1, 5)
    positions = [Position("gone", 2), await api.feed.position("anna")]

    async def get_state(channel: str) -> StreamPosition:
        position = positions.pop(0)
        return StreamPosition(offset=position.offset, epoch=position.epoch)

    async with following(api, get_state=get_state) as (_, heard):
        await until(lambda: bool(heard.subscribed))
        await api.append(6, 6)
        await until(lambda: heard.offsets == [6])
    assert positions == []


async def test_an_epoch_that_changes_under_it_is_told(api: Api) -> None:
    async with following(api) as (_, heard):
        await until(lambda: bool(heard.subscribed))
        await api.append(1, 1)
        await until(lambda: heard.offsets == [1])
        await api.feed.append("anna", [(5, event(5))], rebase=True)
        await until(lambda: len(heard.subscribed) == 2)
        await api.append(6, 6)
        await until(lambda: heard.offsets == [1, 6])
    assert 2500 in heard.subscribing
    assert (heard.subscribed[1].was_recovering, heard.subscribed[1].recovered) == (True, False)


async def test_it_gets_a_new_token_when_its_own_has_expired(api: Api) -> None:
    tokens = [token(ttl=-1), token()]

    async def get_token() -> str:
        return tokens.pop(0)

    async with following(api, get_token=get_token) as (_, heard):
        await until(lambda: bool(heard.subscribed))
    assert tokens == []


async def test_it_refreshes_its_token_in_place(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "EXPIRY_GRACE_SECONDS", 0.4)
    given: list[str] = []

    async def get_token() -> str:
        given.append(token(ttl=1.3 if not given else 3600))
        return given[-1]

    async with following(api, get_token=get_token) as (_, heard):
        await until(lambda: len(given) == 2)
        await asyncio.sleep(0.8)  # real time: the first token's end passes
        await api.append(1, 1)
        await until(lambda: heard.offsets == [1])
    assert heard.connecting == [0], "it never came back, because it never went"


@pytest.mark.parametrize("bad", ["nonsense", token(secret="z" * 32)])
async def test_a_token_that_is_no_good_stops_it_for_good(api: Api, bad: str) -> None:
    async def get_token() -> str:
        return bad

    async with following(api, get_token=get_token) as (_, heard):
        await until(lambda: bool(heard.disconnected))
    assert heard.disconnected[0] == 3500


async def test_a_drain_makes_it_come_back_by_itself(api: Api) -> None:
    async with following(api) as (_, heard):
        await until(lambda: bool(heard.subscribed))
        await api.hub.drain(0)
        await until(lambda: 3001 in heard.connecting)


async def test_a_client_without_pongs_would_be_noticed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_SECONDS", 0.05)
    monkeypatch.setattr(session, "PONG_SECONDS", 0.2)
    async with following(api) as (_, heard):
        await until(lambda: bool(heard.subscribed))
        await asyncio.sleep(0.4)  # real time: several pings and pongs
        assert heard.connecting == [0]
