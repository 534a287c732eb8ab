"""What the leader's samples hold, for operators to look at: told once a second, forgotten as soon as nobody tells any more.

In: figures by circuit. Out: the same, for any process. Nothing is decided by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from backend.jobs.valkey import engine_errors
from backend.metrics import Metric, Sample, Samples
from backend.providers.circuits import Circuit

FIGURES = "moa:coordinator:v1:{lead}:figures"  # an array of `Figures`
TOLD_EVERY = 1.0  # seconds
LIFE_MS = 5_000


class Figures(Struct, frozen=True, kw_only=True):
    """What a sample holds of a circuit."""

    circuit: Circuit
    calls: int
    failure_rate: float | None  # percent; None: too few calls to tell
    left_out: tuple[str, ...] = ()  # nodes that are no witnesses: bad here, or at so many institutions that it must be them
    bad: tuple[str, ...] = ()  # of the nodes that were heard of lately: those whose calls fail here where the others' succeed


_DECODER = msgspec.msgpack.Decoder(tuple[Figures, ...])


class ValkeyFigures:
    """The figures in Valkey. Every method raises `EngineUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, figures: Iterable[Figures]) -> None:
        """Replaces what was told before."""
        with engine_errors():
            await self._redis.set(FIGURES, msgspec.msgpack.encode(tuple(figures)), px=LIFE_MS)

    async def read(self) -> Mapping[Circuit, Figures]:
        """What was told last; nothing while nobody leads, or if another version tells it in another way."""
        with engine_errors():
            told = await self._redis.get(FIGURES)
        try:
            return {each.circuit: each for each in _DECODER.decode(told)} if told else {}
        except msgspec.MsgspecError:
            return {}

    async def measured(self) -> Samples:
        """What was told last, for metrics."""
        return [sample for each in (await self.read()).values() for sample in _samples(each)]


def _samples(told: Figures) -> Samples:
    labels = told.circuit.org_code, told.circuit.scope.value
    yield Sample(Metric.CIRCUIT_CALLS, labels, told.calls)
    yield Sample(Metric.CIRCUIT_LEFT_OUT, labels, len(told.bad))
    if told.failure_rate is not None:
        yield Sample(Metric.CIRCUIT_FAILURES, labels, told.failure_rate / 100)
