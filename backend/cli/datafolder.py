"""What `moa up` keeps in its data folder: the lock, the secrets, and where the running system is to be found.

In: the folder. Out: `secrets.env` (made once), `running.env` (while it runs), both of mode 0600.
A second `moa up` on the same folder is refused. A secret that exists is never replaced.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from backend.engines.folders import private_folder, try_lock, write_private
from backend.errors import MoaError
from backend.settings import RUNNING_FILE, SECRETS_FILE, TARGETS_FILE

LOCK_FILE = "up.lock"


def _new_vault_key() -> str:
    return f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}"


SECRETS: Mapping[str, Callable[[], str]] = {
    "MOA_JWT_SECRET": lambda: secrets.token_urlsafe(48),
    "MOA_VAULT_KEYS": _new_vault_key,
    "MOA_ASSET_ID_SECRET": lambda: secrets.token_urlsafe(48),
}


class AlreadyRunning(MoaError):
    """Another `moa up` has this folder. The message is one plain line."""


class DataFolder:
    """One data folder, made with mode 0700 if it was not there."""

    def __init__(self, path: Path) -> None:
        self.path = private_folder(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else runs the system in this folder meanwhile. Raises `AlreadyRunning`."""
        lock = self.path / LOCK_FILE
        handle = try_lock(lock)
        if handle is None:
            pid = lock.read_text(encoding="ascii").strip()
            raise AlreadyRunning(f"`moa up` already runs in {self.path} (process {pid}); stop it, or choose another folder with --data")
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(handle)

    def make_secrets(self) -> None:
        """Adds the secrets that are not there yet."""
        path = self.path / SECRETS_FILE
        before = (
            path.read_text(encoding="utf-8") if path.exists() else "# Made by `moa up`. Without these the stored data cannot be read.\n"
        )
        known = dotenv_values(path) if path.exists() else {}
        missing = [f"{name}={make()}\n" for name, make in SECRETS.items() if not known.get(name)]
        if missing:
            write_private(path, before + "".join(missing))

    def say_where(self, values: Mapping[str, str]) -> None:
        """Writes what other commands, and our children, must know of the running system."""
        lines = (f"{name}={_quoted(value)}\n" for name, value in values.items())
        write_private(self.path / RUNNING_FILE, "# Made by `moa up`, removed when it stops.\n" + "".join(lines))

    def say_targets(self, processes: Mapping[str, str]) -> None:
        """Writes where each process (by name) shows its metrics (host:port), as Prometheus' file discovery reads it."""
        targets = [{"targets": [address], "labels": {"process": name}} for name, address in processes.items()]
        write_private(self.path / TARGETS_FILE, json.dumps(targets, indent=2) + "\n")

    def forget_where(self) -> None:
        """Nothing runs here (any more, or yet: one that was killed could not remove it)."""
        for name in (RUNNING_FILE, TARGETS_FILE):
            (self.path / name).unlink(missing_ok=True)


def runs(path: Path) -> bool:
    """Whether some `moa up` has this folder now."""
    lock = path / LOCK_FILE
    if not lock.exists():
        return False
    handle = try_lock(lock)
    if handle is not None:
        os.close(handle)
    return handle is None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
