"""The page `pushing`: from an append, and from a provider's last byte, until the client has the event; ours beside the least possible.

In: rounds. Out: times between processes. This process appends, commits (for the floor) and registers people; API, worker, PostgreSQL and
Valkey are those of `moa up`; the client, the floor's server and the provider are processes of their own.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import asyncpg
import orjson
from aiohttp import ClientSession, TCPConnector

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.jobs.valkey import connect
from backend.realtime.feed import Feed
from backend.services import need
from backend.settings import Settings
from benchmarks.arrivals import offsets, paced
from benchmarks.companions import Companion, companion
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.standing_in import LATENCY
from benchmarks.systems import moa_up

PROVIDER = "G1MOATC001"
PEOPLE = 10  # who share the appends of a round
ANSWERS = 8.0  # arrivals a second of what begins at a provider
CONNECTIONS = 8  # to PostgreSQL, for the floor
PATIENCE = 30.0  # seconds until everything that was sent must have come
LOOK_SECONDS = 0.05
UNCOUNTED = -1  # the number of an event that is not waited for
TOKEN_LIFE = int(timedelta(hours=1).total_seconds())

APPENDED, APPENDED_FLOOR = "append, ours", "append, floor"
ANSWERED, ANSWERED_FLOOR = "answer, ours", "answer, floor"

_NUMBER = re.compile(r'"number":(\d+)')
_LISTED = '"type":"provider.assets"'
_COMPLETED = '"type":"registration.completed"'
_COMMIT = 'INSERT INTO pushing_floor (user_id, "offset", event) VALUES ($1, $2, $3)'
_TABLE = 'CREATE TABLE pushing_floor (user_id text, "offset" bigint, event bytea, PRIMARY KEY (user_id, "offset"))'


def event_of(number: int) -> bytes:
    """An event of the size of one with one asset, which can be told from the others."""
    asset = {
        "id": "ast_00000000000000000000000000",
        "org_code": PROVIDER,
        "industry": "telecom",
        "kind": "telecom",
        "name": "통신 서비스",
        "number_masked": "0100****000",
        "status": "active",
        "balance": {"amount": "33000.00", "currency": "KRW"},
        "as_of": "2026-01-02T03:04:05.006Z",
        "details": {"telecom_type": "01"},
    }
    event = {"type": "asset.refreshed", "at": "2026-01-02T03:04:05.006Z", "data": {"assets": [asset], "number": number}}
    return orjson.dumps(event)


Before = Callable[[str, int, bytes], Awaitable[object]]  # person, offset, event: what comes before an append

# --- the stage -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where one variant's clients listen."""

    url: str
    token: Callable[[str], str]  # of a person


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all variants run on."""

    settings: Settings
    feed: Feed
    commit: Before  # the floor's
    http: ClientSession
    client: Companion
    provider: Companion
    ours: Door
    floor: Door


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """`moa up` with one API and one worker, whose directory holds the sandbox's CA and the provider that stands in."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        provider = await stack.enter_async_context(companion("benchmarks.standing_in"))
        sandbox_port = _free_port()
        listed = folder / "providers.toml"
        listed.write_text(directory(sandbox_port, (await provider.ask(url=True))["url"]), encoding="utf-8")
        system = await stack.enter_async_context(
            moa_up("--workers", "1", "--apis", "1", sandbox_port=sandbox_port, environment={"MOA_PROVIDERS_FILE": str(listed)})
        )
        settings = system.settings
        valkey_url = need(settings, "valkey_url")
        valkey = connect(valkey_url, timeout=settings.valkey_timeout, pool=settings.valkey_pool)
        stack.push_async_callback(valkey.aclose)
        commit = await stack.enter_async_context(_committing(need(settings, "database_url")))
        http = await stack.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))
        await _sign_at_once(http, settings)
        floor = await stack.enter_async_context(companion("benchmarks.floor", "--valkey", valkey_url))
        yield Stage(
            settings=settings,
            feed=Feed(redis=valkey, relayed=_nothing_waits),
            commit=commit,
            http=http,
            client=await stack.enter_async_context(companion("benchmarks.listening")),
            provider=provider,
            ours=Door(url=settings.api_url.replace("http", "ws", 1) + "/v1/events", token=_token(settings)),
            floor=Door(url=(await floor.ask(url=True))["url"], token=str),
        )


