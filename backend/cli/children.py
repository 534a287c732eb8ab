"""Keeps what `moa up` starts: processes of ours and engines. What ends by itself is started again, with back-off, and said.

In: how to start it. Out: it runs until `stop`, which asks politely, waits, and then insists.
Each child has its own session, so that Ctrl-C in the terminal reaches only the parent, and never outlives the parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from backend.engines import Engine
from backend.errors import MoaError

Say = Callable[[str], None]

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds before a child is started again
SETTLED = 30.0  # a child that lived so long has got over its fault
PATIENCE = 3  # ends in a row before the system was ready once
ENGINE_LOOK = 0.5  # seconds between two looks at an engine


class ChildFailed(MoaError):
    """A child does not stay up. The message is one plain line."""


@dataclass
class Child:
    """One process of ours: `moa <arguments>`."""

    name: str
    arguments: tuple[str, ...]
    say: Say
    hurry: asyncio.Event  # set: nobody waits for politeness any more
    listener: socket.socket | None = None  # inherited; ours keeps the port while the child is started again
    settled: bool = False  # whether the system was ready once; from then on nobody gives up
    _process: asyncio.subprocess.Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Runs it until `stop`. Raises `ChildFailed` if it cannot get up in the first place."""
        faults = 0
        while not self._stopping.is_set():
            born = asyncio.get_running_loop().time()
            code = await self._run()
            if self._stopping.is_set():
                return
            faults = 1 if asyncio.get_running_loop().time() - born > SETTLED else faults + 1
            if faults >= PATIENCE and not self.settled:
                raise ChildFailed(f"{self.name} ended {faults} times ({_words(code)}) before it was ready; its last lines are above")
            pause = min(FIRST_PAUSE * 2 ** (faults - 1), LONGEST_PAUSE)
            self.say(f"{self.name} ended ({_words(code)}); starting it again in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL if it still runs after `seconds` or when somebody is in a hurry."""
        self._stopping.set()
        if self.listener is not None:  # else the port would go on letting clients in when nobody is left to answer them
            self.listener.close()
        process = self._process
        if process is None or process.returncode is not None:
            return
        _send(process, signal.SIGTERM)
        ended, hurried = asyncio.ensure_future(process.wait()), asyncio.ensure_future(self.hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            self.say(f"{self.name} is killed" + ("" if self.hurry.is_set() else f": it did not end in {seconds:g} s"))
            _send(process, signal.SIGKILL)
        await ended

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _run(self) -> int:
        command = (sys.executable, "-u", "-m", "backend.cli", *self.arguments, "--parent", str(os.getpid()))
        inherited = () if self.listener is None else (self.listener.fileno(),)
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=inherited, start_new_session=True
        )
        if self._stopping.is_set():  # asked while it was being born
            _send(self._process, signal.SIGKILL)
        return await self._process.wait()


@asynccontextmanager
async def kept(children: list[Child], *, patience: float) -> AsyncIterator[asyncio.Task[None]]:
    """The children run inside; they are asked to end all at once. The task ends only by `ChildFailed`."""
    tasks = asyncio.gather(*(child.keep() for child in children))

    async def fate() -> None:
        await tasks

    task = asyncio.ensure_future(fate())
    try:
        yield task
    finally:
        await asyncio.gather(*(child.stop(patience) for child in children))
        await asyncio.wait({task})
        with suppress(ChildFailed):
            task.result()


@asynccontextmanager
async def kept_engine(start: Callable[[Path], Engine], data: Path, say: Say) -> AsyncIterator[Engine]:
    """An engine runs inside, and is started again when it ends by itself. Its URL stays the same."""
    current = await _whole(start, data)
    if current.adopted:
        say(f"{current.name} was left running by an earlier start (process {current.pid}); taken over")

    async def watch() -> None:
        nonlocal current
        while True:
            await asyncio.sleep(ENGINE_LOOK)
            if not current.alive():
                say(f"{current.name} ended; starting it again")
                current = await _restarted(start, data, say, current)

    watching = asyncio.ensure_future(watch())
    try:
        yield current
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await asyncio.to_thread(current.stop)


async def _restarted(start: Callable[[Path], Engine], data: Path, say: Say, ended: Engine) -> Engine:
    try:
        return await _whole(start, data)
    except (MoaError, OSError) as exc:  # the next look tries again
        say(f"{ended.name} cannot be started again: {exc}")
        return ended


async def _whole(start: Callable[[Path], Engine], data: Path) -> Engine:
    """Starts an engine in a thread. Cancelled meanwhile: waits for it and stops it again, so that none is forgotten."""
    starting = asyncio.ensure_future(asyncio.to_thread(start, data))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(MoaError):
            await asyncio.to_thread((await starting).stop)
        raise


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _words(code: int) -> str:
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
