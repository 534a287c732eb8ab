"""Looks for what is wrong, again and again, and says it to `Alerts`. The leading coordinator runs these sweeps.

In: how circuits stand, what their samples hold, queues, sums of answers, certificates. Out: alerts that begin and end. What was only not
seen for a moment (a store that was emptied, another leader) is not over yet: it ends `HOLD` after it was seen last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from backend.clock import iso
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.outcomes import RspCode
from backend.reporting.alarms import AlertKind, Alerts, Facts
from backend.reporting.figures import whole_hours
from backend.storage import traffic_marks
from backend.storage.database import Database

HOLD = timedelta(seconds=60)
QUIET = timedelta(minutes=5)  # without lost work, after which it is over
LOOK = timedelta(seconds=5)  # between two looks at what changes slowly
ANSWERS = timedelta(seconds=30)
LAST_ANSWER = timedelta(minutes=10)  # after which an answer that came no more is over

Found = Mapping[str, Facts]  # facts by the alert's key


class Stands(Protocol):
    """How a circuit stands."""

    @property
    def circuit(self) -> Circuit: ...
    @property
    def state(self) -> CircuitState: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def reason(self) -> str: ...


class Holds(Protocol):
    """What a sample holds."""

    @property
    def bad(self) -> Collection[str]:
        """Nodes that fail where the others succeed."""
        ...


class Watch:
    """A sweep: what `look` finds is wrong, and nothing else of this kind."""

    def __init__(
        self, kind: AlertKind, look: Callable[[datetime], Awaitable[Found]], alerts: Alerts, *, every: timedelta, hold: timedelta
    ) -> None:
        """`hold`: for so long what is not found any more may be found again."""
        self.name = f"watch_{kind.value}"
        self._kind = kind
        self._look = look
        self._alerts = alerts
        self._every = every
        self._hold = hold
        self._due: datetime | None = None
        self._seen: dict[str, tuple[datetime, Facts]] = {}

    async def sweep(self, now: datetime) -> int:
        """Always 0: nothing was lost. Raises `EngineUnavailable`; then what is known stands."""
        if self._due is not None and now < self._due:
            return 0
        found = await self._look(now)
        self._seen = {key: each for key, each in self._seen.items() if now - each[0] < self._hold}
        self._seen |= {key: (now, facts) for key, facts in found.items()}
        await self._alerts.align(self._kind, {key: facts for key, (_, facts) in self._seen.items()})
        self._due = now + self._every
        return 0


class Swept(Protocol):
    """A sweep that finds lost work."""

    @property
    def name(self) -> str: ...
    async def sweep(self, now: datetime) -> int: ...


class Noted:
    """A sweep for lost work, of which operators hear when it finds some."""

    def __init__(self, sweep: Swept, alerts: Alerts) -> None:
        self.name = sweep.name
        self._sweep = sweep
        self._alerts = alerts
        self._found = 0
        self._over_at: datetime | None = None  # None: nothing is known of it yet

    async def sweep(self, now: datetime) -> int:
        """See `Sweep`. Raises what it raises, and `EngineUnavailable`."""
        found = await self._sweep.sweep(now)
        key = f"lost:{self.name}"
        if found or self._over_at is None:
            self._over_at = now + QUIET
        if found:
            self._found += found
            await self._alerts.raise_alert(key, AlertKind.LOST_WORK, {"sweep": self.name, "found": self._found})
        elif now >= self._over_at:
            await self._alerts.end_alert(key)
            self._found, self._over_at = 0, now + QUIET
        return found


def circuits_that_refuse(standings: Callable[[], Awaitable[Sequence[Stands]]]) -> Callable[[datetime], Awaitable[Found]]:
    """Circuits that are not closed: decided so, or forced."""

    async def look(_: datetime) -> Found:
        return {_circuit_key(each.circuit): _circuit_facts(each) for each in await standings() if each.state is not CircuitState.CLOSED}

    return look


def bad_nodes(figures: Callable[[], Awaitable[Mapping[Circuit, Holds]]]) -> Callable[[datetime], Awaitable[Found]]:
    """Nodes whose calls fail where the others' succeed."""

    async def look(_: datetime) -> Found:
        where: dict[str, set[str]] = {}
        for circuit, held in (await figures()).items():
            for node in held.bad:
                where.setdefault(node, set()).add(circuit.org_code)
        return {f"node:{node}": {"node": node, "org_codes": sorted(org_codes)} for node, org_codes in where.items()}

    return look


