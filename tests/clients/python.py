"""The official Python client, unmodified, as an app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from centrifuge import Client, ClientEventHandler, PublicationContext, StreamPosition, SubscriptionEventHandler
from centrifuge.contexts import ConnectingContext, DisconnectedContext, ErrorContext, SubscribedContext, SubscriptionErrorContext

from tests.clients.apps import App, Snapshot

ReadState = Callable[[], Awaitable[Snapshot]]


class OfConnection(ClientEventHandler):  # type: ignore[misc]
    def __init__(self, app: App) -> None:
        self._app = app

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self._app.connecting.append(ctx.code)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self._app.disconnected.append(ctx.code)

    async def on_error(self, ctx: ErrorContext) -> None:
        self._app.errors.append(ctx.code)


class OfSubscription(SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, app: App) -> None:
        self._app = app

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        place = ctx.stream_position
        self._app.attached((place.epoch, place.offset), recovered=ctx.recovered)

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._app.event(ctx.pub.offset, ctx.pub.data)

    async def on_error(self, ctx: SubscriptionErrorContext) -> None:
        self._app.errors.append(ctx.code)


@asynccontextmanager
async def following(app: App, *, url: str, read_state: ReadState, token: str | None = None) -> AsyncIterator[None]:
    """The app follows the feed while the block runs. Without `token`, the client asks `app.get_token`."""

    async def get_state(_channel: str) -> StreamPosition:
        snapshot = await read_state()
        app.read(snapshot, goes_on=True)
        return StreamPosition(epoch=snapshot.place[0], offset=snapshot.place[1])

    identity: dict[str, Any] = {"token": token} if token else {"get_token": app.get_token}
    client = Client(url, events=OfConnection(app), min_reconnect_delay=0.01, max_reconnect_delay=0.05, proxy=None, **identity)
    subscription = client.new_subscription(
        "feed", events=OfSubscription(app), get_state=get_state, min_resubscribe_delay=0.01, max_resubscribe_delay=0.05
    )
    await client.connect()
    await subscription.subscribe()
    try:
        yield
    finally:
        await client.disconnect()
