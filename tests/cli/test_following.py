"""How the client follows a feed when it is cut or history is lost: with connections that do what a test wants."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import httpx
import pytest

from backend.cli import following
from backend.cli.following import Api, Cut, Lost, NoAnswer, Told, by_poll, by_sse, follow
from backend.cli.progress import Event, Position


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with httpx.AsyncClient() as http:
        yield Api("http://moa", "secret-token", http)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_PAUSE", 0)


class Script:
    """A connection that tells what is written for its first life, its second, and so on; it remembers where each began."""

    def __init__(self, *lives: list[int | Exception]) -> None:
        self._lives = iter(lives)
        self.began: list[Position] = []

    async def __call__(self, _: Api, since: Position) -> AsyncGenerator[Told, None]:
        self.began.append(since)
        for step in next(self._lives):
            if isinstance(step, Exception):
                raise step
            yield Position(since.epoch, step), Event(str(step))


async def heard(script: Script, api: Api, count: int, reread: Callable[[], object] | None = None) -> list[str]:
    async def again() -> Position | None:
        return reread() if reread else None  # type: ignore[return-value]

    async with aclosing(follow(script, api, Position("e", 0), again)) as events:
        found = []
        async for event in events:
            found.append(event.type)
            if len(found) == count:
                break
    return found


async def test_after_a_cut_it_goes_on_where_it_was(api: Api) -> None:
    script = Script([1, 2, Cut()], [Cut()], [httpx.ConnectError("")], [3])
    assert await heard(script, api, 3) == ["1", "2", "3"]
    assert [position.offset for position in script.began] == [0, 2, 2, 2]


async def test_lost_history_is_read_again_and_followed_from_there(api: Api) -> None:
    script = Script([1, Lost()], [10])
    assert await heard(script, api, 2, lambda: Position("f", 9)) == ["1", "10"]
    assert script.began[1] == Position("f", 9)


async def test_it_ends_when_the_snapshots_say_that_all_is_over(api: Api) -> None:
    assert await heard(Script([1, Lost()]), api, 99) == ["1"]


async def test_a_refusal_is_passed_on(api: Api) -> None:
    with pytest.raises(NoAnswer):
        await heard(Script([NoAnswer("no")]), api, 1)


def test_the_token_is_in_no_repr(api: Api) -> None:
    assert "secret" not in repr(api)


async def told(connection: following.Connection, body: bytes | list[bytes], status: int = 200) -> list[tuple[int, str]]:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in [body] if isinstance(body, bytes) else body:
            yield chunk

    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=chunks()))
    found = []
    async with httpx.AsyncClient(transport=transport, base_url="http://moa") as http:
        try:
            async for position, event in connection(Api("http://moa", "t", http), Position("e", 1)):
                found.append((position.offset, event.type))
                if len(found) == 3:
                    break
        except Cut:
            found.append((0, "cut"))
    return found


OPENING = b'event: position\nid: e:1\ndata: {"epoch":"e","offset":1,"recovered":true}\n\n'
STREAM = (
    OPENING + b':\n\nid: e:2\nevent: a\ndata: {"type":"a","at":"","data":{}}\n\nid: e:3\nevent: b\ndata: {"type":"b","at":"","data":{}}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_is_read_however_it_is_chopped(size: int) -> None:
    chopped = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert await told(by_sse, chopped) == [(2, "a"), (3, "b"), (0, "cut")]


async def test_a_stream_that_lost_history_says_so() -> None:
    with pytest.raises(Lost):
        await told(by_sse, OPENING.replace(b"true", b"false"))


@pytest.mark.parametrize("body", [b"id: nonsense\ndata: {}\n\n", b"id: e:2\ndata: [\n\n", b"id: e:2\ndata: 7\n\n"])
async def test_a_stream_that_makes_no_sense_is_cut(body: bytes) -> None:
    assert await told(by_sse, OPENING + body) == [(0, "cut")]


async def test_a_message_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LARGEST", 100)
    assert await told(by_sse, [b"x" * 60, b"x" * 60]) == [(0, "cut")]


async def test_a_poll_that_lost_history_says_so() -> None:
    with pytest.raises(Lost):
        await told(by_poll, b'{"epoch":"f","offset":0,"recovered":false,"events":[]}')


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("connection", [by_poll, by_sse])
async def test_a_server_that_is_busy_or_ill_is_tried_again(connection: following.Connection, status: int) -> None:
    assert await told(connection, b"{}", status) == [(0, "cut")]


@pytest.mark.parametrize("connection", [by_poll, by_sse])
async def test_a_server_that_refuses_is_not_tried_again(connection: following.Connection) -> None:
    with pytest.raises(NoAnswer):
        await told(connection, b"{}", 401)
