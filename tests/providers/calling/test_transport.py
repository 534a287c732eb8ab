"""Every way in which an institution can be wrong, over a real socket. Deadlines are real time here: they are the transport's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import structlog
from httpx_aiohttp import AiohttpTransport

from backend.errors import ProviderError, ProviderRefused, ProviderTimeout, ProviderUnavailable, Trouble
from backend.providers.calling.wire import open_wire
from backend.providers.calls import Call, Scope
from backend.providers.outcomes import Weight, outcome_of
from tests.providers.given import BANK, NOW, OPERATOR, provider, transport
from tests.providers.lines import POST, READ, line, tran_id_of, trouble
from tests.providers.rogue import OK, Talk

T = TypeVar("T")


async def test_httpx_really_speaks_through_aiohttp() -> None:
    async with open_wire(provider()) as wire:
        assert isinstance(wire, AiohttpTransport)


async def test_a_call_carries_the_standards_headers_and_a_new_tran_id_each_time() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer()

    async with line(behaviour) as each:
        await each.transport.call(READ)
        await each.transport.call(POST)
    first, second = each.server.requests
    assert first.startswith(b"GET /v1/bank/accounts?org_code=A1MOABK001&next_page=a%26b%3Dc HTTP/1.1\r\n")
    head = first.lower()
    assert b"\r\nauthorization: bearer secret-token\r\n" in head
    assert b"\r\nx-api-type: user-consent\r\n" in head
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert f"x-api-tran-id: {OPERATOR}M".lower().encode() in head
    assert second.endswith(b"\r\n\r\n" + (POST.body or b""))
    assert b"content-type: application/json; charset=utf-8" in second.lower()
    assert tran_id_of(first) != tran_id_of(second)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with open_wire(provider()) as client:
        with pytest.raises(ProviderUnavailable, match="connect"):
            await transport(client, "http://127.0.0.1:1").call(READ)


async def test_a_reset_and_a_closed_connection_are_unavailable_and_called_once() -> None:
    async def reset(talk: Talk) -> None:
        talk.reset()

    async def closed(talk: Talk) -> None:
        talk.writer.close()

    for behaviour in (reset, closed):
        for call in (READ, POST):
            async with line(behaviour) as each:
                with pytest.raises(ProviderUnavailable, match="reset"):
                    await each.transport.call(call)
                assert len(each.server.requests) == 1  # aiohttp would have repeated the GET


async def test_a_server_that_hangs_meets_the_deadline() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    assert await trouble(behaviour, deadline=0.1) == (Trouble.TIMEOUT, "deadline")


async def test_a_server_that_drips_meets_the_same_deadline() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await talk.send(b" ")
            await asyncio.sleep(0.02)

    assert await trouble(behaviour, deadline=0.2) == (Trouble.TIMEOUT, "deadline")


async def test_the_caller_may_have_less_time_than_the_call() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with line(behaviour) as each:
        for left in (0.1, 0.0, -1.0):
            with pytest.raises(ProviderTimeout, match="cut") as caught:
                await each.transport.call(READ, within=left)
            assert outcome_of(caught.value.reason).weight is Weight.IGNORED  # the provider had not its whole time
    assert len(each.server.requests) == 1  # without time nothing leaves


async def test_a_redirect_is_not_followed() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(b"", b"Location: /elsewhere", status=b"302 Found")

    async with line(behaviour) as each:
        with pytest.raises(ProviderError, match="http_302"):
            await each.transport.call(READ)
        assert len(each.server.requests) == 1


async def test_cookies_are_not_kept() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(OK, b"Set-Cookie: session=1; Path=/")

    async with line(behaviour) as each:
        await each.transport.call(READ)
        await each.transport.call(READ)
    assert b"cookie" not in each.server.requests[1].lower()


async def test_no_proxy_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with line(behaviour) as each:
        assert await each.transport.call(READ)


async def test_the_provider_says_when_it_may_be_called_again() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(b'{"rsp_code":"42901"}', b"Retry-After: 2", status=b"429 Too Many Requests")

    async with line(behaviour) as each:
        with pytest.raises(ProviderError) as caught:
            await each.transport.call(READ)
    assert caught.value.TROUBLE is Trouble.BUSY
    assert caught.value.retry_at is not None


async def test_the_log_tells_which_call_how_it_ended_and_nothing_else() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(b'{"rsp_code":"40402","rsp_msg":"secret"}', status=b"404 Not Found")

    async with line(behaviour) as each:
        with structlog.testing.capture_logs() as lines, pytest.raises(ProviderRefused):
            await each.transport.call(POST)
    [told] = [entry for entry in lines if entry["event"] == "provider.call"]
    assert told.keys() == {"event", "log_level", "org_code", "api_code", "status", "outcome", "ms", "tran_id"}
    assert (told["org_code"], told["api_code"], told["status"], told["outcome"]) == (BANK, "BA03", 404, "40402")
    assert "secret" not in str(lines) + repr(POST)
    assert "110123456789" not in str(lines) + repr(POST)


async def test_the_guard_stands_before_every_call_and_hears_how_it_ended() -> None:
    heard: list[object] = []

    class Open:
        async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
            try:
                answer = await attempt()
            except ProviderError as error:
                heard.append((org_code, call.scope, error.TROUBLE))
                raise
            heard.append((org_code, call.scope, "ok"))
            return answer

    class Closed:
        async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
            raise ProviderUnavailable(org_code, "circuit", retry_at=NOW)

    async def behaviour(talk: Talk) -> None:
        await talk.answer(OK if talk.number == 1 and not heard else b"")

    async with line(behaviour, guard=Open()) as each:
        await each.transport.call(READ)
        with pytest.raises(ProviderError):
            await each.transport.call(READ)
    assert heard == [(BANK, Scope.READ, "ok"), (BANK, Scope.READ, Trouble.INVALID_RESPONSE)]

    async with line(behaviour, guard=Closed()) as each:
        with pytest.raises(ProviderUnavailable, match="circuit"):
            await each.transport.call(READ)
    assert each.server.requests == []
