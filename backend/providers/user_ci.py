"""An invented user_ci (연계정보) for development, reversible so that the sandbox knows whom it stands for.

A real user_ci is 64 opaque bytes in base64 (88 characters), made by an identity agency. Ours has that shape: one byte of length,
the `sub` in UTF-8, zeros. A `sub` over 63 bytes is replaced by its digest, which can't be turned back. RULE: pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

_BYTES = 64


def development_user_ci(sub: str) -> str:
    """The user_ci of an invented person."""
    raw = sub.encode()
    if len(raw) > _BYTES - 1:
        raw = hashlib.sha256(raw).hexdigest()[:40].encode()
    return base64.b64encode(bytes([len(raw)]) + raw.ljust(_BYTES - 1, b"\0")).decode()


def development_sub(user_ci: str) -> str | None:
    """The `sub` that `development_user_ci` was given; None: this user_ci is not one of ours."""
    try:
        raw = base64.b64decode(user_ci, validate=True)
        if len(raw) != _BYTES or raw[0] > _BYTES - 1 or any(raw[1 + raw[0] :]):
            return None
        return raw[1 : 1 + raw[0]].decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
