"""`moa keys rotate`: one call, from a data folder; or the steps to take, with keys from the environment."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from backend.cli.datafolder import DataFolder
from backend.clock import ManualClock
from backend.settings import LOOKED_AT_EVERY, SECRETS_FILE, Settings, VaultKeys, load_settings
from backend.storage.sealed import PERSON
from backend.storage.vault import Vault, VaultError, key_id_of, parsed_keys

PEOPLE = 40
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


@pytest.fixture
def folder(data: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Path:
    """A data folder with its first key, and people sealed under it."""
    DataFolder(data).make_secrets()
    monkeypatch.setenv("MOA_DATABASE_URL", database_url)
    asyncio.run(seal_people(database_url, keys_of(data), PEOPLE))
    return data


def keys_of(data: Path) -> str:
    keys = load_settings(data).vault_keys
    assert keys is not None
    return keys.get_secret_value()


def ids_of(data: Path) -> list[str]:
    return list(parsed_keys(keys_of(data)))


def grow_old(data: Path) -> None:
    """The file was changed two minutes ago."""
    then = time.time() - 120
    os.utime(data / SECRETS_FILE, (then, then))


async def seal_people(database_url: str, keys: str, many: int, first: int = 0) -> None:
    vault = Vault(keys)
    names = [f"user-{number:06d}" for number in range(first, first + many)]
    rows = [(name, vault.seal(f"of {name}".encode(), *PERSON.row(name)), NOW) for name in names]
    connection = await asyncpg.connect(database_url)
    await connection.executemany("INSERT INTO users (user_id, person_sealed, created_at) VALUES ($1, $2, $3)", rows)
    await connection.close()


def read_people(database_url: str, keys: str) -> Counter[str | None]:
    """Opens everybody, counts by key."""

    async def read() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch("SELECT user_id, person_sealed FROM users"))
        finally:
            await connection.close()

    vault, found = Vault(keys), Counter[str | None]()
    for row in asyncio.run(read()):
        assert vault.open(row["person_sealed"], *PERSON.row(row["user_id"])) == f"of {row['user_id']}".encode()
        found[key_id_of(row["person_sealed"])] += 1
    return found


async def until_resealed(database_url: str, key_id: str, running: subprocess.Popen[bytes]) -> None:
    """Returns when somebody's row is sealed with this key. To open everybody would take longer than to reseal them."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            while running.poll() is None:
                if await connection.fetchval("SELECT 1 FROM users WHERE position($1 IN person_sealed) > 0 LIMIT 1", f"|{key_id}|".encode()):
                    return
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.cli.keys.LOOKED_AT_EVERY", 0.0)


def test_one_call_makes_a_key_and_puts_everything_under_it(moa, folder: Path, database_url: str) -> None:
    before = (folder / SECRETS_FILE).read_text()
    said = moa("keys", "rotate", "--data", str(folder))
    assert (said.code, said.err) == (0, "")
    assert ids_of(folder) == ["k2", "k1"]
    assert read_people(database_url, keys_of(folder).partition(",")[0]) == {"k2": PEOPLE}
    assert "k2 is the first key now" in said.out
    assert f"sealed anew: {PEOPLE}" in said.out
    others = {line for line in before.splitlines() if not line.startswith("MOA_VAULT_KEYS")}
    assert others <= set((folder / SECRETS_FILE).read_text().splitlines()), "no other secret is touched"
    assert (folder / SECRETS_FILE).stat().st_mode & 0o777 == 0o600
    for key in keys_of(folder).split(","):
        assert key.partition(":")[2] not in said.out, "no key is shown"


def test_every_call_makes_another_key_and_old_ones_are_pruned_when_nothing_uses_them(moa, folder: Path, database_url: str) -> None:
    for _ in range(2):
        assert moa("keys", "rotate", "--data", str(folder)).code == 0
    assert ids_of(folder) == ["k3", "k2", "k1"]
    early = moa("keys", "rotate", "--prune", "--data", str(folder))
    assert (early.code, early.err.count("\n")) == (1, 1)
    assert "wait" in early.err
    asyncio.run(seal_people(database_url, keys_of(folder).split(",")[2], 1, first=PEOPLE))
    grow_old(folder)
    assert "removed: k2" in moa("keys", "rotate", "--prune", "--data", str(folder)).out
    assert ids_of(folder) == ["k3", "k1"], "somebody still lies under k1"
    assert "a rotation to k3 was begun; finishing it" in moa("keys", "rotate", "--data", str(folder)).out
    grow_old(folder)
    assert moa("keys", "rotate", "--prune", "--data", str(folder)).code == 0
    assert ids_of(folder) == ["k3"]
    assert read_people(database_url, keys_of(folder)) == {"k3": PEOPLE + 1}
    grow_old(folder)
    assert "nothing to prune" in moa("keys", "rotate", "--prune", "--data", str(folder)).out


@pytest.mark.system
def test_killed_at_any_place_nothing_readable_is_lost_and_the_next_call_finishes(moa, folder: Path, database_url: str) -> None:
    many = 8000
    asyncio.run(seal_people(database_url, keys_of(folder), many, first=PEOPLE))
    command = [sys.executable, "-m", "backend.cli", "keys", "rotate", "--data", str(folder)]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    asyncio.run(until_resealed(database_url, "k2", running))
    running.send_signal(signal.SIGKILL)
    running.wait()
    halfway = read_people(database_url, keys_of(folder))
    assert halfway.total() == many + PEOPLE
    assert halfway["k1"] > 0, "it was killed before its end"
    said = moa("keys", "rotate", "--data", str(folder))
    assert said.code == 0
    assert "finishing it" in said.out
    assert ids_of(folder) == ["k2", "k1"]
    assert read_people(database_url, keys_of(folder).partition(",")[0]) == {"k2": many + PEOPLE}


