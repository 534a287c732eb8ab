"""The page `beside`: what people who register notice of the batch that runs at the same time.

In: rounds. Out: how long their registrations took, alone and while due links of another provider are read again at an even pace. Both
variants meet the same arrivals at the same ten providers; the batch is asked for as an operator rehearses it, and its links are as good as
new in each round: everything is read, stored and told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from aiohttp import ClientSession

from backend.cli.seeding import AT_ONCE, Minting
from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.providers.sandbox.options import SandboxOptions
from backend.settings import Settings
from backend.storage import seeding
from backend.storage.database import Database
from backend.storage.vault import Vault
from benchmarks.arrivals import Arrival, offered
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.journeys import PROVIDERS, Door, Journey, pushed
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.registering import TOKEN_LIFE, client_session
from benchmarks.systems import moa_up

DUE_AT = "G1MOATC002"  # nobody registers there
PER_SECOND = 111  # links: 20,000 in three minutes
WITHIN = 120  # seconds of the rehearsal: the first minute sends, the second is its reserve
BEGUN_BY, READ_BY = 30.0, 180.0  # seconds
WITHIN_OF = 1.2  # of the p95 alone

_AS_GOOD_AS_NEW = (
    "DELETE FROM batch_refreshes WHERE org_code = $1",
    "DELETE FROM assets WHERE org_code = $1",
    "UPDATE links SET due_on = DEFAULT, last_refreshed_at = NULL, search_timestamps = '{}' WHERE org_code = $1",
)
_RECORDED = "SELECT count(*) FROM batch_refreshes WHERE org_code = $1 AND state = 'recorded'"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The system, its rows, and an operator's token."""

    http: ClientSession
    door: Door
    api_url: str
    ops: str
    rows: asyncpg.Connection

    async def begin_batch(self) -> None:
        """Returns when its first links have been read."""
        for sql in _AS_GOOD_AS_NEW:
            await self.rows.execute(sql, DUE_AT)
        asked = {"org_code": DUE_AT, "within_seconds": WITHIN}
        headers = {"Authorization": f"Bearer {self.ops}"}
        async with self.http.post(f"{self.api_url}/ops/batch/run", json=asked, headers=headers) as answer:
            answer.raise_for_status()
        await self.until_recorded(1, BEGUN_BY)

    async def recorded(self) -> int:
        return int(await self.rows.fetchval(_RECORDED, DUE_AT))

    async def until_recorded(self, count: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await self.recorded() < count:
                await asyncio.sleep(0.25)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """People sign at once, and so many links are there that the batch has a minute of work. It does nothing by itself."""
    settings = {"MOA_BATCH_AUTOMATIC": "false", "MOA_BATCH_CALLS_PER_SECOND": "5000"}
    async with moa_up("--workers", "2", "--apis", "1", environment=settings) as system, client_session() as http:
        async with http.put(f"{system.settings.sandbox_url}/sandbox/ca", json={"approve_after_ms": 0}) as answer:
            answer.raise_for_status()
        await _linked(system.settings, PER_SECOND * 60)

        def token(user: str) -> str:
            return development_token(system.settings, user=user, ops=False, ttl=TOKEN_LIFE, now=SystemClock().now())

        ops = development_token(system.settings, user="bench", ops=True, ttl=TOKEN_LIFE, now=SystemClock().now())
        rows = await asyncpg.connect(_url(system.settings))
        try:
            url = system.settings.api_url
            yield Stage(http=http, door=Door(http, url, token), api_url=url, ops=ops, rows=rows)
        finally:
            await rows.close()


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


async def _linked(settings: Settings, number: int) -> None:
    """So many due links of invented people."""
    options = SandboxOptions.of(settings)
    assert settings.vault_keys is not None
    minting = Minting(options, Vault(settings.vault_keys.get_secret_value()), SystemClock())
    provider = options.directory.provider(DUE_AT)
    assert provider is not None
    database = Database(_url(settings), pool=1)
    try:
        for first in range(0, number, AT_ONCE):
            users, now = [f"due-{each:06d}" for each in range(first, min(first + AT_ONCE, number))], SystemClock().now()
            people = {user: minting.person(user) for user in users}
            await seeding.seed(database, people, [minting.link(user, provider, now) for user in users], now)
    finally:
        await database.close()


async def _alone(on: Stage, each: Round) -> Samples:
    return await _registered(on, each)


async def _beside(on: Stage, each: Round) -> Samples:
    await on.begin_batch()
    before, clock = await on.recorded(), SystemClock()
    began = clock.monotonic()
    samples = await _registered(on, each)
    pace = (await on.recorded() - before) / (clock.monotonic() - began)
    await on.until_recorded(PER_SECOND * 60, READ_BY)
    return {**samples, "pace": [pace]}


async def _registered(on: Stage, each: Round) -> Samples:
    async def journey(arrival: Arrival) -> Journey:
        return await pushed(on.door, arrival, PROVIDERS)

    busy = machine_ms()
    journeys = [made for arrival, made in await offered(each, journey) if arrival.counts]
    return {
        "answer": [(made.answered - made.sent) * 1000 for made in journeys],
        "first": [(made.first_asset - made.sent) * 1000 for made in journeys if made.first_asset is not None],
        "last": [(made.last - made.sent) * 1000 for made in journeys],
        "well": [100.0 * made.completed for made in journeys],
        "busy": busy_percent(busy, machine_ms()),
    }


ALONE, BESIDE = "registrations alone", "beside the batch"
_TABLE = "Registrations of ten providers"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="beside",
    title="The batch beside registrations: users go first",
    about=(
        "Each arrival is a person of their own who registers at ten providers; both variants meet the same arrivals (open loop, a seeded "
        "Poisson process). In the second the batch reads due links of an eleventh provider meanwhile, "
        f"{PER_SECOND} a second as in 20,000 links in three minutes, each for the first time: token, lists, details, rows, events.",
        "All of it is on one machine of two cores: the sandbox's answers to the batch, and PostgreSQL's part of it, take from people what "
        "a machine of their own would not. Workers of the batch run at a lower priority (`MOA_BATCH_NICENESS`).",
    ),
    stage=stage,
    variants=(
        Variant(name=ALONE, about="nothing else is done.", run=_alone),
        Variant(name=BESIDE, about="an operator's rehearsal, `POST /ops/batch/run`, is under way all the time.", run=_beside),
    ),
    tables=(
        Table(
            title=_TABLE,
            columns=(
                Column("answer p95", "answer", Statistic.P95),
                Column("first asset p95", "first", Statistic.P95),
                Column("all ended p50", "last", Statistic.P50),
                Column("all ended p95", "last", Statistic.P95),
                Column("completed", "well", Statistic.MEAN, "%"),
                Column("registrations", "last", Statistic.COUNT, ""),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
        ),
        Table(title="The batch meanwhile", columns=(Column("links a second", "pace", Statistic.MEAN, ""),), variants=(BESIDE,)),
    ),
    aims=(
        Aim(variant=BESIDE, table=_TABLE, column="all ended p95", most=WITHIN_OF, over=ALONE),
        Aim(variant=BESIDE, table=_TABLE, column="completed", least=100),
    ),
    plan=Plan(rounds=3, seconds=30, warm_up=2, rate=1),
    quick=Plan(rounds=1, seconds=6, warm_up=1, rate=1),
)