@asynccontextmanager
async def _committing(database_url: str) -> AsyncIterator[Before]:
    """One statement that is its own transaction, prepared, over connections that nobody resets in between."""
    async with AsyncExitStack() as stack:
        free: asyncio.LifoQueue[asyncpg.Connection[asyncpg.Record]] = asyncio.LifoQueue()
        for number in range(CONNECTIONS):
            connection = await asyncpg.connect(database_url)
            stack.push_async_callback(connection.close)
            if not number:
                await connection.execute(_TABLE)
            await connection.execute(_COMMIT, "nobody", number, b"")
            free.put_nowait(connection)

        async def commit(person: str, offset: int, event: bytes) -> None:
            connection = await free.get()
            try:
                await connection.execute(_COMMIT, person, offset, event)
            finally:
                free.put_nowait(connection)

        yield commit


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def directory(sandbox_port: int, provider_url: str) -> str:
    """The sandbox's CA and the provider that stands in."""
    ca = f'[ca]\norg_code = "CAMOA00001"\nname = "CA"\nbase_url = "http://127.0.0.1:{sandbox_port}"\nallow_private = true\n'
    provider = f'org_code = "{PROVIDER}"\nname = "Telecom"\nindustry = "telecom"\nbase_url = "{provider_url}"\nallow_private = true\n'
    return f"{ca}\n[[providers]]\n{provider}"


async def _nothing_waits(_person: str) -> int:
    return 0


async def _sign_at_once(http: ClientSession, settings: Settings) -> None:
    async with http.put(f"{settings.sandbox_url}/sandbox/ca", json={"mode": "ok", "approve_after_ms": 0}) as answer:
        answer.raise_for_status()


def _token(settings: Settings) -> Callable[[str], str]:
    def token(person: str) -> str:
        return development_token(settings, user=person, ops=False, ttl=TOKEN_LIFE, now=SystemClock().now())

    return token


# --- rounds ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Listening:
    """The client's sockets in one round."""

    client: Companion
    heard: list[tuple[str, float, str]] = field(default_factory=list)  # person, moment, frame

    async def until(self, condition: Callable[[], bool]) -> None:
        """Raises TimeoutError when it does not come true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(LOOK_SECONDS)
                self.heard += [(person, moment, text) for person, moment, text in await self.client.ask(take=True)]

    def first(self, words: str) -> dict[str, float]:
        """When each person first got a frame with these words."""
        return {person: moment for person, moment, text in reversed(self.heard) if words in text}

    async def all_numbered(self, count: int) -> dict[int, float]:
        """When each numbered event came, once so many have. Raises TimeoutError."""
        await self.until(lambda: len(self._numbered()) == count)
        return self._numbered()

    def _numbered(self) -> dict[int, float]:
        return {int(number): moment for _, moment, text in self.heard for number in _NUMBER.findall(text)}


async def _listening(on: Stage, door: Door, people: Sequence[str]) -> Listening:
    await on.client.ask(url=door.url, open=[(person, door.token(person)) for person in people])
    return Listening(client=on.client)


def _moments(each: Round, rate: float) -> tuple[list[float], list[int]]:
    """When to begin what, and which of it counts."""
    moments = offsets(rate, each.plan.warm_up + each.plan.seconds, each.seed)
    return moments, [number for number, at in enumerate(moments) if at >= each.plan.warm_up]


def _people(each: Round, count: int) -> list[str]:
    """Nobody twice: a feed goes on where it ended."""
    return [f"push {each.plan.seed} {each.variant} {each.number} {number}" for number in range(count)]


async def _appended(on: Stage, door: Door, each: Round) -> Samples:
    """Appends and hears them again."""
    people = _people(each, PEOPLE)
    moments, counting = _moments(each, each.plan.rate)
    listening, busy = await _listening(on, door, people), machine_ms()
    began, ended = dict[int, float](), dict[int, float]()

    async def one(number: int) -> None:
        began[number] = time.monotonic()
        await on.feed.append(people[number % PEOPLE], [(number // PEOPLE + 1, event_of(number))])
        ended[number] = time.monotonic()

    late = await paced(moments, one)
    came = await listening.all_numbered(len(moments))
    return {
        "time": [(came[number] - began[number]) * 1000 for number in counting],
        "call": [(ended[number] - began[number]) * 1000 for number in counting],
        "late": [late[number] * 1000 for number in counting],
        "busy": busy_percent(busy, machine_ms()),
    }


async def _committed(on: Stage, each: Round) -> Samples:
    """Commits, appends, hears it again. The same goes before, uncounted, as the token's commit does in ours: nobody sleeps deeply."""
    moments, counting = _moments(each, ANSWERS)
    people = _people(each, len(moments))
    listening, busy = await _listening(on, on.floor, people), machine_ms()
    began = dict[int, float]()

    async def one(number: int) -> None:
        for offset, event in ((1, event_of(UNCOUNTED)), (2, event_of(number))):
            began[number] = time.monotonic()
            await on.commit(people[number], offset, event)
            await on.feed.append(people[number], [(offset, event)])
            if offset == 1:
                await asyncio.sleep(LATENCY)

    late = await paced(moments, one)
    came = await listening.all_numbered(len(moments))
    return {
        "time": [(came[number] - began[number]) * 1000 for number in counting],
        "late": [late[number] * 1000 for number in counting],
        "busy": busy_percent(busy, machine_ms()),
    }