def test_keys_from_the_environment_are_never_written_but_what_to_set_is_told(
    moa, folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, k1 = (folder / SECRETS_FILE).read_text(), keys_of(folder)
    monkeypatch.setenv("MOA_VAULT_KEYS", k1 + " ")
    said = moa("keys", "rotate", "--data", str(folder))
    assert said.code == 1
    assert (folder / SECRETS_FILE).read_text() == before
    first, second = (line.split("MOA_VAULT_KEYS=")[1] for line in said.out.splitlines() if "MOA_VAULT_KEYS=" in line)
    assert list(parsed_keys(first)) == ["k1", "k2"]
    assert list(parsed_keys(second)) == ["k2", "k1"]
    assert read_people(database_url, first) == {"k1": PEOPLE}
    monkeypatch.setenv("MOA_VAULT_KEYS", second)
    assert moa("keys", "rotate", "--data", str(folder)).code == 0
    assert read_people(database_url, second) == {"k2": PEOPLE}
    pruned = moa("keys", "rotate", "--prune", "--data", str(folder))
    assert pruned.code == 0
    kept = pruned.out.strip().splitlines()[-1].removeprefix("MOA_VAULT_KEYS=")
    assert read_people(database_url, kept) == {"k2": PEOPLE}
    assert (folder / SECRETS_FILE).read_text() == before


def test_a_key_that_the_environment_repeats_is_not_changed_behind_its_back(moa, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / SECRETS_FILE).read_text()
    monkeypatch.setenv("MOA_VAULT_KEYS", keys_of(folder))
    said = moa("keys", "rotate", "--data", str(folder))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "take it away there" in said.err
    assert (folder / SECRETS_FILE).read_text() == before


def test_values_under_a_lost_key_are_told_and_left(moa, folder: Path, database_url: str) -> None:
    lost = "k9:" + base64.b64encode(b"9" * 32).decode()
    asyncio.run(seal_people(database_url, lost, 3, first=PEOPLE))
    said = moa("keys", "rotate", "--data", str(folder))
    assert said.code == 1
    assert "do not open: 3" in said.out
    assert read_people(database_url, f"{keys_of(folder)},{lost}") == {"k2": PEOPLE, "k9": 3}


def test_a_value_that_is_damaged_holds_up_no_further_rotation(moa, folder: Path, database_url: str) -> None:
    async def damage() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "UPDATE users SET person_sealed = set_byte(person_sealed, 40, get_byte(person_sealed, 40) # 1) WHERE user_id = 'user-000000'"
        )
        await connection.close()

    asyncio.run(damage())
    for expected in (["k2", "k1"], ["k3", "k2", "k1"]):
        said = moa("keys", "rotate", "--data", str(folder))
        assert (said.code, "do not open: 1" in said.out) == (1, True), said
        assert ids_of(folder) == expected
    grow_old(folder)
    assert "removed: k2" in moa("keys", "rotate", "--prune", "--data", str(folder)).out
    assert ids_of(folder) == ["k3", "k1"], "its key is kept"


def test_two_rotations_at_once_are_one_too_many(moa, folder: Path) -> None:
    from backend.engines.folders import try_lock  # noqa: PLC0415  # as another process holds it

    handle = try_lock(folder / "keys.lock")
    assert handle is not None
    said = moa("keys", "rotate", "--data", str(folder))
    os.close(handle)
    assert (said.code, said.err) == (1, "moa: another `moa keys rotate` is at work in this data folder\n")
    assert ids_of(folder) == ["k1"]


# --- processes that run meanwhile ------------------------------------------------------------------------------------


def test_a_running_process_reads_under_a_new_key_at_once_and_seals_under_it_within_a_second(moa, folder: Path) -> None:
    clock = ManualClock(NOW)
    running = Vault(VaultKeys(load_settings(folder), clock))
    sealed = running.seal(b"token", "row")
    assert moa("keys", "rotate", "--data", str(folder)).code == 0
    assert key_id_of(running.seal(b"token", "row")) == "k1", "not looked again yet"
    assert running.open(Vault(keys_of(folder)).seal(b"new", "row"), "row") == b"new"
    assert running.open(sealed, "row") == b"token"
    other = Vault(VaultKeys(Settings(_env_file=None, data=folder, vault_keys=keys_of(folder).split(",")[1]), clock))  # type: ignore[call-arg]
    assert key_id_of(other.seal(b"token", "row")) == "k1"
    assert moa("keys", "rotate", "--data", str(folder)).code == 0
    clock.move(timedelta(seconds=LOOKED_AT_EVERY))
    assert key_id_of(other.seal(b"token", "row")) == key_id_of(running.seal(b"token", "row")) == "k3"


@pytest.mark.parametrize("spoiled", ["", "MOA_VAULT_KEYS=nonsense\n", "MOA_VAULT_KEYS=\n", "\0"])
def test_a_file_that_is_spoiled_or_gone_changes_nothing_in_a_running_process(folder: Path, spoiled: str) -> None:
    clock = ManualClock(NOW)
    running = Vault(VaultKeys(load_settings(folder), clock))
    sealed = running.seal(b"token", "row")
    (folder / SECRETS_FILE).write_text(spoiled)
    clock.move(timedelta(seconds=2))
    assert running.open(running.seal(b"token", "row"), "row") == running.open(sealed, "row") == b"token"
    (folder / SECRETS_FILE).unlink()
    clock.move(timedelta(seconds=2))
    assert running.open(running.seal(b"token", "row"), "row") == b"token"
    with pytest.raises(VaultError):
        running.open(Vault("k9:" + base64.b64encode(b"9" * 32).decode()).seal(b"x", "row"), "row")
