"""Every way in which an institution can be wrong, over a real socket. Deadlines are real time here: they are the transport's own."""

from __future__ import annotations

import asyncio
import gzip
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import structlog
from httpx_aiohttp import AiohttpTransport

from backend.clock import ManualClock
from backend.errors import ProviderError, ProviderRefused, ProviderTimeout, ProviderUnavailable, Trouble
from backend.providers.calls import Call, Scope
from backend.providers.contract import ApiType
from backend.providers.outcomes import Weight, outcome_of
from backend.providers.payloads import Envelope, Malformed, decode, reader
from backend.providers.retrying import EARNED, LONGEST_JITTER, MOST_SAVED
from backend.providers.transport import MAX_BODY_BYTES, Repeats, Transport
from backend.providers.wire import MAX_HEADERS, open_wire
from tests.providers.given import BANK, NOW, OPERATOR, provider, transport
from tests.providers.rogue import OK, Behaviour, Rogue, Talk, rogue

T = TypeVar("T")

READ: Call[Envelope] = Call(
    api_code="BA01",
    scope=Scope.READ,
    method="GET",
    path="/v1/bank/accounts",
    read=reader(Envelope),
    query={"org_code": BANK, "next_page": "a&b=c"},
    token="secret-token",
    api_type=ApiType.USER_CONSENT,
    repeatable=True,
)
POST = replace(READ, api_code="BA03", method="POST", query={}, body=b'{"account_num":"110123456789"}')


@dataclass
class Line:
    """A transport and the server at its other end."""

    transport: Transport
    server: Rogue


@asynccontextmanager
async def line(behaviour: Behaviour, *, connections: int = 10, **more: Any) -> AsyncIterator[Line]:
    async with rogue(behaviour) as server, open_wire(provider(server.url, max_connections=connections)) as wire:
        yield Line(transport(wire, server.url, **more), server)


async def trouble(behaviour: Behaviour, call: Call[Any] = READ, **more: Any) -> tuple[Trouble, str]:
    """What one call to such a server becomes."""
    async with line(behaviour, **more) as each:
        with pytest.raises(ProviderError) as caught:
            await each.transport.call(call)
        printed = "".join(traceback.format_exception(caught.value))
        assert "During handling" not in printed  # causes quote URLs and bytes
        assert "direct cause" not in printed
        return caught.value.TROUBLE, caught.value.reason


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
    assert _tran_id(first) != _tran_id(second)


def _tran_id(request: bytes) -> bytes:
    return next(entry for entry in request.lower().split(b"\r\n") if entry.startswith(b"x-api-tran-id"))


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


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + OK[:10],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n" + OK[:10],
        b"HTTP/1.1 200 OK\r\n\r\n" + OK[:10],  # without a length it looks whole
    ],
)
async def test_half_an_answer_is_invalid(head: bytes) -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.send(head)
        talk.writer.close()

    found, reason = await trouble(behaviour)
    assert found is Trouble.INVALID_RESPONSE
    assert reason in {"truncated", "malformed"}


async def test_bytes_that_are_not_http_are_invalid() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        talk.writer.close()

    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "not_http")


async def test_headers_without_end_are_invalid() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n")

    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "not_http")


@pytest.mark.parametrize(("lines", "well"), [(MAX_HEADERS - 1, True), (MAX_HEADERS + 1, False), (5000, False)])
async def test_more_headers_than_are_allowed_are_invalid(lines: int, well: bool) -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(OK, *(b"X-%d: 1" % number for number in range(lines - 1)))  # beside Content-Length

    if well:
        async with line(behaviour) as each:
            assert await each.transport.call(READ)
    else:
        assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "not_http")


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"rsp_code":"00000","more":' + opening * levels + b"1" + closing * levels + b"}"


@pytest.mark.parametrize("body", [nested(100_000), nested(500_000), nested(100_000, b'{"a":', b"}"), nested(1_000_000)[:1_000_000]])
async def test_a_body_nested_beyond_all_bounds_is_invalid_and_costs_little(body: bytes) -> None:
    """The parser stops at the interpreter's own bound, in fields that nobody reads, too: 10 to 240 us were measured for 1 MiB."""

    async def behaviour(talk: Talk) -> None:
        await talk.answer(body)

    before = time.thread_time()
    with pytest.raises(Malformed):
        decode(Envelope, body)
    assert time.thread_time() - before < 0.1
    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "malformed" if len(body) <= MAX_BODY_BYTES else "oversize")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'"\xff"', b"[" * 100_000, b'{"rsp_code":12}'])
