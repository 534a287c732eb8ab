"""Starts what is measured, each as processes of their own, and ends it without a trace: the system of `moa up`, and baselines.

In: a command. Out: its URL, once it said `ready http://…`. What it writes goes to a file, which is shown if it does not come up.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from backend.engines import erase_postgres
from backend.settings import Settings, load_settings

LAST_WORDS = 4000  # characters of its log that are shown when something fails
PATIENCE = 90.0  # seconds to come up, and again to end
NOTHING: Mapping[str, str] = MappingProxyType({})


class DidNotStart(Exception):
    """Its last words are in the note."""


@dataclass(frozen=True)
class System:
    """A running `moa up` with its sandbox."""

    folder: Path
    settings: Settings  # as every command finds them: URLs of engines, API, sandbox


@asynccontextmanager
async def moa_up(*arguments: str, sandbox_port: int = 0, environment: Mapping[str, str] = NOTHING) -> AsyncIterator[System]:
    """The system on free ports, in a folder of its own. `environment`: settings beyond the usual."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    data = folder / "data"
    ports = ("--port", "0", "--sandbox-port", str(sandbox_port))
    try:
        async with started("moa-up", "backend.cli", "up", *ports, "--data", str(data), *arguments, folder=folder, environment=environment):
            yield System(folder, load_settings(data))
    finally:
        erase_postgres(data)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def started(name: str, module: str, *arguments: str, folder: Path, environment: Mapping[str, str] = NOTHING) -> AsyncIterator[str]:
    """`python -m <module> <arguments>` as a process; its URL. Raises `DidNotStart`."""
    said = folder / f"{name}.log"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MOA_")} | dict(environment)
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=variables
        )
    try:
        yield await _ready(process, said)
    except Exception as exc:
        await _ended(process)
        exc.add_note(f"{name} wrote last:\n{_read(said)[-LAST_WORDS:]}")
        raise
    finally:
        await _ended(process)


async def _ready(process: asyncio.subprocess.Process, said: Path) -> str:
    async with asyncio.timeout(PATIENCE):
        while process.returncode is None:
            for line in _read(said).splitlines():
                if line.startswith("ready "):
                    return line.split()[1]
            await asyncio.sleep(0.05)
    raise DidNotStart(said.stem)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), PATIENCE)


def _read(said: Path) -> str:
    return said.read_text(encoding="utf-8", errors="replace")
