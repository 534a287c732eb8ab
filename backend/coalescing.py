"""Calls that come at about the same time are made as one, as a DataLoader does; nobody waits for company.

In: one item at a time. Out: its own result. What comes in one turn of the event loop goes together, and what comes while a call is under
way goes with the next. A call that fails fails for all who share it; a caller that is cancelled leaves the others alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Coalesced(Generic[A, R]):
    """`call` takes up to `most` items and returns a result for each, in their order. One is under way at a time."""

    def __init__(self, call: Callable[[Sequence[A]], Awaitable[Sequence[R]]], *, most: int) -> None:
        self._call = call
        self._most = most
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._caller: asyncio.Task[None] | None = None

    async def __call__(self, item: A) -> R:
        """The result for this item. Raises what the call does."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._caller is None:
            self._caller = asyncio.create_task(self._calling())
        return await result

    async def _calling(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._called([pair for pair in batch if not pair[1].done()])
        finally:
            self._caller = None
            for _, result in self._waiting:  # only if this was cancelled, with the whole process
                result.cancel()

    async def _called(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        try:
            results = await self._call([item for item, _ in batch])
        except Exception as exc:
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
