"""Calls to receivers that have begun and not ended: begun without being waited for, and given a moment when their process stops.

In: coroutines. Out: `ended` after each of them; `failed` with what one raised by a fault of ours, whose lease then ends, and which is tried
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class UnderWay:
    """Counts them with `len`."""

    def __init__(self, *, failed: Callable[[BaseException], None], ended: Callable[[], None] = lambda: None) -> None:
        self._failed = failed
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, call: Coroutine[Any, Any, None]) -> None:
        """Starts it; who starts it does not wait."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    async def idle(self) -> None:
        """When every one has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def end_within(self, seconds: float) -> None:
        """Waits so long at most, then ends what is left. Works in a task that was cancelled, too."""
        if self._tasks:  # in a task of its own: before Python 3.11.3 no timeout works inside of one that was cancelled (gh-102780)
            await asyncio.create_task(asyncio.wait(self._tasks, timeout=seconds))
        self.cancel()

    def cancel(self) -> None:
        """Ends all of them, now."""
        for task in self._tasks:
            task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended()
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._failed(exc)
