"""SSE, line by line of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import orjson
import pytest

from backend.realtime import streams
from tests.realtime.given import Api, event, token, until


class Stream:
    """Reads blocks of a stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def block(self) -> dict[str, str]:
        """The next block's fields; a comment is the field "". Raises `StopAsyncIteration` at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(5):
            while line := await anext(self._lines):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        return fields

    async def numbers(self, count: int) -> list[tuple[str, str, int]]:
        blocks = [await self.block() for _ in range(count)]
        return [(block["id"], block["event"], orjson.loads(block["data"])["data"]["n"]) for block in blocks]

    async def position(self) -> tuple[str, dict[str, object]]:
        block = await self.block()
        assert block["event"] == "position"
        return block["id"], orjson.loads(block["data"])

    async def ended(self) -> bool:
        with pytest.raises(StopAsyncIteration):
            await self.block()
        return True


@asynccontextmanager
async def stream(api: Api, *, path: str = "/v1/events", since: str | None = None, **headers: str) -> AsyncIterator[Stream]:
    params = {} if since is None else {"since": since}
    async with (
        api.http(**{"Accept": "text/event-stream", **headers}) as client,
        client.stream("GET", path, params=params) as response,
    ):
        yield Stream(response)


async def test_a_stream_opens_with_the_position_and_goes_on_live(api: Api) -> None:
    await api.append(1, 2)
    epoch = (await api.feed.position("anna")).epoch
    async with stream(api) as listening:
        assert listening.response.headers["content-type"].startswith("text/event-stream")
        assert await listening.position() == (f"{epoch}:2", {"epoch": epoch, "offset": 2, "recovered": True})
        await api.append(3, 4)
        assert await listening.numbers(2) == [(f"{epoch}:3", "provider.connecting", 3), (f"{epoch}:4", "provider.connecting", 4)]
    await until(lambda: not api.hub._open)


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_stream_resumes_where_it_was_cut(api: Api, by_header: bool) -> None:
    await api.append(1, 3)
    epoch = (await api.feed.position("anna")).epoch
    asked = f"{epoch}:1"
    opened = stream(api, since=f"{epoch}:0", **{"Last-Event-ID": asked}) if by_header else stream(api, since=asked)
    async with opened as listening:
        assert await listening.position() == (asked, {"epoch": epoch, "offset": 1, "recovered": True})
        assert [number for _, _, number in await listening.numbers(2)] == [2, 3]


async def test_lost_history_is_said_and_the_stream_goes_on_live(api: Api) -> None:
    await api.append(1, 3)
    epoch = (await api.feed.position("anna")).epoch
    async with stream(api, since="gone:1") as listening:
        assert await listening.position() == (f"{epoch}:3", {"epoch": epoch, "offset": 3, "recovered": False})
        await api.append(4, 4)
        assert await listening.numbers(1) == [(f"{epoch}:4", "provider.connecting", 4)]


async def test_history_that_is_lost_in_mid_stream_is_said_there(api: Api) -> None:
    async with stream(api) as listening:
        await listening.position()
        await api.append(1, 1)
        await listening.numbers(1)
        await api.feed.append("anna", [(7, event(7))], rebase=True)
        epoch = (await api.feed.position("anna")).epoch
        assert await listening.position() == (f"{epoch}:7", {"epoch": epoch, "offset": 7, "recovered": False})
        await api.append(8, 8)
        assert await listening.numbers(1) == [(f"{epoch}:8", "provider.connecting", 8)]


async def test_a_stream_that_cannot_say_in_time_what_was_lost_ends_and_its_client_comes_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ANSWER_SECONDS", 0.05)
    async with stream(api) as listening:
        await listening.position()
        [mailbox] = api.hub._open

        async def hanging(*_: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(api.hub, "attach", hanging)
        mailbox.put_lost()
        assert await listening.block() == {"": ""}
        assert await listening.ended()


async def test_a_quiet_stream_has_comments(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "COMMENT_SECONDS", 0.02)  # a real stream: time cannot be moved from here
    async with stream(api) as listening:
        await listening.position()
        assert await listening.block() == {"": ""}
        assert await listening.block() == {"": ""}


async def test_a_stream_ends_with_its_token(api: Api) -> None:
    async with stream(api, Authorization=f"Bearer {token(ttl=0.6)}") as listening:
        await listening.position()
        assert await listening.ended()
    await until(lambda: not api.hub._open)


async def test_a_drain_ends_streams_and_lets_nobody_in(api: Api) -> None:
    async with stream(api) as listening:
        await listening.position()
        await api.hub.drain(0)
        assert await listening.ended()
    async with stream(api) as refused:
        assert refused.response.status_code == 503


async def test_too_many_streams_of_one_user_are_refused(api_with: Callable[..., AbstractAsyncContextManager[Api]]) -> None:
    async with api_with(sockets_per_user=1) as api:
        async with stream(api) as first:
            await first.position()
            async with stream(api) as second:
                assert second.response.status_code == 429
        await until(lambda: not api.hub._open)
        async with stream(api) as third:
            assert third.response.status_code == 200


async def test_a_malformed_position_is_refused(api: Api) -> None:
    async with stream(api, **{"Last-Event-ID": "nonsense"}) as refused:
        assert refused.response.status_code == 400


async def test_without_valkey_a_stream_is_refused_before_it_begins(api_with: Callable[..., AbstractAsyncContextManager[Api]]) -> None:
    async with api_with(url="unix:///nowhere/at/all.sock") as api:
        async with stream(api) as refused:
            assert refused.response.status_code == 503
        assert not api.hub._open


async def test_an_accept_list_counts_and_anything_else_polls(api: Api) -> None:
    async with stream(api, Accept="text/html, text/event-stream;q=0.9") as listening:
        await listening.position()
    for accept in ("*/*", "text/event-stream;q=0", "application/json, text/event-stream; q=0.000"):
        async with api.http(Accept=accept) as client:
            assert (await client.get("/v1/events")).headers["content-type"] == "application/json"


def test_an_event_of_unknown_shape_is_a_message() -> None:
    assert streams.event("e", (1, b'{"x":1}')) == b'id: e:1\nevent: message\ndata: {"x":1}\n\n'