def late_queues(ages: Callable[[], Awaitable[Mapping[str, float]]], limit: float) -> Callable[[datetime], Awaitable[Found]]:
    """`ages`: by how many seconds the oldest job of each queue is late; told in steps, so that facts do not change at each look."""

    async def look(_: datetime) -> Found:
        late = {queue: seconds for queue, seconds in (await ages()).items() if seconds > limit}
        return {f"queue:{queue}": {"queue": queue, "seconds": int(seconds // 10 * 10), "limit": limit} for queue, seconds in late.items()}

    return look


class Answers:
    """Institutions that gave one answer to scheduled calls since the last look.

    Sums are kept by the hour, so what is looked for is a sum that has grown. The first look of a leader has none to compare with: it
    finds what is told as wrong, and what is more than was told of it last.
    """

    def __init__(self, database: Database, alerts: Alerts, kind: AlertKind, reason: RspCode, prefix: str) -> None:
        self._database = database
        self._alerts = alerts
        self._kind = kind
        self._reason = reason
        self._prefix = prefix
        self._counted: Mapping[tuple[str, datetime], int] | None = None  # by institution and hour, at the last look

    async def look(self, now: datetime) -> Found:
        """`calls`: of the hour that runs and of the one before. Raises `EngineUnavailable`."""
        since = whole_hours(now) - timedelta(hours=1)
        async with self._database.reading() as connection:
            rows = await traffic_marks.scheduled_failed(connection, since, self._reason.value)
        counted = {(row["org_code"], row["hour"]): row["calls"] for row in rows}
        calls: dict[str, int] = {}
        for (org_code, _), count in counted.items():
            calls[org_code] = calls.get(org_code, 0) + count
        found = {f"{self._prefix}:{org_code}": {"org_code": org_code, "calls": count} for org_code, count in calls.items()}
        if self._counted is None:
            grown = await self._untold(found, since)
        else:
            before = self._counted
            more = {org_code for (org_code, hour), count in counted.items() if count > before.get((org_code, hour), 0)}
            grown = {key: facts for key, facts in found.items() if facts["org_code"] in more}
        self._counted = counted
        return grown

    async def _untold(self, found: Found, since: datetime) -> Found:
        """What is told as wrong, and of the rest what is more than was told when it was over."""
        told = {alert.key: alert for alert in await self._alerts.lately(self._kind, since=since)}
        still = {key: alert.facts for key, alert in told.items() if alert.closed_at is None}
        more = {key: facts for key, facts in found.items() if key not in told or facts["calls"] > told[key].facts.get("calls", 0)}
        return still | more


def certificates(ends: Callable[[], Awaitable[Mapping[str, datetime]]], days: int) -> Callable[[datetime], Awaitable[Found]]:
    """`ends`: when the certificate ends that we show to each institution."""

    async def look(now: datetime) -> Found:
        near = {org_code: at for org_code, at in (await ends()).items() if at - now < timedelta(days=days)}
        return {
            f"certificate:{org_code}": {"org_code": org_code, "ends_at": iso(at), "days": max(0, (at - now).days)}
            for org_code, at in near.items()
        }

    return look


def _circuit_key(circuit: Circuit) -> str:
    return f"circuit:{circuit.org_code}:{circuit.scope.value}"


def _circuit_facts(stands: Stands) -> Facts:
    """Why it opened stays known while probes look."""
    facts = {"org_code": stands.circuit.org_code, "scope": stands.circuit.scope.value, "mode": stands.mode.value}
    of_a_probe = stands.mode is Mode.AUTO and stands.reason.startswith("prob")
    return facts if of_a_probe else facts | {"reason": stands.reason}
