"""Where decisions lie: each circuit's standing, in Valkey, and a channel on which every change is told.

In: standings and decisions of the leader, fenced by its token. Out: the whole state, for leaders that begin and for nodes. Moments are of
Valkey's clock, by which every reader tells what is left of them. What lies here is of one life, its lineage: a Valkey that was wiped begins
another, and whoever led in the old one is refused. Never here: a judgement, or a wait without an end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis

from backend.coordinator.leader import FENCE
from backend.coordinator.options import Options
from backend.coordinator.standing import Standing, decision_of
from backend.jobs.valkey import engine_errors
from backend.providers.circuits import Circuit, Decision, Decisions

LINEAGE = "moa:coordinator:v1:{lead}:lineage"  # names the life of what lies here
STANDINGS = "moa:coordinator:v1:{lead}:standings"  # hash: circuit -> Standing
CHANNEL = "moa:coordinator:v1:{lead}:decisions"  # each message is a `Told`

log = structlog.get_logger(__name__)


class Reign(Struct, frozen=True):
    """Who writes."""

    lineage: str  # in which the reign began
    token: int  # of the lead (`leader.py`)


class Stored(Struct, frozen=True, kw_only=True):
    """The whole state at one moment."""

    lineage: str
    token: int  # of the newest leader; 0: there was none
    now_ms: float  # Unix time, by the store's clock
    standings: tuple[Standing, ...]


class Admitted(Struct, frozen=True):
    """The answer to who asked for a probe, or for more time with it: it is theirs."""

    name: str
    number: int  # of the asking
    decision: Decision  # half-open, as it stands now


class Told(Struct, frozen=True):
    """What is published."""

    decisions: Decisions
    admitted: tuple[Admitted, ...] = ()


class DecisionStore(Protocol):
    """What leaders and nodes need of it. Every method raises `EngineUnavailable`."""

    async def read(self) -> Stored: ...

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        """Stores, then tells. False: refused, since another leads or the store is another; nothing was stored then."""
        ...


class ValkeyStore:
    """The store in Valkey."""

    def __init__(self, redis: Redis) -> None:
        self._put, self._read = (redis.register_script(_lua(name)) for name in ("store", "whole"))

    async def read(self) -> Stored:
        """See `DecisionStore`. Begins a lineage where there is none."""
        with engine_errors():
            lineage, token, now_ms, *flat = await self._read([LINEAGE, STANDINGS, FENCE], [_fresh_lineage()])
        return Stored(lineage=lineage.decode(), token=int(token), now_ms=float(now_ms), standings=tuple(_standings(flat[1::2])))

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        """See `DecisionStore`. Doing the same again is right after `EngineUnavailable`."""
        told = msgspec.msgpack.encode(Told(Decisions(reign.lineage, tuple(decisions)), tuple(admitted))) if decisions or admitted else b""
        arguments: list[Any] = [reign.lineage, reign.token, CHANNEL, told]
        for standing in standings:
            arguments += [_field(standing.circuit), msgspec.msgpack.encode(standing)]
        with engine_errors():
            return bool(await self._put([LINEAGE, STANDINGS, FENCE], arguments))

    async def standings(self) -> Sequence[Standing]:
        """As they are stored."""
        return (await self.read()).standings


class MemoryStore:
    """The twin. `publish` gets what Valkey would; `now_ms` is its clock."""

    def __init__(self, now_ms: Callable[[], float], publish: Callable[[str, bytes], None] = lambda _channel, _message: None) -> None:
        self._now_ms = now_ms
        self._publish = publish
        self.token = 0
        self.forget()

    def forget(self) -> None:
        """What a wiped Valkey knows."""
        self.token = 0
        self._lineage = _fresh_lineage()
        self._stored: dict[Circuit, Standing] = {}

    async def read(self) -> Stored:
        """See `DecisionStore`."""
        return Stored(lineage=self._lineage, token=self.token, now_ms=self._now_ms(), standings=tuple(self._stored.values()))

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        """See `DecisionStore`."""
        if reign != Reign(self._lineage, self.token):
            return False
        self._stored |= {standing.circuit: standing for standing in standings}
        if decisions or admitted:
            told = Told(Decisions(reign.lineage, tuple(decisions)), tuple(admitted))
            self._publish(CHANNEL, msgspec.msgpack.encode(told))
        return True


def as_decisions(stored: Stored, options: Options) -> Decisions:
    """The whole state as nodes take it: what is left of each duration by now."""
    return Decisions(stored.lineage, tuple(decision_of(standing, stored.now_ms, options) for standing in stored.standings))


def _fresh_lineage() -> str:
    return secrets.token_urlsafe(9)


def _field(circuit: Circuit) -> str:
    return f"{circuit.org_code}/{circuit.scope.value}"


def _standings(values: Iterable[bytes]) -> Iterable[Standing]:
    """One that nobody here can read, of a newer version perhaps, is passed over: its circuit begins anew under larger epochs."""
    for value in values:
        try:
            yield msgspec.msgpack.decode(value, type=Standing)
        except msgspec.MsgspecError:
            log.warning("standing.not_understood")


def _lua(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()
