"""What both official clients do about tokens, lost messages and full pipes. One small API with nothing but the feed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.realtime.feed import SLICE_BYTES, Feed, Slice
from backend.realtime.mailbox import MOST_BYTES
from tests.clients import python
from tests.clients.apps import App, Snapshot
from tests.clients.cutting import cutting
from tests.clients.node import Node
from tests.realtime.given import Api, event, token, until

SLOW = 3008
INVALID_TOKEN = 3500
ANNA = "anna"

NUMBERS = itertools.count(1)


async def good_token() -> str:
    return token()


@asynccontextmanager
async def both_clients(
    api: Api, node: Node, *, get_token: Callable[[], Awaitable[str]] = good_token, port: int = 0
) -> AsyncIterator[list[App]]:
    """One app with the JavaScript client, one with the Python client, from now on."""
    number, port = next(NUMBERS), port or api.port
    url = f"ws://127.0.0.1:{port}/v1/events"
    position = await api.feed.position(ANNA)
    place = (position.epoch, position.offset)

    async def read_state() -> Snapshot:
        return Snapshot(place, [], [])

    javascript_app, python_app = App(f"javascript-{number}", get_token), App(f"python-{number}", get_token)
    node.open(javascript_app, url=url, http=api.url, how="since", since=place)
    async with python.following(python_app, url=url, read_state=read_state):
        yield [javascript_app, python_app]
    node.close(javascript_app)


def offsets(app: App) -> list[int]:
    return [offset for _, offset, _ in app.heard]


async def test_both_refresh_their_tokens_in_place(api: Api, node: Node) -> None:
    given: list[str] = []

    async def short_token() -> str:
        given.append(token(ttl=1.4))
        return given[-1]

    async with both_clients(api, node, get_token=short_token) as apps:
        await until(lambda: len(given) >= 6)  # real time: each client's third token, a second apart
        await api.append(1, 3)
        await until(lambda: all(offsets(app) == [1, 2, 3] for app in apps))
        assert [(app.connecting, app.disconnected, app.attaches) for app in apps] == [([0], [], 1)] * 2, "nobody went, so nobody came back"


async def test_both_ask_for_another_token_when_theirs_has_expired(api: Api, node: Node) -> None:
    expired = [token(ttl=-1), token(ttl=-1)]

    async def get_token() -> str:
        return expired.pop() if expired else token()

    async with both_clients(api, node, get_token=get_token) as apps:
        await until(lambda: all(app.attaches for app in apps))
        assert all(app.disconnected == [] for app in apps)


async def test_both_stop_for_good_with_a_token_that_is_no_good(api: Api, node: Node) -> None:
    async def get_token() -> str:
        return token(secret="z" * 32)

    async with both_clients(api, node, get_token=get_token) as apps:
        await until(lambda: all(app.disconnected for app in apps))
        assert all(app.disconnected == [INVALID_TOKEN] for app in apps)


async def test_a_last_message_that_was_lost_arrives_within_a_second_on_the_same_connection(api: Api, node: Node) -> None:
    async with both_clients(api, node) as apps:
        await until(lambda: all(app.attaches for app in apps))
        await api.append(1, 1)
        await until(lambda: all(offsets(app) == [1] for app in apps))
        began = asyncio.get_running_loop().time()
        await append_silently(api, 2)
        await until(lambda: all(offsets(app) == [1, 2] for app in apps))
        assert asyncio.get_running_loop().time() - began < 1.5, "a second, and what a busy machine adds"
        assert [(app.faults, app.connecting, app.attaches) for app in apps] == [([], [0], 1)] * 2


async def append_silently(api: Api, offset: int) -> None:
    """What `append.lua` leaves behind when nobody hears its message."""
    keys = [key for key in await api.redis.keys("moa:feed:v1:*") if key.endswith((b":head", b":log"))]
    head, log = sorted(keys)
    await api.redis.xadd(log, {"t": 1, "e": event(offset)}, id=f"{offset}-0")
    await api.redis.hset(head, "top", str(offset))


async def test_a_client_that_does_not_read_is_closed_and_misses_nothing_when_it_is_back(api: Api, node: Node) -> None:
    most = 0
    size = 20_000
    async with cutting(api.port) as proxy, both_clients(api, node, port=proxy.port) as apps:
        await until(lambda: all(app.attaches for app in apps))
        proxy.flowing.clear()
        mailboxes = list(api.hub._places)
        assert len(mailboxes) == 2
        for offset in range(1, 701):
            await api.feed.append(ANNA, [(offset, padded(offset, size))])
            most = max(most, *(mailbox._bytes for mailbox in mailboxes))
            if not api.hub._places:
                break
        await until(lambda: not api.hub._places)
        proxy.flowing.set()
        await until(lambda: all(app.place is not None and app.place[1] == offset for app in apps), 15)
        assert [offsets(app) for app in apps] == [list(range(1, offset + 1))] * 2
        assert all(SLOW in app.connecting for app in apps), [app.connecting for app in apps]
        assert [(app.faults, app.losses) for app in apps] == [([], 0)] * 2
    assert MOST_BYTES / 2 < most <= MOST_BYTES + size + 200


async def test_a_page_that_computes_for_long_loses_nothing(api: Api, node: Node) -> None:
    async with both_clients(api, node) as apps:
        await until(lambda: all(app.attaches for app in apps))
        node.tell(do="block", ms=300)
        await api.append(1, 900)
        await until(lambda: all(offsets(app) == list(range(1, 901)) for app in apps))
        assert [app.faults for app in apps] == [[], []]


@pytest.mark.parametrize("behind", [1, 1000])
async def test_both_recover_a_whole_log_in_pieces_of_bounded_size(
    api: Api, node: Node, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = sizes_of_pieces(api.feed, monkeypatch)
    async with both_clients(api, node) as apps, cutting(api.port) as proxy, both_clients(api, node, port=proxy.port) as late:
        await until(lambda: all(app.attaches for app in [*apps, *late]))
        proxy.target = 1  # nobody listens there
        proxy.cut()
        await until(lambda: all(app.connecting[1:] for app in late))
        for offset in range(1, behind + 1):
            await api.feed.append(ANNA, [(offset, padded(offset, 3000))])
        await until(lambda: all(app.place is not None and app.place[1] == behind for app in apps), 10)
        proxy.target = api.port
        await until(lambda: all(app.place is not None and app.place[1] == behind for app in late), 10)
        for app in [*apps, *late]:
            assert (app.faults, app.losses, offsets(app)) == ([], 0, list(range(1, behind + 1)))
    assert max(pieces) <= SLICE_BYTES


def sizes_of_pieces(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the bytes of each slice that is read from now on."""
    sizes: list[int] = []
    read = feed.read

    async def measured(*arguments: Any) -> Slice:
        found = await read(*arguments)
        sizes.append(sum(len(told) for _, told in found.entries))
        return found

    monkeypatch.setattr(feed, "read", measured)
    return sizes


def padded(offset: int, size: int) -> bytes:
    return event(offset).replace(b'"data":{', b'"data":{"padding":"%b",' % (b"x" * size))
