"""One batch worker's part in this process: commands as rows, links as rows, the real engines and the real sandbox, and time that is moved.

In: links to be read. Out: what rows, the sandbox's call log and `sent_at` say. The sender's sleep waits until everything that was begun
has come to rest, and then moves the clock: providers and PostgreSQL take no time, unless a test says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import httpx
import pytest

from backend.batch.calendar import in_korea, sunday_of
from backend.batch.commands import BEGINNING, Position, last_day
from backend.batch.gentle import Gentle
from backend.batch.pace import Limit
from backend.batch.sending import Sending
from backend.batches import batch_terms
from backend.cli.seeding import Minting
from backend.clock import Clock, ManualClock, SystemClock
from backend.errors import ProviderResting
from backend.hands import Hands, hands_of, sending_of
from backend.providers.calling.transport import Transport
from backend.providers.clients import http_clients
from backend.providers.outcomes import Failure
from backend.providers.sandbox.app import create_app as create_sandbox
from backend.providers.sandbox.options import SandboxOptions
from backend.services import Foundation, found, vault_of
from backend.settings import Settings
from backend.storage import seeding
from backend.storage.database import Database
from tests.registration.house import SECRET, VAULT_KEYS, serving

JSON = dict[str, Any]
TELECOM, BANK = "G1MOATC001", "A1MOABK001"  # the first is read with the fewest calls
_NUMBERS = count(1)


def on_a_wednesday() -> datetime:
    """Of this week, a whole minute in the night: what sandbox and tokens know as now lies within days of it."""
    sunday = sunday_of(in_korea(SystemClock().now()))
    return datetime.fromisoformat(f"{sunday + timedelta(days=3)}T03:00:00+09:00")


@dataclass
class Stage:
    """What is on it."""

    foundation: Foundation
    hands: Hands
    clock: ManualClock
    http: httpx.AsyncClient
    minting: Minting
    plans: list[tuple[datetime, Callable[[], object]]] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)
    sleepers: list[float] = field(default_factory=list)
    open_circuits: set[str] = field(default_factory=set)
    working: int = 0  # statements that are under way
    waits_for_calls: bool = True  # whether time stands while providers are asked

    @property
    def database(self) -> Database:
        return self.foundation.database

    def sending(self, **terms: Any) -> Sending:
        """A batch worker's, with a clock that it shares with all others."""
        given = batch_terms(self.foundation.settings)

        async def sleep(seconds: float) -> None:
            until = self.clock.monotonic() + seconds
            self.sleepers.append(until)
            try:
                while until - self.clock.monotonic() > 1e-6:  # what a timedelta can say
                    await self.rest()
                    left = until - self.clock.monotonic()
                    if left > 0 and until == min(self.sleepers):
                        self.move(left)
            finally:
                self.sleepers.remove(until)

        sending = sending_of(
            self.foundation,
            self.hands,
            terms=type(given)(**{name: getattr(given, name) for name in given.__struct_fields__} | terms),
            gate=lambda org_code: org_code not in self.open_circuits,
            gentle=Gentle(),
            sleep=sleep,
        )
        self.sendings.append(sending)
        return sending

    async def rest(self) -> None:
        """Until nothing is under way."""
        turns = 0
        while turns < 10:
            await asyncio.sleep(0)
            flying = self.waits_for_calls and any(sending.tally.flying for sending in self.sendings)
            turns = 0 if self.working or flying else turns + 1
            if not turns:
                await asyncio.sleep(0.0005)  # another program is at work: real time is what passes here

    async def linked(self, number: int, org_code: str = TELECOM, *, users: Sequence[str] | None = None) -> list[str]:
        """So many new links, in the order in which they are due. Returns their users."""
        provider = self.foundation.directory().provider(org_code)
        assert provider is not None
        people = list(users or (f"due-{next(_NUMBERS):06d}" for _ in range(number)))
        now = SystemClock().now()
        await seeding.seed(
            self.database,
            {user: self.minting.person(user) for user in people},
            [self.minting.link(user, provider, now) for user in people],
            now,
        )
        return people

    async def command(
        self, *, size: int, org_code: str = TELECOM, start: Position = BEGINNING, limit: Position | None = None, into: int = 0
    ) -> datetime:
        """A row as the coordinator writes it; its minute began `into` seconds ago."""
        begins = self.clock.now() - timedelta(seconds=into)
        week = sunday_of(in_korea(begins))
        take = Limit(calls_per_second=500.0)
        behind = limit or Position(last_day(week), 2**62)
        sql = """
            INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms,
              per_minute, state, at_due, at_link, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'waiting', $5, $6, $2)
        """
        range_ = (start.due_on, start.link_id, behind.due_on, behind.link_id)
        await self.execute(sql, org_code, begins, week, in_korea(begins), *range_, size, take.per_100ms(size), max(take.per_minute, size))
        return begins

    def at(self, minute: datetime, *, seconds: float, then: Callable[[], object]) -> None:
        """What happens when the clock comes by."""
        self.plans.append((self.moment_of(minute, seconds), then))

    def moment_of(self, minute: datetime, seconds: float) -> datetime:
        return minute + timedelta(seconds=seconds)

    def moment(self, **ahead: float) -> datetime:
        """So long from now."""
        return self.clock.now() + timedelta(**ahead)

    def pass_days(self, days: int) -> None:
        self.clock.move(timedelta(days=days))

    def move(self, seconds: float) -> None:
        self.clock.move(timedelta(seconds=seconds))
        for plan in [plan for plan in self.plans if plan[0] <= self.clock.now()]:
            self.plans.remove(plan)
            plan[1]()

    def refuse_calls(self, patch: pytest.MonkeyPatch) -> None:
        """As an open circuit does: nothing leaves."""

        async def refused(transport: Transport, *_: Any, **__: Any) -> None:
            raise ProviderResting(transport.org_code, Failure.CIRCUIT_OPEN)

        patch.setattr(Transport, "call", refused)

    async def positions(self, org_code: str = TELECOM) -> list[Position]:
        """Of all links, in their order."""
        rows = await self.execute("SELECT due_on, link_id FROM links WHERE org_code = $1 ORDER BY due_on, link_id", org_code)
        return [Position(row["due_on"], row["link_id"]) for row in rows]

    async def users(self) -> set[str]:
        return {row["user_id"] for row in await self.execute("SELECT user_id FROM users")}

    async def forget(self) -> None:
        """All links are due again, and read in full."""
        await self.execute("DELETE FROM batch_refreshes")
        await self.execute("UPDATE links SET due_on = DEFAULT, search_timestamps = '{}', last_refreshed_at = NULL")

    async def execute(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        async with self.database.reading() as connection:
            return list(await connection.fetch(sql, *values))

    async def states(self, org_code: str = TELECOM) -> Counter[tuple[str, int, str | None]]:
        """How many links have which state, attempts, and error."""
        rows = await self.execute("SELECT state, attempt, error_code FROM batch_refreshes WHERE org_code = $1", org_code)
        return Counter((row["state"], row["attempt"], row["error_code"]) for row in rows)

    async def row(self, minute: datetime, org_code: str = TELECOM) -> asyncpg.Record:
        [row] = await self.execute("SELECT * FROM batch_commands WHERE org_code = $1 AND minute = $2", org_code, minute)
        return row

    async def chunks(self, minute: datetime, org_code: str = TELECOM) -> Counter[int]:
        """How many links were sent in each tenth of a second of a minute."""
        sql = "SELECT sent_at FROM batch_refreshes WHERE org_code = $1 AND minute = $2"
        return Counter(round((row["sent_at"] - minute) / timedelta(milliseconds=100)) for row in await self.execute(sql, org_code, minute))

    async def due(self, org_code: str = TELECOM) -> int:
        """Links that are still due this week."""
        saturday = last_day(sunday_of(in_korea(self.clock.now())))
        return len(await self.execute("SELECT FROM links WHERE org_code = $1 AND status = 'active' AND due_on <= $2", org_code, saturday))

    async def calls(self, org_code: str = TELECOM) -> list[JSON]:
        """What the sandbox was asked for data."""
        answer = await self.http.get("/sandbox/calls", params={"org_code": org_code})
        return [call for call in answer.json()["calls"] if call.get("api_code")]

    async def provider(self, org_code: str = TELECOM, **change: Any) -> None:
        """Changes how a provider behaves."""
        (await self.http.put(f"/sandbox/providers/{org_code}", json=change)).raise_for_status()


@asynccontextmanager
async def a_stage(*, database_url: str, valkey_url: str) -> AsyncIterator[Stage]:
    """Everything, while the block runs."""
    options, clock = SandboxOptions(without_latency=True), ManualClock(on_a_wednesday())
    async with serving(create_sandbox(options, _Together(clock))) as sandbox:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            database_url=database_url,
            valkey_url=valkey_url,
            jwt_secret=SECRET,
            vault_keys=VAULT_KEYS,
            asset_id_secret="another secret for tests",
            sandbox_url=sandbox,
            log_level="error",
        )
        foundation = found(settings, clock)
        async with http_clients(foundation.directory, settings, clock) as clients, httpx.AsyncClient(base_url=sandbox) as http:
            minting = Minting(options, vault_of(settings, clock), clock)
            stage = Stage(foundation, hands_of(foundation, clients), clock, http, minting)
            _watched(stage)
            try:
                yield stage
            finally:
                await foundation.close()


def _watched(stage: Stage) -> None:
    """Counts what is asked of PostgreSQL."""
    reading = stage.database.reading

    @asynccontextmanager
    async def counted() -> AsyncIterator[Any]:
        stage.working += 1
        try:
            async with reading() as connection:
                yield connection
        finally:
            stage.working -= 1

    stage.database.reading = counted  # type: ignore[method-assign]


class _Together:
    """The sandbox's clock: the moment is the stage's, how long things take is real."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.monotonic = SystemClock().monotonic
