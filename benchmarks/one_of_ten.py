"""The page `one of ten`: what nine providers notice of a tenth that misbehaves, in every way that the sandbox knows.

In: rounds. Out: how long each of the nine, and the tenth, took from the signature until the client knew that it had ended. The nine are the
same in every variant and meet the same arrivals; the tenth is another provider for each way to be ill.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientSession

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from benchmarks.arrivals import Arrival, offered
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.journeys import PROVIDERS, Door, Journey, pushed
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.registering import TOKEN_LIFE, client_session
from benchmarks.systems import moa_up

CALL_SECONDS, PROVIDER_SECONDS = 1.0, 3.0  # deadlines: who hangs is waited for at the end of each round
WITHIN = 1.2  # of what the nine take when all are well

NINE = PROVIDERS[1:]
HEALTHY = "all well"
WELL = "all well"
KINDS = {  # variant -> who is the tenth of whom in turn, and how it is ill
    WELL: {"A1MOABK001": "ok"},
    "hang, slow, drip": {"A1MOABK003": "hang", "C1MOAIV003": "slow", "F1MOACP003": "drip"},
    "down, reset, http500": {"A1MOABK004": "down", "D1MOAIS002": "reset", "G1MOATC002": "http500"},
    "garbage, oversize, truncated": {"B1MOACD003": "garbage", "D1MOAIS003": "oversize", "G1MOATC003": "truncated"},
    "429, maintenance, refused": {
        "B1MOACD004": "http429",
        "E1MOAEF003": "maintenance",
        "C1MOAIV002": "out_of_window",
        "F1MOACP002": "token_expired",
    },
}
ABOUT = {
    WELL: "ten providers that answer.",
    "hang, slow, drip": "never answers; answers after three seconds; a byte each half second.",
    "down, reset, http500": "closes the connection; does the work and resets the connection; 50001 to everything.",
    "garbage, oversize, truncated": "200 with what is not the standard's JSON; 200 with 64 MiB; half a body.",
    "429, maintenance, refused": "42901 with `Retry-After`; 50008; a token, then 50009; tokens, each of them refused.",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The system and its sandbox."""

    http: ClientSession
    sandbox_url: str
    door: Door

    async def set_mode(self, org_code: str, mode: str) -> None:
        async with self.http.put(f"{self.sandbox_url}/sandbox/providers/{org_code}", json={"mode": mode}) as answer:
            answer.raise_for_status()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """People sign at once; calls have little time."""
    deadlines = {"MOA_CALL_DEADLINE": str(CALL_SECONDS), "MOA_PROVIDER_DEADLINE": str(PROVIDER_SECONDS)}
    async with moa_up("--workers", "2", "--apis", "1", environment=deadlines) as system, client_session() as http:
        async with http.put(f"{system.settings.sandbox_url}/sandbox/ca", json={"approve_after_ms": 0}) as answer:
            answer.raise_for_status()

        def token(user: str) -> str:
            return development_token(system.settings, user=user, ops=False, ttl=TOKEN_LIFE, now=SystemClock().now())

        yield Stage(http=http, sandbox_url=system.settings.sandbox_url, door=Door(http, system.settings.api_url, token))


def _variant(name: str, tenths: Mapping[str, str]) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        async def registered(arrival: Arrival) -> Journey:
            return await pushed(on.door, arrival, (*NINE, tuple(tenths)[arrival.number % len(tenths)]))

        busy = machine_ms()
        for org_code, mode in tenths.items():
            await on.set_mode(org_code, mode)
        try:
            journeys = await offered(each, registered)
        finally:
            for org_code in tenths:
                await on.set_mode(org_code, "ok")
        return {**samples([journey for arrival, journey in journeys if arrival.counts]), "busy": busy_percent(busy, machine_ms())}

    return Variant(name=name, about=ABOUT[name], run=run)


def samples(journeys: Sequence[Journey]) -> Samples:
    """Milliseconds from the signature, as the client hears of it. RULE."""
    found: dict[str, list[float]] = {"nine": [], "tenth": [], "well": []}
    for journey in journeys:
        for end in journey.ends if journey.signed is not None else ():
            is_one_of_nine = end.org_code in NINE
            found["nine" if is_one_of_nine else "tenth"].append((end.moment - (journey.signed or 0.0)) * 1000)
            if is_one_of_nine:
                found["well"].append(100.0 * (end.how == "completed"))
    return found


_TABLE = "From the signature to the end of each provider"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="one_of_ten",
    title="One provider of ten misbehaves: what the other nine notice",
    about=(
        "Each arrival is a person of their own who registers at the same nine providers and at a tenth, which is well in the first variant "
        "and ill in the others, in one of the ways that the variant names, in turn. All variants meet the same arrivals (open loop, a "
        "seeded Poisson process), and the nine answer with the sandbox's usual log-normal latencies. "
        f"A call has {CALL_SECONDS:g} s, a provider {PROVIDER_SECONDS:g} s.",
        "Times count from the moment at which the client heard of the signature until it heard that a provider had ended. The aim is the "
        "p95 over all nine of all people beside that of the first variant in the same round. It is the fifth largest of a hundred: two "
        "rounds differ by a tenth by themselves, and by much more if somebody else was on the machine (**machine busy**). How each single "
        "mode ends is held by a test.",
    ),
    stage=stage,
    variants=tuple(_variant(name, tenths) for name, tenths in KINDS.items()),
    tables=(
        Table(
            title=_TABLE,
            columns=(
                Column("the nine p50", "nine", Statistic.P50),
                Column("the nine p95", "nine", Statistic.P95),
                Column("of the nine completed", "well", Statistic.MEAN, "%"),
                Column("ends of the nine", "nine", Statistic.COUNT, ""),
                Column("the tenth p50", "tenth", Statistic.P50),
                Column("the tenth p99", "tenth", Statistic.P99),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
        ),
    ),
    aims=(
        *(Aim(variant=name, table=_TABLE, column="the nine p95", most=WITHIN, over=WELL) for name in KINDS if name != WELL),
        *(Aim(variant=name, table=_TABLE, column="of the nine completed", least=100) for name in KINDS),
        *(Aim(variant=name, table=_TABLE, column="the tenth p99", most=(PROVIDER_SECONDS + 0.5) * 1000) for name in KINDS),
    ),
    plan=Plan(rounds=3, seconds=2.5, warm_up=0.5, rate=4),
    quick=Plan(rounds=1, seconds=0.5, warm_up=0.2, rate=4),
)
