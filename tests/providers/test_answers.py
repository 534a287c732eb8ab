"""Answers that are none: cut off, not HTTP, not JSON, encoded, too large, too deep. Whatever it is, it is one error of ours."""

from __future__ import annotations

import gzip
import time

import pytest

from backend.errors import Trouble
from backend.providers.calling.transport import MAX_BODY_BYTES
from backend.providers.calling.wire import MAX_HEADERS
from backend.providers.payloads import Envelope, Malformed, decode
from tests.providers.lines import READ, line, trouble
from tests.providers.rogue import OK, Talk


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


@pytest.mark.parametrize("encodings", [(b"gzip", b"identity"), (b"identity", b"gzip"), (b"identity, gzip",), (b"GZIP ",)])
async def test_an_encoding_hides_behind_no_other(encodings: tuple[bytes, ...]) -> None:
    """Two headers of one name: whoever unpacks may believe the first, and whoever refuses the last."""

    async def behaviour(talk: Talk) -> None:
        await talk.answer(gzip.compress(OK), *(b"Content-Encoding: " + encoding for encoding in encodings))

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
