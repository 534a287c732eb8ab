"""What a delivery carries so that its receiver can trust it: the Standard Webhooks headers. RULE: pure.

In: secrets, an id, a moment, a body. Out: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>`; HMAC-SHA256 over
`id.timestamp.body`, one signature per secret, separated by spaces, so that a receiver may hold the old secret or the new one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import orjson

SECRET_BYTES = 32  # the specification wants 24 to 64
_PREFIX = "whsec_"


def secret_text(key: bytes) -> str:
    """A secret as it is shown, once."""
    return _PREFIX + base64.b64encode(key).decode()


def message_id(delivery: UUID) -> str:
    """`webhook-id`: the same for every attempt, so receivers may use it as their idempotency key."""
    return f"msg_{delivery.hex}"


def body_of(message: str, user_id: str, offset: int, event: bytes) -> bytes:
    """The body. The event's own bytes are in it as they are in the feed; `offset` is left out for what is in no feed (0)."""
    place = {"offset": offset} if offset else {}
    return orjson.dumps({"id": message, "user_id": user_id, **place, "event": orjson.Fragment(event)})


def headers_of(keys: Sequence[bytes], message: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers of one attempt at `moment`."""
    timestamp = str(int(moment.timestamp()))
    signed = b".".join((message.encode(), timestamp.encode(), body))
    signatures = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
