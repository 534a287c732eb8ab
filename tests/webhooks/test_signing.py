"""Any Standard Webhooks library can check what we send."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from backend.webhooks.signing import body_of, headers_of, message_id, secret_text

MOMENT = datetime.fromtimestamp(1614265330, UTC)


def test_the_specifications_own_example() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = headers_of([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", MOMENT, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_reads_back_as_its_key() -> None:
    text = secret_text(b"k" * 32)
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_")) == b"k" * 32


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=2), st.binary(max_size=200))
def test_a_receiver_with_any_of_the_secrets_accepts_and_nobody_else_does(keys: list[bytes], body: bytes) -> None:
    headers = headers_of(keys, "msg_1", MOMENT, body)
    signatures = [each.removeprefix("v1,") for each in headers["webhook-signature"].split(" ")]
    signed = b"msg_1.1614265330." + body
    for key in keys:
        assert base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() in signatures
    assert base64.b64encode(hmac.digest(b"another", signed, hashlib.sha256)).decode() not in signatures


def test_the_body_holds_the_events_own_bytes_and_no_place_for_what_is_in_no_feed() -> None:
    event = b'{"type":"provider.assets","data":{"amount":"10.00"}}'
    body = body_of("msg_1", '앤 "나"', 7, event)
    assert event in body
    assert orjson.loads(body) == {"id": "msg_1", "user_id": '앤 "나"', "offset": 7, "event": orjson.loads(event)}
    assert "offset" not in orjson.loads(body_of("msg_1", "anna", 0, event))


def test_a_delivery_keeps_its_message_id() -> None:
    assert message_id(UUID(int=1)) == "msg_00000000000000000000000000000001"
