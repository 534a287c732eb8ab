"""Who takes jobs, as a process of its own: our worker, arq's own, or a bare BLMOVE. Each notes when a job's handler was entered.

In: jobs `note` (end at once) and `hold` (last for ever, as a call to a slow provider does), each with a number. Out, when asked: the
moments by number, how many are held, the CPU used so far. All of them wait at the same Valkey through the same client.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.worker import Function, Worker, func
from redis.asyncio import Redis

from backend.clock import SystemClock
from backend.jobs.queue import QueueName, queue_key
from backend.jobs.valkey import connect
from backend.jobs.worker import Bounds, LeasedWorker
from backend.logs import configure_logs
from backend.settings import Settings
from benchmarks.companions import Answering, serve

MOST_JOBS = 2000  # at once; more than any round holds
LEASE = Settings.model_fields["job_lease"].default
RAW_WAITING, RAW_TAKEN = "raw:waiting", "raw:taken"
RAW_BLOCKS = 1.0  # seconds


class Notes:
    """What the handlers leave."""

    def __init__(self) -> None:
        self.entered: list[tuple[int, float]] = []
        self.held = 0
        self._for_ever = asyncio.Event()

    async def note(self, _ctx: object, *, number: int) -> None:
        self.entered.append((number, time.monotonic()))

    async def hold(self, _ctx: object, *, number: int) -> None:  # noqa: ARG002  # as `note`
        self.held += 1
        await self._for_ever.wait()

    def functions(self) -> list[Function]:
        return [func(deed, name=deed.__name__) for deed in (self.note, self.hold)]  # type: ignore[arg-type]  # arq types the context only

    async def answer(self, _question: dict[str, Any]) -> object:
        entered, self.entered = self.entered, []
        return {"entered": entered, "held": self.held, "cpu": time.process_time()}


def wire(url: str) -> Redis:
    """The client of every one of them, and of whoever leaves jobs for them."""
    return connect(url, timeout=5.0, pool=50)


def _leased(url: str, notes: Notes) -> Coroutine[Any, Any, None]:
    worker = LeasedWorker(
        notes.functions(),
        queue=QueueName.INTERACTIVE,
        redis=lambda: wire(url),
        clock=SystemClock(),
        bounds=Bounds(lease=LEASE, max_jobs=MOST_JOBS),
    )
    return worker.run()


def _stock(url: str, notes: Notes, poll: float) -> Coroutine[Any, Any, None]:
    """With JSON for pickle and without results, which favours it."""
    worker = Worker(
        notes.functions(),
        queue_name=queue_key(QueueName.INTERACTIVE),
        redis_pool=ArqRedis(wire(url).connection_pool, orjson.dumps, orjson.loads, queue_key(QueueName.INTERACTIVE)),
        handle_signals=False,
        poll_delay=poll,
        max_jobs=MOST_JOBS,
        keep_result=0,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )
    return worker.async_run()


async def _raw(url: str, notes: Notes) -> None:
    """The least that hands a piece of work over so that it is not lost with its taker. The payload is `n<number>` or `h<number>`."""
    ear = wire(url).client()
    running: set[asyncio.Task[None]] = set()
    while True:
        taken = await ear.execute_command("BLMOVE", RAW_WAITING, RAW_TAKEN, "LEFT", "RIGHT", RAW_BLOCKS)  # type: ignore[no-untyped-call]
        if taken is None:
            continue
        if taken[:1] == b"n":
            await notes.note(None, number=int(taken[1:]))
        else:
            running.add(asyncio.create_task(notes.hold(None, number=int(taken[1:]))))


def _begin(asked: argparse.Namespace) -> Callable[[], Awaitable[Answering]]:
    async def begin() -> Answering:
        notes = Notes()
        match asked.kind:
            case "leased":
                work = _leased(asked.url, notes)
            case "stock":
                work = _stock(asked.url, notes, asked.poll)
            case _:
                work = _raw(asked.url, notes)
        task = asyncio.create_task(work)
        task.add_done_callback(lambda ended: ended.result())  # none of them ends by itself
        return notes.answer

    return begin


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takers")
    parser.add_argument("kind", choices=("leased", "stock", "raw"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--poll", type=float, default=0.5, help="seconds; arq's own")
    asked = parser.parse_args()
    configure_logs(Settings(data=Path(), log_level="warning"), process="taker")
    serve(_begin(asked))


if __name__ == "__main__":
    main()
