"""Frames in, frames out; nothing that comes in raises."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from backend.events import Position
from backend.realtime import protocol
from backend.realtime.protocol import COMMANDS_PER_FRAME, FRAME_BYTES, CloseCode, Connect, ErrorCode, Subscribe, UnsubscribeCode

NAMES = st.sampled_from(["id", "connect", "subscribe", "token", "channel", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "connect", "subscribe", "token", "channel", "x"]), inner)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_frame_makes_the_decoder_raise(frame: bytes | str) -> None:
    protocol.decode(frame)


@given(JSON)
def test_no_json_makes_the_decoder_raise(value: object) -> None:
    try:
        frame = orjson.dumps(value)
    except TypeError:
        return  # integers over 64 bits, lone surrogates
    for command in protocol.decode(frame) or []:
        assert 0 <= command.id < 2**32


def test_depth_size_and_number_are_bounded() -> None:
    assert protocol.decode('{"x":' + "[" * 30_000 + "]" * 30_000 + "}") is None
    assert protocol.decode(b"{}" + b" " * FRAME_BYTES) is None
    assert protocol.decode("\n".join(["{}"] * (COMMANDS_PER_FRAME + 1))) is None
    assert len(protocol.decode("\n".join(["{}"] * COMMANDS_PER_FRAME)) or []) == COMMANDS_PER_FRAME


def test_lines_may_end_with_a_line_break_and_unknown_fields_are_ignored() -> None:
    frame = b'{"id":1,"connect":{"token":"t","name":"js","data":{"a":[1]}}}\n{"id":2,"subscribe":{"channel":"feed","flag":5,"tf":{}}}\n'
    first, second = protocol.decode(frame) or []
    assert isinstance(first.method, Connect)
    assert isinstance(second.method, Subscribe)
    assert second.method.since is None


def test_no_token_is_ever_printed() -> None:
    (command, *_) = protocol.decode('{"id":1,"connect":{"token":"secret"},"refresh":{"token":"secret"}}') or []
    assert "secret" not in repr(command)


def test_every_error_has_code_and_message_and_only_two_are_temporary() -> None:
    for code in ErrorCode:
        told = orjson.loads(protocol.error(3, code))
        assert told["id"] == 3
        assert told["error"]["code"] == code
        assert told["error"]["message"]
        assert told["error"].get("temporary", False) == (code in {100, 111})


def test_every_close_has_a_reason_that_fits_a_close_frame() -> None:
    assert all(0 < len(code.reason) < 124 for code in CloseCode)


def test_events_are_carried_as_they_are() -> None:
    event = '{"type":"x","data":{"n":"모아"}}'.encode()
    assert orjson.loads(protocol.push(b"feed", (7, event))) == {
        "push": {"channel": "feed", "pub": {"offset": 7, "data": orjson.loads(event)}},
    }
    reply = protocol.subscribed(1, Position('e"', 5), was_recovering=True, recovered=True, entries=[(6, event), (7, event)])
    assert orjson.loads(reply)["subscribe"]["epoch"] == 'e"'
    assert [item["offset"] for item in orjson.loads(reply)["subscribe"]["publications"]] == [6, 7]


def test_an_unsubscribe_has_code_and_reason() -> None:
    told = orjson.loads(protocol.unsubscribe_push("feed", UnsubscribeCode.INSUFFICIENT_STATE))
    assert told == {"push": {"channel": "feed", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