async def _answered(on: Stage, each: Round) -> Samples:
    """Registers people at the provider; the time begins there."""
    moments, counting = _moments(each, ANSWERS)
    people = _people(each, len(moments))
    listening, busy = await _listening(on, on.ours, people), machine_ms()
    await on.provider.ask(take=True)

    async def one(number: int) -> None:
        headers = {"Authorization": f"Bearer {on.ours.token(people[number])}"}
        async with on.http.post(f"{on.settings.api_url}/v1/registrations", json={"providers": [PROVIDER]}, headers=headers) as answer:
            answer.raise_for_status()

    late = await paced(moments, one)
    await listening.until(lambda: len(listening.first(_COMPLETED)) == len(people))
    listed, came = dict(await on.provider.ask(take=True)), listening.first(_LISTED)
    done = {person for person, _, text in listening.heard if _COMPLETED in text and '"status":"completed"' in text}
    return {
        "time": [(came[people[number]] - listed[people[number]]) * 1000 for number in counting],
        "late": [late[number] * 1000 for number in counting],
        "completed": [100.0 * (people[number] in done) for number in counting],
        "busy": busy_percent(busy, machine_ms()),
    }


async def _ours(on: Stage, each: Round) -> Samples:
    return await _appended(on, on.ours, each)


async def _floor(on: Stage, each: Round) -> Samples:
    return await _appended(on, on.floor, each)


# --- the page --------------------------------------------------------------------------------------------------------

_P50, _P99, _MEAN, _COUNT = Statistic.P50, Statistic.P99, Statistic.MEAN, Statistic.COUNT
_APPEND, _ANSWER = "From the append to the client", "From the provider's last byte to the client"
_LATENCY = f"{LATENCY * 1000:.0f} ms"
_LATE, _BUSY = Column("generator late p99", "late", _P99), Column("machine busy", "busy", _MEAN, "%")

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="pushing",
    title="Pushing: how soon the client has what happened",
    about=(
        "What do our hub, our sessions and our transactions add to what Valkey, PostgreSQL, the kernel and an event loop take anyway? "
        "API, worker and engines are those of `moa up`. The client is one process with open WebSockets that notes when bytes come in and "
        "reads them later; it is the same for all variants. Times are between processes, on the machine's one monotonic clock.",
        f"**Append.** Each arrival appends one event to the feed of one of {PEOPLE} people, by the feed's own script, from this process; "
        "time runs from the beginning of that call. The floor's server does nothing but read Valkey's pub/sub with a bare reader and "
        "write each event as one frame. How long the call itself took stands beside it: the client may have the event before it returns.",
        f"**Answer.** {ANSWERS:g} people a second register at one provider; it stands in for a real one, answers after {_LATENCY}, and "
        "notes when the last byte of its list went out. Time runs from there until the client has the `provider.assets` of that list. The "
        "floor is one INSERT that commits, over a connection that is open, then the append, the bare reader and the write; another such "
        f"goes {_LATENCY} before, uncounted, as the token's commit does in ours, since what has slept for long wakes up slowly.",
        "**Open loop.** Arrivals are a seeded Poisson process, each a task of its own; those of round n are the same for ours and its "
        "floor. How late this process was with them stands in its own column (timers have steps of a millisecond).",
    ),
    stage=stage,
    variants=(
        Variant(name=APPENDED, about="our API: hub, session, WebSocket protocol.", run=_ours),
        Variant(name=APPENDED_FLOOR, about="the bare server.", run=_floor),
        Variant(name=ANSWERED, about="our worker reads, decides, commits and appends; our API pushes.", run=_answered),
        Variant(name=ANSWERED_FLOOR, about="one commit, the append, the bare server.", run=_committed),
    ),
    tables=(
        Table(
            title=_APPEND,
            variants=(APPENDED, APPENDED_FLOOR),
            columns=(
                Column("p50", "time", _P50),
                Column("p99", "time", _P99),
                Column("the call itself p50", "call", _P50),
                Column("events", "time", _COUNT, ""),
                _LATE,
                _BUSY,
            ),
        ),
        Table(
            title=_ANSWER,
            variants=(ANSWERED, ANSWERED_FLOOR),
            columns=(
                Column("p50", "time", _P50),
                Column("p99", "time", _P99),
                Column("events", "time", _COUNT, ""),
                Column("registrations completed", "completed", _MEAN, "%"),
                _LATE,
                _BUSY,
            ),
        ),
    ),
    aims=(
        Aim(variant=APPENDED, table=_APPEND, column="p50", most=1.5, over=APPENDED_FLOOR),
        Aim(variant=APPENDED, table=_APPEND, column="p99", most=2, over=APPENDED_FLOOR),
        Aim(variant=ANSWERED, table=_ANSWER, column="p50", most=1.5, over=ANSWERED_FLOOR),
    ),
    plan=Plan(rounds=3, seconds=4, warm_up=0.5, rate=150),
    quick=Plan(rounds=1, seconds=1, warm_up=0.2, rate=50),
)
