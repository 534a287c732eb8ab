"""Secrets at rest: AES-256-GCM under rotating keys.

In: bytes and the identity of the row that they belong to. Out: the envelope `v1|key id|nonce|ciphertext`. The identity is associated
data: an envelope that is moved to another row, user or column does not open. The first key seals, every known key opens.
"""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backend.errors import MoaError

_VERSION = b"v1"
_NONCE_BYTES = 12  # NIST SP 800-38D: 96 bits
_KEY_BYTES = 32


class VaultError(MoaError):
    """An envelope that does not open: wrong row, unknown key, or damaged. Says which of the three, never what was in it."""


class Vault:
    """Seals and opens. `keys` is `id:base64[,id:base64…]` as in MOA_VAULT_KEYS."""

    def __init__(self, keys: str) -> None:
        parsed = [_parse(part.strip()) for part in keys.split(",") if part.strip()]
        self._ciphers = dict(parsed)
        if not self._ciphers:
            raise ValueError("MOA_VAULT_KEYS holds no key; it looks like id:base64 of 32 bytes")
        if len(self._ciphers) < len(parsed):
            raise ValueError("MOA_VAULT_KEYS names two keys by the same id; give the new one another")
        self._current = next(iter(self._ciphers))

    def seal(self, plain: bytes, *row: str) -> bytes:
        """The envelope of `plain` for the row that `row` names: table, column, then the row's key."""
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self._current].encrypt(nonce, plain, _identity(row))
        return b"|".join((_VERSION, self._current.encode(), nonce)) + b"|" + ciphertext

    def open(self, envelope: bytes, *row: str) -> bytes:
        """Raises `VaultError` unless `envelope` was sealed for exactly this row."""
        version, _, rest = bytes(envelope).partition(b"|")
        key_id, _, sealed = rest.partition(b"|")
        if version != _VERSION or sealed[_NONCE_BYTES : _NONCE_BYTES + 1] != b"|":
            raise VaultError("a sealed value is damaged")
        cipher = self._ciphers.get(key_id.decode(errors="replace"))
        if cipher is None:
            raise VaultError("a sealed value needs a key that MOA_VAULT_KEYS does not hold")
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES + 1 :], _identity(row))
        except InvalidTag as exc:
            raise VaultError("a sealed value does not belong to this row, or is damaged") from exc


def _identity(row: tuple[str, ...]) -> bytes:
    return "\0".join(row).encode()


def _parse(part: str) -> tuple[str, AESGCM]:
    key_id, _, encoded = part.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error as exc:
        raise ValueError("MOA_VAULT_KEYS: a key is not base64") from exc
    if not key_id or "|" in key_id or len(key) != _KEY_BYTES:
        raise ValueError(f"MOA_VAULT_KEYS: each key is id:base64 of {_KEY_BYTES} bytes, and an id holds no |")
    return key_id, AESGCM(key)
