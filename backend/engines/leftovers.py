"""Servers of a data folder that run although nobody keeps them: a `moa up` that was killed could not end them.

In: the data folder. Out: which, with the process and the polite signal for it. Nothing is started, locked or ended here; the next start
adopts them.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from backend.engines.process import recorded


@dataclass(frozen=True)
class LeftRunning:
    """A server, as a person knows it."""

    name: str
    pid: int
    politely: signal.Signals  # it ends cleanly by this


def left_running(data: Path) -> list[LeftRunning]:
    """The servers that live; whether a `moa up` keeps them is another question."""
    run = data.absolute() / "run"
    known = ("PostgreSQL", run / "postgres.lock", signal.SIGINT), ("Valkey", run / "valkey.lock", signal.SIGTERM)
    pids = ((name, recorded(lock), politely) for name, lock, politely in known)
    return [LeftRunning(name, pid, politely) for name, pid, politely in pids if pid is not None]
