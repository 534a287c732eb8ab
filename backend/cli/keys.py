"""`moa keys rotate`: another key for the vault, and everything that is sealed put under it.

In: the data folder's keys, or keys from the environment, which are never written. Out: lines for a person; secrets only where they must be
set by hand. The file is on disk before the first value is sealed under a new key; old keys stay in it until `--prune` finds no use of them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from backend.cli.running import database_url, settings_of
from backend.clock import SystemClock
from backend.engines.folders import try_lock, write_private
from backend.errors import MoaError
from backend.settings import LOOKED_AT_EVERY, SECRETS_FILE, Settings
from backend.storage.database import Database
from backend.storage.resealing import Resealed, keys_in_use, reseal
from backend.storage.vault import Vault, new_key, parsed_keys

NAME = "MOA_VAULT_KEYS"
LOCK_FILE = "keys.lock"
SETTLED_AFTER = 60.0  # seconds: by then all that follow the file seal under its first key, and have committed what they sealed before
TOLD_EVERY = 10_000  # rows


class KeysRefused(MoaError):
    """Nothing was changed. The message is one plain line that says what to do."""


def rotate(data: Path | None, *, prune: bool) -> bool:
    """True when all went well, False when something sealed does not open or is to be done by hand."""
    settings = settings_of(data)
    url = database_url(settings)
    if settings.vault_keys is None:
        raise KeysRefused(f"{NAME} is not set; `moa up` makes a key by itself")
    keys = settings.vault_keys.get_secret_value()
    try:
        parsed_keys(keys)
    except ValueError as exc:
        raise KeysRefused(str(exc)) from exc
    with _alone(settings.data):
        return asyncio.run((_prune if prune else _rotate)(settings, url, keys))


async def _rotate(settings: Settings, url: str, keys: str) -> bool:
    database = Database(url, pool=2)
    try:
        first, *others = parsed_keys(keys)
        used = await keys_in_use(database)
        if any(used[other] for other in others):
            print(f"a rotation to {first} was begun; finishing it")
            done = await reseal(database, Vault(keys), _Progress())
            if done.values or not done.unreadable:
                return await _told(database, done, keys)
            print("nothing of it can be finished: what is left does not open")
        if _in_file(settings, keys):
            keys = f"{new_key(parsed_keys(keys))},{keys}"
            _write(settings, keys)
            print(f"{next(iter(parsed_keys(keys)))} is the first key now")
            await asyncio.sleep(LOOKED_AT_EVERY)  # running processes look that often
        else:
            _print_steps(keys)
            return False
        return await _told(database, await reseal(database, Vault(keys), _Progress()), keys)
    finally:
        await database.close()


async def _told(database: Database, done: Resealed, keys: str) -> bool:
    """What a rotation came to; True when all went well."""
    print(f"sealed anew: {done.values:,}")
    if done.unreadable:
        print(f"left as they are, since they do not open: {done.unreadable:,}")
    return _tell_use(await keys_in_use(database), keys) and not done.unreadable


async def _prune(settings: Settings, url: str, keys: str) -> bool:
    in_file = _in_file(settings, keys)
    if in_file and (left := SETTLED_AFTER - _age(settings)) > 0:
        raise KeysRefused(f"the keys were changed a moment ago; wait {left:.0f} s, until every process has taken them over")
    database = Database(url, pool=2)
    try:
        used = await keys_in_use(database)
    finally:
        await database.close()
    first, *others = parsed_keys(keys)
    spare = [other for other in others if not used[other]]
    if not spare:
        print("nothing to prune")
        return _tell_use(used, keys)
    kept = ",".join(part.strip() for part in keys.split(",") if part.strip().partition(":")[0] not in spare)
    if in_file:
        _write(settings, kept)
        print(f"removed: {', '.join(spare)}; {first} seals")
        return _tell_use(used, kept)
    print(f"nothing uses {', '.join(spare)}; once every process seals under {first}, set everywhere:\n{NAME}={kept}")
    return True


def _in_file(settings: Settings, keys: str) -> bool:
    """Whether the data folder's file is where the keys come from."""
    path = settings.data / SECRETS_FILE
    return path.exists() and dotenv_values(path).get(NAME) == keys


def _age(settings: Settings) -> float:
    """Seconds since the file was changed."""
    return SystemClock().now().timestamp() - (settings.data / SECRETS_FILE).stat().st_mtime


def _write(settings: Settings, keys: str) -> None:
    """Replaces the one line; it is on disk before this returns. Raises `KeysRefused` if the keys come from elsewhere after all."""
    path = settings.data / SECRETS_FILE
    before = path.read_text(encoding="utf-8")
    lines = [line for line in before.splitlines() if line.partition("=")[0].strip() != NAME]
    write_private(path, "\n".join([*lines, f"{NAME}={keys}"]) + "\n")
    _sync(path.parent)
    now = settings_of(settings.data).vault_keys
    if now is None or now.get_secret_value() != keys:
        write_private(path, before)
        raise KeysRefused(f"{NAME} is set in the environment or in .env, too; take it away there, or change it there by hand")


def _sync(folder: Path) -> None:
    """A new name in a folder is on disk only when the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """One rotation of this folder at a time."""
    handle = try_lock(data / LOCK_FILE) if data.is_dir() else None
    if data.is_dir() and handle is None:
        raise KeysRefused("another `moa keys rotate` is at work in this data folder")
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _print_steps(keys: str) -> None:
    first = keys.partition(",")[0]
    made = new_key(parsed_keys(keys))
    print(f"{NAME} does not come from the data folder, so nothing was written. In this order:")
    print(f"1. set everywhere, then restart everything:  {NAME}={keys},{made}")
    print(f"2. set everywhere, then restart everything:  {NAME}={made},{keys}")
    print(f"3. moa keys rotate           seals everything under {made.partition(':')[0]}")
    print(f"4. moa keys rotate --prune   says when {first.partition(':')[0]} may be left out")


def _tell_use(used: Counter[str], keys: str) -> bool:
    """One line per key; True when every value lies under a known key."""
    known = parsed_keys(keys)
    for key_id in known:
        print(f"  {key_id}: {used[key_id]:,} values")
    lost = sum(count for key_id, count in used.items() if key_id not in known)
    if lost:
        print(f"  {lost:,} values lie under keys that {NAME} does not hold; find the keys, they cannot be read without")
    return lost == 0


class _Progress:
    """A line now and then."""

    def __init__(self) -> None:
        self._told = ("", 0)

    def __call__(self, table: str, rows: int) -> None:
        before, last = self._told
        if table != before or rows - last >= TOLD_EVERY:
            self._told = (table, rows)
            print(f"  {table}: {rows:,} rows walked", flush=True)
