"""Jobs that write down what becomes of them, for the tests of this room.

In: nothing. Out: a `Book`, two functions that write into it, and jobs that ask for them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from arq.worker import func

from backend.jobs.queue import Job

WAKE = "arq:queue:interactive:wake:v1"  # where tokens lie


class Book:
    """What ran, in which order, and how many at once."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.at: dict[str, float] = {}
        self.most = 0
        self.release = asyncio.Event()

    async def quick(self, ctx: dict[str, Any]) -> None:
        self.started.append(ctx["job_id"])
        self.at[ctx["job_id"]] = time.time()

    async def hold(self, ctx: dict[str, Any]) -> None:
        self.started.append(ctx["job_id"])
        self.most = max(self.most, len(self.started) - len(self.ended) - len(self.cancelled))
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.append(ctx["job_id"])
            raise
        self.ended.append(ctx["job_id"])


def functions(book: Book) -> tuple[Any, ...]:
    return func(book.quick, name="quick"), func(book.hold, name="hold")


def named(function: str, count: int) -> list[Job]:
    return [Job(function, {}, f"{function}-{number}") for number in range(count)]
