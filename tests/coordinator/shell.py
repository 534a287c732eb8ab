"""A fleet at a real Valkey, without calls: leaders that decide, nodes that report what they are told to and mirror what was decided.

Time is the machine's, since leaders count by Valkey's clock, which no test can move: waits are short instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from redis.asyncio import Redis

from backend.clock import Clock, SystemClock
from backend.coordinator.alone import Alone
from backend.coordinator.asking import Asking
from backend.coordinator.deciding import Deciding
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.following import Following
from backend.coordinator.leader import FENCE
from backend.coordinator.options import Options
from backend.coordinator.store import ValkeyStore
from backend.coordinator.stream import ValkeyStream
from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect
from backend.providers.calling.mirror import Mirrors
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, CircuitState, Decision, Mode, Report
from backend.providers.outcomes import Weight
from backend.realtime.channels import dialer

READ, TOKEN, OTHER = Circuit("A", Scope.READ), Circuit("A", Scope.TOKEN), Circuit("B", Scope.READ)
OPTIONS = Options(
    size=6,
    minimum_calls=4,
    in_a_row=3,
    warm_up_ms=0,
    wait_ms=300,
    longest_wait_ms=600,
    jitter=0.0,
    probe_lease_ms=500,
    ramp_ms=0,
    expires_ms=2_000,
)

CLOCK = SystemClock()


@dataclass
class Operators:
    """`deciding.OperatorsModes`: what they said last. While `away`, nobody can read it."""

    said: dict[str, tuple[Mode, str]] = field(default_factory=dict)
    away: bool = False

    async def modes(self) -> Mapping[str, tuple[Mode, str]]:
        if self.away:
            raise EngineUnavailable("PostgreSQL")
        return dict(self.said)


@dataclass
class Node:
    """One process."""

    name: str
    mirrors: Mirrors
    following: Following
    alone: Alone
    asking: Asking
    stream: ValkeyStream
    number: int = 0
    changes: list[tuple[float, Decision]] = field(default_factory=list)  # and when

    async def report(self, weight: Weight, times: int = 1, circuit: Circuit = READ, *, epoch: int | None = None) -> Report:
        """What became of so many calls."""
        self.number += 1
        under = self.mirrors.of(circuit.org_code, circuit.scope).epoch if epoch is None else epoch
        report = Report(node=self.name, number=self.number, calls=(CallEnded(circuit, under, weight, 1.0),) * times)
        await self.stream.append(report)
        return report

    def state(self, circuit: Circuit = READ) -> CircuitState:
        return self.mirrors.state_of(circuit)


class Fleet:
    """Everything at one Valkey."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = self.connect()
        self.store = ValkeyStore(self.redis)
        self.stream = ValkeyStream(self.redis)
        self.operators = Operators()
        self.nodes: list[Node] = []
        self._tasks: list[asyncio.Task[None]] = []

    def connect(self) -> Redis:
        return connect(self.url, timeout=2.5, pool=10)

    def deciding(self, redis: Redis | None = None, options: Options = OPTIONS, clock: Clock = CLOCK) -> Deciding:
        redis = redis or self.redis
        return Deciding(
            store=ValkeyStore(redis),
            stream=ValkeyStream(redis),
            modes=self.operators,
            figures=ValkeyFigures(redis),
            circuits_of=lambda org_code: (Circuit(org_code, Scope.READ), Circuit(org_code, Scope.TOKEN)),
            options=options,
            clock=clock,
        )

    @asynccontextmanager
    async def led(self, token: int, deciding: Deciding | None = None, *, elected: bool = True) -> AsyncIterator[None]:
        """Another leads while the block runs, once it hears."""
        if elected:
            await self.redis.set(FENCE, token)
        task = self._begin((deciding or self.deciding()).reign(token))
        await asyncio.sleep(0.05)  # it hears what comes from then on
        yield
        await ended(task)

    async def node(self, name: str, redis: Redis | None = None) -> Node:
        """Another process, once it knows the whole state, if it can."""
        redis = redis or self.redis
        mirrors = Mirrors(CLOCK)
        alone = Alone(mirrors=mirrors, options=OPTIONS, clock=CLOCK)
        stream = ValkeyStream(redis)
        following = Following(store=ValkeyStore(redis), dial=dialer(redis), mirrors=mirrors, options=OPTIONS, clock=CLOCK, understudy=alone)
        asking = Asking(stream=stream, name=name, alone=alone)
        node = Node(name, mirrors, following, alone, asking, stream)
        for heard in (following, alone):
            heard.on_change(lambda decision: node.changes.append((CLOCK.monotonic(), decision)))
        following.on_admitted(asking.answered)
        self._begin(following.run())
        self._begin(alone.run())
        with suppress(TimeoutError):
            await asyncio.wait_for(following.informed.wait(), 2)
        self.nodes.append(node)
        return node

    async def several(self, count: int) -> list[Node]:
        return [await self.node(f"n{number}") for number in range(count)]

    async def fails(self, circuit: Circuit = READ) -> None:
        """Two nodes meet it; enough to open."""
        for node in self.nodes[:2]:
            await node.report(Weight.FAILURE, 2, circuit)

    async def all_are(self, state: CircuitState, circuit: Circuit = READ, seconds: float = 3.0) -> None:
        await until(lambda: all(node.state(circuit) is state for node in self.nodes), seconds)

    def _begin(self, work: object) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type, call-overload]
        self._tasks.append(task)
        return task  # type: ignore[no-any-return]

    async def close(self) -> None:
        await ended(*self._tasks)
        await self.redis.aclose()


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(answer, Exception):
            raise answer


async def until(condition: Callable[[], bool], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
