"""A window of the batch in real time: links, a command a minute, workers that are killed while they send, and what the provider saw.

In: a fleet, how many links, how many minutes, when to kill. Out: `Seen`, from the sandbox's call log and PostgreSQL's rows; and pure
checkers that hold it against the plan. What leaves after a kill is to be as even as what was left then says.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg

from backend.batch.calendar import in_korea, sunday_of
from backend.batch.commands import BEGINNING, Position, command_job
from backend.batch.pace import Limit
from backend.cli.seeding import AT_ONCE, Minting
from backend.clock import SystemClock
from backend.jobs.queue import QueueName, ValkeyQueue
from backend.jobs.valkey import connect
from backend.providers.sandbox.options import SandboxOptions
from backend.storage import seeding
from backend.storage.database import Database
from backend.storage.vault import Vault
from tests.faults.supervisor import SETTINGS, Fleet, Member

MINUTE = 60.0
SETTLED = 3.0  # seconds after a kill that are nobody's plan
JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a window came to. Times are seconds since it began."""

    sizes: tuple[int, ...]  # of its minutes
    firsts: tuple[float, ...]  # the first call for each link, in order
    kills: tuple[float, ...]
    in_flight: int  # links that were being read when their workers were killed
    again: int  # links that were begun again
    kinds: frozenset[str | None]  # x-api-type of all calls
    calls: int
    states: Counter[tuple[str, int]]  # of links, with their attempts
    per_100ms: int
    commands: tuple[JSON, ...] = field(default=())


async def linked(fleet: Fleet, org_code: str, number: int) -> None:
    """So many links at one provider, consented to by invented people."""
    options = SandboxOptions()
    minting = Minting(options, Vault(SETTINGS["MOA_VAULT_KEYS"]), SystemClock())
    provider = options.directory.provider(org_code)
    assert provider is not None
    database = Database(fleet.postgres.engine.url, pool=1)
    try:
        for first in range(0, number, AT_ONCE):
            users = [f"due-{each:06d}" for each in range(first, min(first + AT_ONCE, number))]
            now = SystemClock().now()
            people = {user: minting.person(user) for user in users}
            await seeding.seed(database, people, [minting.link(user, provider, now) for user in users], now)
    finally:
        await database.close()


