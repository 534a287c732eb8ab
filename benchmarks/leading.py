"""A coordinator as a process of its own: leader and duty as `moa coordinator` runs them. It notes when it decided.

In: a Valkey. Out, when asked: `[org_code, moment]` of each circuit that it opened; from the moment on, the store is told.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from backend.clock import SystemClock
from backend.coordinator.deciding import Deciding
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.leader import Leader
from backend.coordinator.options import Options, WindowKind
from backend.coordinator.standing import Standing
from backend.coordinator.store import Admitted, Reign, ValkeyStore
from backend.coordinator.stream import ValkeyStream
from backend.jobs.valkey import connect
from backend.providers.circuits import CircuitState, Decision, Mode
from benchmarks.companions import Answering, serve

IN_A_ROW = 5  # failures that open a circuit
OPTIONS = Options(window=WindowKind.TIME, size=10, minimum_calls=1_000_000, in_a_row=IN_A_ROW, quorum=2, warm_up_ms=0)


class NotingStore(ValkeyStore):
    """The store, and when it was told that a circuit opens."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.opened: list[tuple[str, float]] = []

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        now = time.monotonic()
        self.opened += [(each.circuit.org_code, now) for each in decisions if each.state is CircuitState.OPEN]
        return await super().put(reign, standings, decisions, admitted)


class _NoModes:
    async def modes(self) -> Mapping[str, tuple[Mode, str]]:
        return {}


def _begin(valkey_url: str) -> Callable[[], Awaitable[Answering]]:
    async def begin() -> Answering:
        clock, redis = SystemClock(), connect(valkey_url, timeout=5.0, pool=10)
        store = NotingStore(redis)
        duty = Deciding(
            store=store,
            stream=ValkeyStream(redis),
            modes=_NoModes(),
            figures=ValkeyFigures(redis),
            circuits_of=lambda _: (),
            options=OPTIONS,
            clock=clock,
        )
        leading = asyncio.create_task(Leader(redis=redis, clock=clock, lease=5.0).run(duty.reign))

        async def answer(_question: dict[str, Any]) -> object:
            if leading.done():
                leading.result()
            opened, store.opened = store.opened, []
            return opened

        return answer

    return begin


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leading")
    parser.add_argument("--valkey", required=True, help="unix://…")
    serve(_begin(parser.parse_args().valkey))


if __name__ == "__main__":
    main()
