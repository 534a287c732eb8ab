"""The page `registering`: a registration of ten providers, the old ways against ours, on the same sandbox in the same run.

In: rounds. Out: samples of the journeys, joined with what the sandbox's call log says of each. Both are processes of their own, started
here; this process is the load generator and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from benchmarks.arrivals import Arrival, offered
from benchmarks.calls import CallLog, Timeline, by_user, timeline
from benchmarks.costs import Marks, cpu_ms, machine_ms
from benchmarks.journeys import PROVIDERS, Door, Journey, blocked, polled, pushed
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.systems import System, moa_up, started

APPROVE_AFTER_MS = 300.0  # the person signs so long after the CA was asked
TOKEN_LIFE = int(timedelta(hours=1).total_seconds())

OLD_BLOCKING, OLD_POLLING, FLOOR, NEW = "old, blocking", "old, polling", "floor", "new"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all variants run on."""

    http: ClientSession
    marks: Marks
    sandbox_url: str
    new: Door
    old: Door

    async def calls_since(self, moment: float) -> CallLog:
        async with self.http.get(f"{self.sandbox_url}/sandbox/calls", params={"since": repr(moment)}) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=CallLog)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Our system with its sandbox, and the old way beside it on the same PostgreSQL server and the same sandbox."""
    async with moa_up("--workers", "2", "--apis", "1") as system, client_session() as http:
        await _set_ca(http, system)
        async with started("baselines", "benchmarks.baselines", "--data", str(system.settings.data), folder=system.folder) as old_url:
            token = _tokens(system)
            yield Stage(
                http=http,
                marks=_marks(system),
                sandbox_url=system.settings.sandbox_url,
                new=Door(http, system.settings.api_url, token),
                old=Door(http, old_url, token),
            )


@asynccontextmanager
async def client_session() -> AsyncIterator[ClientSession]:
    """Without a bound: how many are under way is for the arrivals to say."""
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout()) as http:  # each arrival has a deadline
        yield http


async def _set_ca(http: ClientSession, system: System) -> None:
    change = {"mode": "ok", "approve_after_ms": APPROVE_AFTER_MS}
    async with http.put(f"{system.settings.sandbox_url}/sandbox/ca", json=change) as answer:
        answer.raise_for_status()


def _marks(system: System) -> Marks:
    """Whose CPU is whose."""
    data, cluster = system.settings.data, system.settings.data / "postgres"
    commands = {name: f"backend.cli {command} " for name, command in (("API", "api"), ("workers", "worker"), ("sandbox", "sandbox"))}
    return {
        **{name: (str(data), command) for name, command in commands.items()},
        "baselines": (str(data), "benchmarks.baselines"),
        "PostgreSQL": (str(cluster.resolve()), "postgres"),
        "Valkey": (str(data), "valkey"),
    }


def _tokens(system: System) -> Callable[[str], str]:
    def token(user: str) -> str:
        return development_token(system.settings, user=user, ops=False, ttl=TOKEN_LIFE, now=SystemClock().now())

    return token


# --- rounds ----------------------------------------------------------------------------------------------------------


def _variant(
    name: str, about: str, door: Callable[[Stage], Door], journey: Callable[[Door, Arrival], Awaitable[Journey]]
) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        used, busy = cpu_ms(on.marks), machine_ms()
        journeys = await offered(each, lambda arrival: journey(door(on), arrival))
        costs = _costs(used, cpu_ms(on.marks), len(journeys)) | _busy(busy, machine_ms())
        log = await on.calls_since(min(arrival.moment for arrival, _ in journeys))
        return {**samples([one for one in journeys if one[0].counts], log), **costs}

    return Variant(name=name, about=about, run=run)


def _costs(before: Mapping[str, float], after: Mapping[str, float], registrations: int) -> dict[str, list[float]]:
    """CPU of one registration by process."""
    each = {name: (ms - before.get(name, 0.0)) / registrations for name, ms in after.items()}
    return {f"cpu {name}": [ms] for name, ms in each.items()} | {"cpu": [sum(each.values())]}


def _busy(before: tuple[float, float], after: tuple[float, float]) -> dict[str, list[float]]:
    """How busy the machine was, whoever it was busy with."""
    there_was = after[1] - before[1]
    return {"busy": [100 * (after[0] - before[0]) / there_was] if there_was else []}


def samples(journeys: list[tuple[Arrival, Journey]], log: CallLog) -> Samples:
    """Everything that the columns speak of; times in milliseconds from the intended moment."""
    calls = by_user(log.calls)
    found: dict[str, list[float]] = {
        "late": [(journey.sent - arrival.moment) * 1000 for arrival, journey in journeys],
        "answer": [(journey.answered - arrival.moment) * 1000 for arrival, journey in journeys],
        "first": [(journey.first_asset - arrival.moment) * 1000 for arrival, journey in journeys if journey.first_asset is not None],
        "last": [(journey.last - arrival.moment) * 1000 for arrival, journey in journeys],
        "completed": [100.0 * journey.completed for _, journey in journeys],
        "client requests": [float(journey.requests) for _, journey in journeys],
        "outside calls": [float(len(calls.get(arrival.user, ()))) for arrival, _ in journeys],
    }
    lines = [timeline(calls.get(arrival.user, ()), journey.shown, APPROVE_AFTER_MS) for arrival, journey in journeys]
    known = [line for line in lines if line is not None]
    for name in Timeline.__struct_fields__:
        values = [getattr(line, name) for line in known]
        found[name] = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return found


# --- the page --------------------------------------------------------------------------------------------------------

_P50, _P99, _MEAN, _COUNT = Statistic.P50, Statistic.P99, Statistic.MEAN, Statistic.COUNT
_COMPARED, _ROAD = "The app's view", "From the signature to the first asset"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="registering",
    title="A registration of ten providers: the old ways against ours",
    about=(
        'How long does a person wait after tapping "connect": for the answer, for the first asset, for the last? Each arrival is a '
        f"person of their own who registers at the same {len(PROVIDERS)} providers of all seven industries. All variants run against the "
        "same sandbox (CA and providers with log-normal latencies) and the same PostgreSQL server, in one run.",
        "**Open loop.** People come by a seeded Poisson process, whether or not those before them have been served; the arrivals of "
        "round n are the same for every variant. Every time counts from the moment at which the person was to come, not from when the "
        "generator got round to it; how late it was stands in its own column. The generator is a process of its own on the same "
        "machine, as are the sandbox, PostgreSQL, Valkey, API, workers and coordinator: they all share its cores.",
        f"**The signature** is included in all times: the person signs {APPROVE_AFTER_MS:g} ms after the CA was asked, and each variant "
        "finds out by asking the CA again, 200 ms after its last answer. Our socket is opened and subscribed within the second before the "
        "person comes, as an app on the screen has it; it counts as one of the client's requests.",
    ),
    stage=stage,
    variants=(
        _variant(
            OLD_BLOCKING,
            "one request that calls CA and providers one call after the other, stores everything in one transaction, and then answers.",
            lambda on: on.old,
            blocked,
        ),
        _variant(
            OLD_POLLING,
            "one request that is answered at once; behind it the same calls one after the other, each provider stored as "
            "it is complete; the app asks each second.",
            lambda on: on.old,
            polled,
        ),
        _variant(
            FLOOR,
            "the least that a service in Python can do here: one process with our provider clients, all providers in parallel, each answer "
            "pushed at once over the same socket; nothing is kept but the registration's row, so whatever fails is lost.",
            lambda on: on.old,
            pushed,
        ),
        _variant(NEW, "ours: `POST /v1/registrations`, then everything is pushed over the app's WebSocket.", lambda on: on.new, pushed),
    ),
    tables=(
        Table(
            title=_COMPARED,
            columns=(
                Column("answer p50", "answer", _P50),
                Column("answer p99", "answer", _P99),
                Column("first asset p50", "first", _P50),
                Column("first asset p99", "first", _P99),
                Column("last asset p50", "last", _P50),
                Column("last asset p99", "last", _P99),
                Column("client requests", "client requests", _MEAN, ""),
                Column("calls to CA and providers", "outside calls", _MEAN, ""),
                Column("completed", "completed", _MEAN, "%"),
                Column("registrations", "answer", _COUNT, ""),
                Column("generator late p99", "late", _P99),
            ),
            about=("Requests and calls are per registration; the CA's own token, shared by all, is not counted.",),
        ),
        Table(
            title=_ROAD,
            variants=(FLOOR, NEW),
            columns=(
                Column("signed, until the CA tells us", "approval_to_answer", _P50),
                Column("of which the CA's own time", "ca_answer", _P50),
                Column("critical path", "critical_path", _P50),
                Column("first asset over critical path p50", "over_critical_path", _P50),
                Column("first asset over critical path p99", "over_critical_path", _P99),
                Column("of which: CA's answer to token request", "answer_to_token", _P50),
                Column("token to list", "token_to_list", _P50),
                Column("list to client", "list_to_client", _P50),
                Column("every provider over its own path p50", "over_own_path", _P50),
                Column("every provider over its own path p99", "over_own_path", _P99),
            ),
            about=(
                "Taken from the sandbox's call log. The **critical path** of a provider is what it takes itself: its token call, then the "
                "first of its lists that held an asset; a registration's critical path is that of its fastest provider. The clock starts "
                'when the CA\'s answer that says "signed" has left the CA. **First asset over critical path** is what we add: the time '
                "from there until the client has its first asset, less the critical path. It holds the network, the sandbox's waiting for "
                "its core, and all of our work.",
                "Before that clock starts the person waits for our polling of the CA (**signed, until the CA tells us**, with the CA's own "
                "time for that answer): what a callback of the CA would save. The parts of the sum (CA's answer to token request, token to "
                "list, list to client) are of the provider whose asset came first, which need not be the fastest; they need not add up.",
            ),
        ),
        Table(
            title="CPU of one registration",
            columns=(
                *(Column(name, f"cpu {name}", _MEAN) for name in ("API", "baselines", "workers", "PostgreSQL", "Valkey", "sandbox")),
                Column("all of these", "cpu", _MEAN),
                Column("machine busy", "busy", _MEAN, "%"),
            ),
            about=(
                "User and system time of a whole round, warm-up included, by the number of its registrations; what a process does while it "
                "waits (sweeps, leases) is in it. **Machine busy** counts everybody, the generator and strangers too: near 100 % the "
                "latencies above are those of a queue for a core.",
            ),
        ),
    ),
    aims=(
        Aim(variant=NEW, table=_COMPARED, column="answer p50", most=10),
        Aim(variant=NEW, table=_COMPARED, column="answer p99", most=25),
        Aim(variant=NEW, table=_ROAD, column="first asset over critical path p50", most=15),
    ),
    plan=Plan(rounds=3, seconds=10, warm_up=3, rate=5),
    quick=Plan(rounds=1, seconds=2, warm_up=1, rate=3),
)
