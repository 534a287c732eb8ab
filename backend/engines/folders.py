"""Where the engines' things lie, and the locks on them.

In: the data folder. Out: private folders inside it (mode 0700), a folder for sockets whose paths fit, held locks.
Folders that existed before keep their mode and owner; a path that is longer than a socket's name may be moves to a short one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from backend.errors import MoaError

LONGEST_SOCKET = 103  # bytes: macOS has room for 104 with the end mark, Linux for 108
LONGEST_SOCKET_NAME = "/.s.PGSQL.5432.lock"  # PostgreSQL's lock beside its socket is the longest name of all


class EngineRefused(MoaError):
    """An engine cannot be had. The message is one plain line that says why, and how to mend it."""


def private_folder(path: Path) -> Path:
    """Makes the folder with mode 0700 unless it is there, its parents as the umask says; returns it as an absolute path.

    Raises `EngineRefused` when it cannot be made.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise EngineRefused(f"cannot make the folder {path}: {exc.strerror}; choose another with --data") from exc
    return path


def socket_folder(data: Path) -> Path:
    """A folder that only we may enter and whose path leaves room for a socket's name; the same one for the same data folder."""
    folder = data.absolute() / "run"
    if len(os.fsencode(folder)) + len(LONGEST_SOCKET_NAME) <= LONGEST_SOCKET:
        return private_folder(folder)
    name = f"moa-{os.geteuid()}-{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]}"
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # a folder of ours inside it, checked below
        if len(os.fsencode(place)) + len(name) + len(LONGEST_SOCKET_NAME) < LONGEST_SOCKET:
            return _ours(private_folder(Path(place) / name))
    raise EngineRefused(f"no folder has a path short enough for a socket; choose a shorter one than {data} with --data")


def _ours(folder: Path) -> Path:
    """In a folder that everybody may write to, somebody else may have been there first."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise EngineRefused(f"{folder} belongs to somebody else or is open to others; remove it")
    return folder


def try_lock(path: Path) -> int | None:
    """Takes the lock and returns the open file that holds it; None: somebody else has it.

    The lock lives as long as any process has this open file, so a server that inherits it is its own proof of life.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def write_private(path: Path, text: str) -> None:
    """Writes a file of mode 0600, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