async def test_a_body_that_is_not_the_standards_json_is_invalid(body: bytes) -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(body)

    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "malformed")


async def test_an_encoded_answer_is_refused_unread() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(gzip.compress(OK), b"Content-Encoding: gzip")

    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "encoded")


async def test_a_body_is_read_to_its_bound_and_not_further() -> None:
    sent = 0

    async def behaviour(talk: Talk) -> None:
        nonlocal sent
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            await talk.send(b" " * 65_536)
            sent += 65_536

    assert await trouble(behaviour) == (Trouble.INVALID_RESPONSE, "oversize")
    assert sent < 16 * MAX_BODY_BYTES


async def test_the_largest_body_that_is_allowed_is_read() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(OK.ljust(MAX_BODY_BYTES))

    async with line(behaviour) as each:
        assert (await each.transport.call(READ)).rsp_code == "00000"


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


def stale() -> Behaviour:
    """Answers once on the first connection, then closes it when the next call comes in."""

    async def behaviour(talk: Talk) -> None:
        if talk.number == 1 and b"first" not in talk.request:
            talk.writer.close()
            return
        await talk.answer()

    return behaviour


FIRST = replace(READ, query={"first": "1"})


@pytest.mark.parametrize("call", [READ, POST])
async def test_a_read_on_a_connection_that_had_gone_stale_is_repeated_once(call: Call[Envelope]) -> None:
    async with line(stale()) as each:
        await each.transport.call(FIRST)
        assert await each.transport.call(call)
    assert len(each.server.requests) == 3
    assert len({_tran_id(request) for request in each.server.requests}) == 3


async def test_what_has_an_effect_is_not_repeated() -> None:
    async with line(stale()) as each:
        await each.transport.call(FIRST)
        with pytest.raises(ProviderUnavailable):
            await each.transport.call(replace(POST, repeatable=False))
    assert len(each.server.requests) == 2


async def test_an_answer_that_broke_off_is_not_asked_for_again() -> None:
    async def behaviour(talk: Talk) -> None:
        if b"first" in talk.request:
            await talk.answer()
            return
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        talk.writer.close()

    async with line(behaviour) as each:
        await each.transport.call(FIRST)
        with pytest.raises(ProviderError, match="truncated"):
            await each.transport.call(READ)
    assert len(each.server.requests) == 2


async def test_a_provider_never_has_more_connections_than_its_entry_allows() -> None:
    async def behaviour(talk: Talk) -> None:
        await asyncio.sleep(0.005)
        await talk.answer()

    async with line(behaviour, connections=3) as each:
        await asyncio.gather(*(each.transport.call(READ) for _ in range(30)))
    assert each.server.most_open == 3
    assert len(each.server.requests) == 30


async def test_waiting_for_a_connection_is_part_of_the_deadline() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with line(behaviour, connections=1, deadline=0.1) as each:
        ended = await asyncio.gather(*(each.transport.call(READ) for _ in range(5)), return_exceptions=True)
    assert [type(error).__name__ for error in ended] == ["ProviderTimeout"] * 5
    assert len(each.server.requests) == 1


@pytest.mark.parametrize(("ahead", "reason"), [(0.15, "deadline"), (0.4, "cut")])
async def test_a_wait_in_our_own_line_is_nobodys_fault_unless_the_provider_still_had_most_of_the_time(ahead: float, reason: str) -> None:
    async def behaviour(talk: Talk) -> None:
        await asyncio.sleep(ahead if b"first" in talk.request else 30)
        await talk.answer()

    async with line(behaviour, connections=1, deadline=0.6) as each:
        first = asyncio.create_task(each.transport.call(FIRST))
        await asyncio.sleep(0)
        with pytest.raises(ProviderTimeout, match=reason) as caught:
            await each.transport.call(READ)
        await first
    assert (outcome_of(caught.value.reason).weight is Weight.FAILURE) == (reason == "deadline")
    assert len(each.server.requests) == 2


async def test_who_never_leaves_our_own_line_says_nothing_of_the_provider() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with line(behaviour, connections=1, deadline=0.1) as each:
        ended = await asyncio.gather(*(each.transport.call(READ) for _ in range(3)), return_exceptions=True)
        again = await asyncio.gather(each.transport.call(READ), return_exceptions=True)
    assert [getattr(error, "reason", None) for error in (*ended, *again)] == ["deadline", "cut", "cut", "deadline"]


