"""Secrets at rest: AES-256-GCM under rotating keys.

In: bytes and the identity of the row that they belong to. Out: the envelope `v1|key id|nonce|ciphertext`. The identity is associated
data: an envelope that is moved to another row, user or column does not open. The first key seals, every known key opens.
A vault that was given a source of keys follows it, so that `moa keys rotate` needs no restart.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backend.errors import MoaError

_VERSION = b"v1"
_NONCE_BYTES = 12  # NIST SP 800-38D: 96 bits
_KEY_BYTES = 32


class VaultError(MoaError):
    """An envelope that does not open: wrong row, unknown key, or damaged. Says which of the three, never what was in it."""


class KeySource(Protocol):
    """Where the keys are."""

    def __call__(self, *, fresh: bool = False) -> str:
        """`id:base64[,id:base64…]` as in MOA_VAULT_KEYS, at most a second old; `fresh`: as they are now. Must not fail."""
        ...


class Vault:
    """Seals and opens. `keys` is `id:base64[,id:base64…]` as in MOA_VAULT_KEYS, or a source of it. Raises `ValueError` for bad keys."""

    def __init__(self, keys: str | KeySource) -> None:
        self._source: KeySource = _Constant(keys) if isinstance(keys, str) else keys
        self._known = self._source(fresh=True)
        self._ciphers = parsed_keys(self._known)
        self._current = next(iter(self._ciphers))

    def key_ids(self) -> tuple[str, ...]:
        """The known keys; the first seals."""
        self._learn(self._source())
        return tuple(self._ciphers)

    def seal(self, plain: bytes, *row: str) -> bytes:
        """The envelope of `plain` for the row that `row` names: table, column, then the row's key."""
        self._learn(self._source())
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self._current].encrypt(nonce, plain, _identity(row))
        return b"|".join((_VERSION, self._current.encode(), nonce)) + b"|" + ciphertext

    def open(self, envelope: bytes, *row: str) -> bytes:
        """Raises `VaultError` unless `envelope` was sealed for exactly this row."""
        version, _, rest = bytes(envelope).partition(b"|")
        key_id, _, sealed = rest.partition(b"|")
        if version != _VERSION or sealed[_NONCE_BYTES : _NONCE_BYTES + 1] != b"|":
            raise VaultError("a sealed value is damaged")
        cipher = self._cipher(key_id.decode(errors="replace"))
        if cipher is None:
            raise VaultError("a sealed value needs a key that MOA_VAULT_KEYS does not hold")
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES + 1 :], _identity(row))
        except InvalidTag as exc:
            raise VaultError("a sealed value does not belong to this row, or is damaged") from exc

    def _cipher(self, key_id: str) -> AESGCM | None:
        """A key that is not known may have been made since we looked."""
        if key_id not in self._ciphers:
            self._learn(self._source(fresh=True))
        return self._ciphers.get(key_id)

    def _learn(self, keys: str) -> None:
        """Takes new keys over; what cannot be read changes nothing."""
        if keys is self._known or keys == self._known:
            return
        self._known = keys
        try:
            self._ciphers = parsed_keys(keys)
        except ValueError:
            return
        self._current = next(iter(self._ciphers))


class _Constant:
    def __init__(self, keys: str) -> None:
        self._keys = keys

    def __call__(self, *, fresh: bool = False) -> str:  # noqa: ARG002  # there is nothing fresher
        return self._keys


def key_id_of(envelope: bytes) -> str | None:
    """The key that `envelope` was sealed under, known or not; its first bytes are enough. None: this is no envelope."""
    version, _, rest = bytes(envelope).partition(b"|")
    key_id, separator, _ = rest.partition(b"|")
    return key_id.decode(errors="replace") if version == _VERSION and separator else None


def new_key(known: Iterable[str]) -> str:
    """`id:base64` of a new key whose id is not among the `known` ones."""
    numbers = [int(key_id[1:]) for key_id in known if key_id[:1] == "k" and key_id[1:].isascii() and key_id[1:].isdigit()]
    return f"k{max(numbers, default=0) + 1}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def parsed_keys(keys: str) -> dict[str, AESGCM]:
    """The keys by id, in their order. Raises `ValueError`, which says what is wrong and repeats nothing."""
    parsed = [_parse(part.strip()) for part in keys.split(",") if part.strip()]
    if not parsed:
        raise ValueError("MOA_VAULT_KEYS holds no key; it looks like id:base64 of 32 bytes")
    if len(dict(parsed)) < len(parsed):
        raise ValueError("MOA_VAULT_KEYS names two keys by the same id; give the new one another")
    return dict(parsed)


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
