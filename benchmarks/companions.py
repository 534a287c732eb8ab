"""Processes that stand beside the generator, and are asked over pipes: a worker, a client, a baseline's server.

In: a module with a `main` that calls `serve`. Out: answers, one JSON line for each question; nothing is said while something is measured.
What they measure are moments on `time.monotonic`, which all processes of one machine share. They end with their standard input.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import structlog
import uvloop

LONGEST_LINE = 64 * 1024 * 1024  # bytes
PATIENCE = 30.0  # seconds for an answer, and for the end

Answering = Callable[[dict[str, Any]], Awaitable[object]]


class Silent(Exception):
    """The process has ended, or could not answer; what it wrote is on standard error."""


class Companion:
    """The near end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def ask(self, **question: object) -> Any:
        """Its answer. Raises `Silent`."""
        wire_in, wire_out = self._process.stdin, self._process.stdout
        if wire_in is None or wire_out is None:
            raise Silent
        async with self._turn, asyncio.timeout(PATIENCE):
            wire_in.write(orjson.dumps(question) + b"\n")
            line = await wire_out.readline()
        if not line:
            raise Silent
        return orjson.loads(line)

    def freeze(self) -> None:
        """It gets no CPU until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def companion(module: str, *arguments: str) -> AsyncIterator[Companion]:
    """`python -m <module> <arguments>`, ready to be asked. It is killed in the end: nothing of it is to be kept."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE
    )
    try:
        near = Companion(process)
        await near.ask()
        yield near
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.wait(), PATIENCE)


def serve(begin: Callable[[], Awaitable[Answering]]) -> None:
    """The far end: answers questions until there are none. `begin` prepares, inside the loop; an empty question only asks if it is done."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for answers
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(begin))


async def _serve(begin: Callable[[], Awaitable[Answering]]) -> None:
    answer = await begin()
    questions = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while line := await questions.readline():
        question = orjson.loads(line)
        sys.stdout.buffer.write(orjson.dumps(await answer(question) if question else None) + b"\n")
        sys.stdout.buffer.flush()
