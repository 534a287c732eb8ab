"""A whole system, started as a person would start it, with every process it made on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backend.engines import erase_postgres

PATIENCE = 60.0


def parents() -> dict[int, int]:
    """pid -> parent's pid of every process that is not a zombie."""
    found = {}
    for line in subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout.splitlines():
        pid, parent, state = line.split()
        if not state.startswith("Z"):
            found[int(pid)] = int(parent)
    return found


def _with_children(roots: set[int]) -> set[int]:
    known, everybody = roots & parents().keys(), parents()
    while more := {pid for pid, parent in everybody.items() if parent in known} - known:
        known |= more
    return known


class Up:
    """One `moa up`, its output, its processes."""

    def __init__(self, data: Path, *arguments: str, output: int | None = None, **settings: str) -> None:
        """`output`: a descriptor to write to instead of the log."""
        self.data = data
        self._log = data.parent / f"up-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "backend.cli", "up", "--port", "0", "--sandbox-port", "0", "--data", str(data), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")} | settings
        with self._log.open("wb") as log:
            out = log if output is None else output
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ready(self) -> str:
        """The URL of the `ready` line."""
        self.until(lambda: "\nready " in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        return self.said.partition("\nready ")[2].split()[0]

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)  # another process is at work: real time is what passes here

    def processes(self) -> set[int]:
        """Itself, its engines, and every process that any of them started."""
        return _with_children({self.process.pid} | self.engines())

    def engines(self) -> set[int]:
        """The engines on record, adopted ones too."""
        return {json.loads(record.read_text())["pid"] for record in (self.data / "run").glob("*.json")}

    def all_of_engines(self) -> set[int]:
        """The engines and every process that they started."""
        return _with_children(self.engines())

    def ends(self, number: signal.Signals) -> int:
        """Sends a signal, waits for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts a system in `tmp_path/m`. Whatever a failed test leaves is ended by its ids."""
    started: list[Up] = []

    def start(*arguments: str, output: int | None = None, **settings: str) -> Up:
        started.append(Up(tmp_path / "m", *arguments, output=output, **settings))
        return started[-1]

    yield start
    left = set().union(*(one.processes() for one in started))
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for one in started:
        one.process.wait()
    erase_postgres(tmp_path / "m")


def still_there(pids: set[int]) -> set[int]:
    return pids & parents().keys()


@pytest.fixture
def alive() -> Callable[[set[int]], set[int]]:
    """Which of these processes still live."""
    return still_there
