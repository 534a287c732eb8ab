"""Stands before every call that is made for a job: a worker that stood still asks first whether the job is still its own.

In: a call, its attempt, and who knows (`jobs/holding.py`). Out: what the guard behind gives. While the worker is sure nothing is awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from backend.providers.calling.transport import Guard
from backend.providers.calls import Call

T = TypeVar("T")


class Holder(Protocol):
    """Who knows whether what is worked on is surely ours."""

    @property
    def is_sure(self) -> bool: ...

    async def until_sure(self) -> None: ...


class HolderGuard:
    """`transport.Guard` before another one."""

    def __init__(self, guard: Guard, holder: Holder) -> None:
        self._guard = guard
        self._holder = holder

    def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """As the guard behind does it."""
        if self._holder.is_sure:
            return self._guard.through(org_code, call, attempt)
        return self._later(org_code, call, attempt)

    async def _later(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        await self._holder.until_sure()
        return await self._guard.through(org_code, call, attempt)
