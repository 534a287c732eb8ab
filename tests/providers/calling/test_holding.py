"""A worker that is not sure of its jobs makes their calls when it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from backend.clock import ManualClock
from backend.jobs.holding import Holding
from backend.providers.calling.holding import HolderGuard
from backend.providers.calls import Call, Scope
from tests.providers.given import BANK, NOW

T = TypeVar("T")
READ: Call[str] = Call(api_code="BA01", scope=Scope.READ, method="GET", path="/x", read=lambda _c, _b: "")


class Open:
    """A guard that lets everything through."""

    async def through(self, _org_code: str, _call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        return await attempt()


async def test_a_call_waits_until_its_worker_is_sure() -> None:
    holding, made = Holding(ManualClock(NOW)), list[str]()

    async def attempt() -> str:
        made.append("call")
        return "answer"

    guard = HolderGuard(Open(), holding)
    assert await guard.through(BANK, READ, attempt) == "answer"
    holding.renewed(-1.0)
    waiting = asyncio.create_task(guard.through(BANK, READ, attempt))
    for _ in range(5):
        await asyncio.sleep(0)
    assert made == ["call"]
    holding.renewed(1.0)
    assert await waiting == "answer"
    assert made == ["call"] * 2