async def test_cancellation_passes_through_and_frees_the_connection() -> None:
    arrived = asyncio.Event()

    async def behaviour(talk: Talk) -> None:
        if b"first" in talk.request:
            await talk.answer()
            return
        arrived.set()
        await talk.reader.read()

    async with line(behaviour, connections=1) as each:
        call = asyncio.create_task(each.transport.call(READ))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await each.transport.call(FIRST)


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


class Waits:
    """Takes the place of time between a call and its repeat."""

    def __init__(self, draw: float = 0.5) -> None:
        self.seconds: list[float] = []
        self.repeats = Repeats(draw=lambda: draw, sleep=self.wait)

    async def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)


def ill_once(status: bytes, body: bytes, *headers: bytes) -> Behaviour:
    """Fails the first request and answers the others."""
    failed: list[bytes] = []

    async def behaviour(talk: Talk) -> None:
        if failed:
            await talk.answer()
        else:
            failed.append(talk.request)
            await talk.answer(body, *headers, status=status)

    return behaviour


BROKEN = (b"500 Internal Server Error", b'{"rsp_code":"50001"}')
TOO_MANY = (b"429 Too Many Requests", b'{"rsp_code":"42901"}', b"Retry-After: 1")


async def test_what_is_safe_to_repeat_is_repeated_once_after_a_pause_under_another_tran_id() -> None:
    waits = Waits()
    async with line(ill_once(*BROKEN), repeats=waits.repeats) as each:
        assert await each.transport.call(READ)
    assert waits.seconds == [0.5 * LONGEST_JITTER]
    assert len({_tran_id(request) for request in each.server.requests}) == 2


async def test_a_provider_that_says_when_is_called_then() -> None:
    waits = Waits()
    async with line(ill_once(*TOO_MANY), repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        assert await each.transport.call(READ)
    assert waits.seconds == [1 + 0.5 * LONGEST_JITTER]


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        (BROKEN, replace(READ, repeatable=False)),  # a sign_request, a first token request
        (TOO_MANY, replace(READ, api_type=ApiType.SCHEDULED)),  # comes back in another minute of the batch
        ((b"429 Too Many Requests", b'{"rsp_code":"42901"}'), READ),  # does not say until when
        ((b"429 Too Many Requests", b'{"rsp_code":"42901"}', b"Retry-After: 60"), READ),
        ((b"500 Maintenance", b'{"rsp_code":"50008"}'), READ),
        ((b"404 Not Found", b'{"rsp_code":"40402"}'), READ),
        ((b"200 OK", b"garbage"), READ),
    ],
)
async def test_everything_else_is_called_once(answer: tuple[bytes, ...], call: Call[Envelope]) -> None:
    waits = Waits()
    async with line(ill_once(*answer), repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        with pytest.raises(ProviderError):
            await each.transport.call(call)
    assert (waits.seconds, len(each.server.requests)) == ([], 1)


async def test_an_ill_provider_hardly_gets_more_calls_than_a_healthy_one() -> None:
    async def behaviour(talk: Talk) -> None:
        await talk.answer(BROKEN[1], status=BROKEN[0])

    waits = Waits()
    async with line(behaviour, repeats=waits.repeats, clock=ManualClock(NOW)) as each:
        for _ in range(200):
            with pytest.raises(ProviderUnavailable):
                await each.transport.call(READ)
    assert len(each.server.requests) <= 200 * (1 + EARNED) + MOST_SAVED
    assert len(waits.seconds) >= 200 * EARNED


async def test_a_repeat_has_what_the_first_try_left_of_the_deadline() -> None:
    async def behaviour(talk: Talk) -> None:
        if len(failed) == 0:
            failed.append(talk)
            await asyncio.sleep(0.1)
            await talk.answer(BROKEN[1], status=BROKEN[0])
        else:
            await asyncio.sleep(30)

    failed: list[Talk] = []
    async with line(behaviour, repeats=Waits().repeats, deadline=0.4) as each:
        with pytest.raises(ProviderTimeout, match="cut"):  # with a deadline of its own it would be "deadline"
            await each.transport.call(READ)
    assert len(each.server.requests) == 2


async def test_a_circuit_that_opens_after_the_first_try_refuses_the_repeat() -> None:
    class OpensAtOnce:
        def __init__(self) -> None:
            self.tries = 0

        async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
            self.tries += 1
            if self.tries > 1:
                raise ProviderUnavailable(org_code, "circuit", retry_at=NOW)
            return await attempt()

    async with line(ill_once(*BROKEN), repeats=Waits().repeats, guard=OpensAtOnce()) as each:
        with pytest.raises(ProviderUnavailable, match="circuit"):
            await each.transport.call(READ)
    assert len(each.server.requests) == 1
