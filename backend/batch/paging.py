"""A command's links, page by page, ahead of whoever sends them by one page and no more.

In: how to read what is due behind a position. Out: `ScheduledSendOperator`s through a channel that holds one; the last is empty. A page is
read by key when the one before it was taken, which is once a second; a slow one keeps nobody: the sender takes what there is. A run that
follows another reads the whole range again at its end: who was lost may have come back by then. PostgreSQL away is waited out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from backend.batch.commands import DueLink, Position, ScheduledSendOperator
from backend.batch.pace import SECONDS_OF_MINUTE
from backend.errors import EngineUnavailable

AGAIN_AFTER = 0.25  # seconds

Read = Callable[[Position, int], Awaitable[Sequence[DueLink]]]  # (behind, at most): in order; none: there are none

log = structlog.get_logger()


def page_size(size: int) -> int:
    """Links of one page of a minute of so many: a second's, rounded up. RULE."""
    return max(-(-size // SECONDS_OF_MINUTE), 1)


class Paging:
    """Reads one command's pages. `run` it beside the sender."""

    def __init__(
        self,
        read: Read,
        *,
        command: str,
        behind: Position,
        size: int,
        sleep: Callable[[float], Awaitable[None]],
        again_from: Position | None = None,
    ) -> None:
        """`again_from`: behind which everything is read once more at the end; None: it is not."""
        self._read = read
        self._again_from = again_from
        self._command = command
        self._behind = behind
        self._size = page_size(size)
        self._sleep = sleep
        self._channel: asyncio.Queue[ScheduledSendOperator] = asyncio.Queue(maxsize=1)
        self.has_failed = False  # by a fault of ours: there will be no more pages

    async def run(self) -> None:
        """Until the range is read."""
        try:
            await self._run()
        except Exception:
            self.has_failed = True
            raise

    async def _run(self) -> None:
        number, links = 0, await self._page()
        while links:
            await self._channel.put(ScheduledSendOperator(self._command, number, tuple(links)))
            await self._channel.join()
            number, links = number + 1, await self._page()
        await self._channel.put(ScheduledSendOperator(self._command, number, ()))

    async def _page(self) -> Sequence[DueLink]:
        while True:
            try:
                links = await self._read(self._behind, self._size)
            except EngineUnavailable as exc:
                log.info("batch.page_waits", engine=exc.engine)
                await self._sleep(AGAIN_AFTER)
                continue
            if links:
                self._behind = links[-1].position
            elif self._again_from is not None:
                self._behind, self._again_from = self._again_from, None
                continue
            return links

    def taken(self) -> ScheduledSendOperator | None:
        """The next page; None: it is not there yet."""
        if self._channel.empty():
            return None
        self._channel.task_done()
        return self._channel.get_nowait()
