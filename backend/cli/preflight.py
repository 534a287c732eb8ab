"""What must hold before anything is started, each fault with a line that says how to mend it.

In: the data folder. Out: nothing, or a `NotReady`. Ports are judged by opening them (`serving.listen`), not here.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from backend.errors import MoaError

NEEDED_BYTES = 300 * 1024 * 1024  # a new cluster, its write-ahead log and Valkey's log, with room to work
OLDEST, NEWEST = (3, 11), (3, 14)


class NotReady(MoaError):
    """Something on this machine must be mended first. The message is one plain line."""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raises `NotReady` for a Python that is not supported."""
    if not OLDEST <= version <= NEWEST:
        raise NotReady(f"Python {version[0]}.{version[1]} is not supported; use 3.11 to 3.14")


def check_platform(system: str = sys.platform, libc: tuple[str, str] | None = None) -> None:
    """Raises `NotReady` where there are no embedded engines."""
    name, version = libc or platform.libc_ver()
    if system == "darwin":
        return
    if system == "linux" and name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= (2, 28):
        return
    raise NotReady("embedded engines need Linux with glibc 2.28 or newer, or macOS; set MOA_DATABASE_URL and MOA_VALKEY_URL")


def check_disk(folder: Path, needed: int = NEEDED_BYTES) -> None:
    """Raises `NotReady` when the folder's file system is nearly full."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        mb = 1024 * 1024
        raise NotReady(
            f"{folder} has {free // mb} MB free and {needed // mb} MB are needed; make room, or choose another folder with --data"
        )
