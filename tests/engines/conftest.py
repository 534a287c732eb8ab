"""A parent that starts an engine and can be killed, as `moa up` can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

PARENT = """
import json, pathlib, sys, time
from backend import engines
engine = getattr(engines, sys.argv[1])(pathlib.Path(sys.argv[2]))
print(json.dumps([engine.pid, engine.url]), flush=True)
time.sleep(60)
"""


@pytest.fixture
def killed_parent() -> Callable[[str, Path], tuple[int, str]]:
    """Starts an engine (`start_valkey`, `start_postgres`) in another process, kills that with SIGKILL; returns the engine's pid and URL."""

    def start_and_kill(start: str, data: Path) -> tuple[int, str]:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, start, str(data)], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        with parent.stdout as said:
            pid, url = json.loads(said.readline())
        parent.kill()
        parent.wait()
        return pid, url

    return start_and_kill


@pytest.fixture
def end_later():
    """Kills what a test left running, by its id."""
    pids: list[int] = []
    yield pids.append
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def modes_up_to_the_root(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of a folder and of every folder above it."""
    return {folder: (found.st_mode, found.st_uid, found.st_gid) for folder in (path, *path.parents) if (found := folder.stat())}


@pytest.fixture
def modes() -> Callable[[Path], dict[Path, tuple[int, int, int]]]:
    return modes_up_to_the_root