async def ordered(fleet: Fleet, org_code: str, begins: datetime, minutes: int) -> tuple[tuple[int, ...], int]:
    """One command for each minute, over all links, as the coordinator would write them. Returns their sizes, and the cap."""
    connection = await asyncpg.connect(fleet.postgres.engine.url)
    try:
        rows = await connection.fetch("SELECT due_on, link_id FROM links WHERE org_code = $1 ORDER BY due_on, link_id", org_code)
        places = [Position(*row) for row in rows]
        bounds = [part * len(places) // minutes for part in range(minutes + 1)]
        sizes = tuple(after - before for before, after in pairwise(bounds))
        limit = Limit(calls_per_second=5000.0, calls_per_link=8000)
        sql = """
            INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms,
              per_minute, state, at_due, at_link, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'waiting', $5, $6, now())
        """
        for number, size in enumerate(sizes):
            minute, start = begins + timedelta(minutes=number), places[bounds[number] - 1] if number else BEGINNING
            upto, day = places[bounds[number + 1] - 1], in_korea(minute)
            range_ = (start.due_on, start.link_id, upto.due_on, upto.link_id)
            await connection.execute(sql, org_code, minute, sunday_of(day), day, *range_, size, limit.per_100ms(size), limit.per_minute)
        return sizes, limit.per_100ms(sizes[0])
    finally:
        await connection.close()


async def asked_for(fleet: Fleet, org_code: str, begins: datetime, minutes: int) -> None:
    """Jobs for each minute, five seconds ahead, and again each second until it has passed, as the coordinator does."""
    redis = connect(fleet.valkey.engine.url, timeout=5, pool=2)
    queue = ValkeyQueue(redis=redis, clock=SystemClock())
    try:
        for number in range(minutes):
            minute = begins + timedelta(minutes=number)
            await asyncio.sleep(max((minute - datetime.now(UTC)).total_seconds() - 5, 0))
            await queue.enqueue([command_job(org_code, minute)], QueueName.BATCH)
    finally:
        await redis.aclose()


def batch_worker(fleet: Fleet, name: str) -> Member:
    """One more, not started yet."""
    member = fleet.another_worker(name)
    member.arguments = ("worker", "--queue", "batch")
    return member


async def busiest(workers: Sequence[Member]) -> Member:
    """Who carries the command out."""
    before = [_ticks(worker.pid) for worker in workers]
    await asyncio.sleep(0.3)
    after = [_ticks(worker.pid) for worker in workers]
    return max(zip(workers, before, after, strict=True), key=lambda each: each[2] - each[1])[0]


def _ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


async def a_window(fleet: Fleet, org_code: str, *, minutes: int, kills: Sequence[float] = (), workers: Sequence[Member]) -> Seen:
    """Sends everything that is due at one provider in so many minutes, and kills whoever sends at these seconds."""
    begins = datetime.now(UTC) + timedelta(seconds=8)
    begins = begins.replace(microsecond=0)
    sizes, per_100ms = await ordered(fleet, org_code, begins, minutes)
    asking = asyncio.create_task(asked_for(fleet, org_code, begins, minutes))
    died: list[float] = []
    for at in kills:
        await asyncio.sleep(max(begins.timestamp() + at - datetime.now(UTC).timestamp(), 0))
        worker = await busiest(workers)
        os.kill(worker.pid, 9)
        died.append(datetime.now(UTC).timestamp())
        await worker.kill()
        await worker.spawn()
    await asking
    await asyncio.sleep(max(begins.timestamp() + minutes * MINUTE - datetime.now(UTC).timestamp(), 0))
    commands = await _ended(fleet, org_code)
    calls = [call for call in await fleet.calls(begins.timestamp() - 1) if call["org_code"] == org_code]
    return _seen(begins.timestamp(), sizes, per_100ms, calls, died, await _states(fleet, org_code), commands)


async def _ended(fleet: Fleet, org_code: str) -> tuple[JSON, ...]:
    connection = await asyncpg.connect(fleet.postgres.engine.url)
    try:
        async with asyncio.timeout(90):
            while True:
                rows = await connection.fetch("SELECT * FROM batch_commands WHERE org_code = $1 ORDER BY minute", org_code)
                if all(row["state"] == "ended" for row in rows):
                    return tuple(dict(row) for row in rows)
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _states(fleet: Fleet, org_code: str) -> Counter[tuple[str, int]]:
    connection = await asyncpg.connect(fleet.postgres.engine.url)
    try:
        rows = await connection.fetch("SELECT state, attempt FROM batch_refreshes WHERE org_code = $1", org_code)
        return Counter((row["state"], row["attempt"]) for row in rows)
    finally:
        await connection.close()


def _seen(
    began: float,
    sizes: tuple[int, ...],
    per_100ms: int,
    calls: Sequence[JSON],
    died: Sequence[float],
    states: Counter[tuple[str, int]],
    commands: tuple[JSON, ...],
) -> Seen:
    firsts: dict[str, float] = {}
    lasts: dict[str, float] = {}
    begun: Counter[tuple[str, str]] = Counter()
    for call in calls:
        user = call["user"]
        firsts.setdefault(user, call["at"])
        lasts[user] = max(lasts.get(user, 0.0), call["at"] + call["ms"] / 1000)
        begun[user, call["path"] + str(call.get("api_code"))] += 1
    in_flight = sum(1 for user, at in firsts.items() for dead in died if at <= dead < lasts[user])
    list_code = next((call["api_code"] for call in calls if call.get("api_code")), "")
    again = Counter(call["user"] for call in calls if call.get("api_code") == list_code)
    return Seen(
        sizes=sizes,
        firsts=tuple(sorted(at - began for at in firsts.values())),
        kills=tuple(at - began for at in died),
        in_flight=in_flight,
        again=sum(count - 1 for count in again.values()),
        kinds=frozenset(call.get("api_type") for call in calls),
        calls=len(calls),
        states=states,
        per_100ms=per_100ms,
        commands=commands,
    )


# --- against the plan ------------------------------------------------------------------------------------------------


def bins(seen: Seen, width: float) -> list[tuple[float, int, float]]:
    """(begins, first calls, planned) of each bin that is somebody's plan: what was left when a stretch began, evenly. RULE."""
    found = []
    for minute in range(len(seen.sizes)):
        for begins, ends in _stretches(seen, minute * MINUTE):
            before = sum(1 for at in seen.firsts if minute * MINUTE <= at < begins)
            rate = (seen.sizes[minute] - before) / ((minute + 1) * MINUTE - begins)
            slots = int((ends - begins) / width + 1e-6)
            held = Counter(int((at - begins) / width) for at in seen.firsts if begins <= at < begins + slots * width)
            found += [(begins + slot * width, held[slot], rate * width) for slot in range(slots)]
    return found


def _stretches(seen: Seen, begins: float) -> list[tuple[float, float]]:
    """Of a minute, between kills; each begins on a whole tenth of a second, since the grid does."""
    stretches, ends = [], begins + MINUTE
    for kill in (kill for kill in seen.kills if begins - SETTLED <= kill < ends):
        if kill > begins:
            stretches.append((begins, int(kill * 10) / 10))
        begins = max(begins, (int((kill + SETTLED) * 10) + 1) / 10)
    return [*stretches, (begins, ends)] if begins < ends else stretches


def within(seen: Seen, width: float, share: float) -> float:
    """The share of bins that are so near to their plan."""
    every = bins(seen, width)
    return sum(1 for _, held, planned in every if abs(held - planned) <= share * planned) / len(every)
