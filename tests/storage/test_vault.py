"""What is sealed opens for its row, under its key, unharmed; and in no other case."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.storage.vault import Vault, VaultError

OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()
ROW = ("links", "access", "anna", "A1MOABK001")


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_for_its_row(plain: bytes) -> None:
    vault = Vault(OLD)
    assert vault.open(vault.seal(plain, *ROW), *ROW) == plain


def test_the_same_secret_is_sealed_differently_each_time_and_shows_nothing() -> None:
    vault = Vault(OLD)
    first, second = vault.seal(b"very secret", *ROW), vault.seal(b"very secret", *ROW)
    assert first != second
    assert b"secret" not in first
    assert first.startswith(b"v1|k1|")


@pytest.mark.parametrize("place", range(len(ROW)))
def test_a_value_that_was_moved_to_another_row_does_not_open(place: int) -> None:
    vault = Vault(OLD)
    elsewhere = [*ROW]
    elsewhere[place] += "2"
    with pytest.raises(VaultError, match="does not belong to this row"):
        vault.open(vault.seal(b"token", *ROW), *elsewhere)
    with pytest.raises(VaultError, match="does not belong to this row"):
        vault.open(vault.seal(b"token", *ROW), *ROW[:place], *ROW[place + 1 :])


def test_a_key_of_the_same_name_with_other_bytes_does_not_open() -> None:
    with pytest.raises(VaultError, match="does not belong to this row, or is damaged"):
        Vault(NEW.replace("k2", "k1")).open(Vault(OLD).seal(b"token", *ROW), *ROW)


def test_the_first_key_seals_and_every_key_opens() -> None:
    sealed = Vault(OLD).seal(b"token", *ROW)
    rotated = Vault(f"{NEW}, {OLD}")
    assert rotated.open(sealed, *ROW) == b"token"
    assert rotated.seal(b"token", *ROW).startswith(b"v1|k2|")
    assert Vault(f"{OLD},{NEW}").open(rotated.seal(b"token", *ROW), *ROW) == b"token"


def test_a_value_under_a_key_that_is_gone_says_so() -> None:
    with pytest.raises(VaultError, match="needs a key"):
        Vault(NEW).open(Vault(OLD).seal(b"token", *ROW), *ROW)


def test_no_byte_of_a_sealed_value_can_be_changed() -> None:
    vault = Vault(f"{OLD},{NEW}")
    sealed = vault.seal(b"a token of some length", *ROW)
    for place in range(len(sealed)):
        tampered = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(VaultError):
            vault.open(tampered, *ROW)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            vault.open(sealed[:length], *ROW)


@given(st.binary(max_size=60))
def test_garbage_is_refused_and_never_repeated(garbage: bytes) -> None:
    with pytest.raises(VaultError) as refused:
        Vault(OLD).open(garbage, *ROW)
    assert "anna" not in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    ["", " , ", "k1", "k1:", "k1:not base64!", "k1:" + base64.b64encode(b"short").decode(), ":" + OLD.partition(":")[2], "a|b:" + OLD[3:]],
)
def test_keys_that_cannot_work_are_refused_at_once_and_not_repeated(keys: str) -> None:
    with pytest.raises(ValueError, match="MOA_VAULT_KEYS") as refused:
        Vault(keys)
    assert OLD.partition(":")[2] not in str(refused.value)


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        Vault(f"{OLD},{NEW.replace('k2', 'k1')}")
