"""Everything that an API offers, fifty at once, while PostgreSQL or Valkey is away in every way that we know: an answer comes in time.

In: an API whose engines lie behind doors (`gates.py`), outages. Out: the worst answers, printed (`pytest -s`). What cannot be done is a 503
that says when to come back, or error 100 of a socket; when the engine is back, so is the API.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backend.edge import ANSWER_SECONDS
from tests.faults.asking import KINDS, Answered, Kind, ask
from tests.faults.gates import Gate, gate
from tests.faults.supervisor import EngineMember, Fleet, Topology, a_fleet

pytestmark = [pytest.mark.system, pytest.mark.long]

AT_ONCE = 50  # of each kind
BESIDE = 10  # of each kind, shortly before the end of an outage
SPARE = 1.5  # seconds; a socket, for one, is answered in three steps
HEALTH = next(kind for kind in KINDS if kind.path == "/healthz")  # asks no engine: what it takes is what this machine takes
MACHINE = 4.0  # seconds; who is that slow, and nobody else, does not wait for an engine but stands still
GROUPS = tuple((*KINDS[first::3], HEALTH) for first in range(3))  # all kinds at once would measure the machine
ENGINES = ("postgres", "valkey")


@dataclass(frozen=True, kw_only=True)
class House:
    """An API, and the doors through which it reaches its engines."""

    fleet: Fleet
    doors: dict[str, Gate]

    @property
    def url(self) -> str:
        return self.fleet.apis[0].url

    def engine(self, name: str) -> EngineMember:
        return {"postgres": self.fleet.postgres, "valkey": self.fleet.valkey}[name]


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A way of being away. `healed`: the seconds after its end by which everything works again, on a machine that is not slow itself."""

    name: str
    begin: Callable[[House, str], Awaitable[None]]
    end: Callable[[House, str], Awaitable[None]]
    seconds: float
    healed: float = 2.0


async def _frozen(house: House, engine: str) -> None:
    house.engine(engine).freeze()


async def _thawed(house: House, engine: str) -> None:
    house.engine(engine).thaw()


async def _killed(house: House, engine: str) -> None:
    await house.engine(engine).kill()


async def _started(house: House, engine: str) -> None:
    await house.engine(engine).start()


async def _silent(house: House, engine: str) -> None:
    house.doors[engine].silence()


async def _shut(house: House, engine: str) -> None:
    house.doors[engine].shut()


async def _open(house: House, engine: str) -> None:
    house.doors[engine].heal()


async def _forgetful(house: House, engine: str) -> None:
    house.doors[engine].heal(forget=True)


OUTAGES = (
    Outage(name="killed", begin=_killed, end=_started, seconds=1),
    *(Outage(name=f"frozen {seconds} s", begin=_frozen, end=_thawed, seconds=seconds) for seconds in (5, 12, 40)),
    Outage(name="silent", begin=_silent, end=_open, seconds=30),
    Outage(name="shut", begin=_shut, end=_open, seconds=30),
    # Each connection of a pool that nobody hung up on is found out by whoever uses it next, and all of them at the same time.
    Outage(name="forgotten", begin=_silent, end=_forgetful, seconds=1, healed=ANSWER_SECONDS),
)


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with a_fleet(Topology(apis=1, workers=0, coordinators=0)) as fleet, AsyncExitStack() as stack:
        postgres, valkey = urlsplit(fleet.postgres.engine.url), urlsplit(fleet.valkey.engine.url)
        sockets = {"postgres": Path(postgres.query.removeprefix("host=")) / ".s.PGSQL.5432", "valkey": Path(valkey.path)}
        doors = {name: await stack.enter_async_context(gate(path)) for name, path in sockets.items()}
        await fleet.apis[0].kill()
        await fleet.apis[0].start(
            MOA_DATABASE_URL=f"postgresql://{postgres.username}:{postgres.password}@127.0.0.1:{doors['postgres'].port}{postgres.path}",
            MOA_VALKEY_URL=f"redis://127.0.0.1:{doors['valkey'].port}",
        )
        yield House(fleet=fleet, doors=doors)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.name)
async def test_whatever_an_engine_does_everybody_is_answered_in_time(house: House, engine: str, outage: Outage) -> None:
    met = set(house.fleet.tracebacks())
    answers: list[Answered] = []
    for groups in [GROUPS] if outage.seconds > 3 * ANSWER_SECONDS else [(group,) for group in GROUPS]:
        assert [str(one) for one in await at_once(house.url, KINDS, 2) if not one.well] == []
        answers += await through(house, engine, outage, groups)
    machine = max(one.seconds for one in answers if one.kind is HEALTH)
    print("\n".join(table(f"{engine} {outage.name}, a machine that takes {machine:.2f} s", answers)))
    assert machine < MACHINE
    late = [one for one in answers if one.seconds > ANSWER_SECONDS + SPARE + machine]
    assert [f"{one.kind.name}: {one.status} after {one.seconds:.1f} s" for one in answers if not one.honest or one in late] == []
    assert [mark for mark in house.fleet.tracebacks() if mark not in met] == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_api_that_starts_meanwhile_lets_nobody_wait(house: House, engine: str) -> None:
    """On its own socket an API refuses until it can answer: whoever is let in is answered at once."""
    api, slowest = house.fleet.apis[0], 0.0
    async with AsyncExitStack() as stack:
        await api.kill()
        house.engine(engine).freeze()
        stack.push_async_callback(api.start)
        stack.push_async_callback(api.kill)
        stack.callback(house.engine(engine).thaw)
        await api.spawn()
        answer = await ask(api.url, HEALTH)
        while not answer.well:
            slowest = max(slowest, answer.seconds)
            await asyncio.sleep(0.02)
            answer = await ask(api.url, HEALTH)
        slowest = max(slowest, answer.seconds)
    print(f"{engine} frozen while the API started: worst {slowest:.2f} s")
    assert slowest < SPARE


async def through(house: House, engine: str, outage: Outage, groups: Sequence[Sequence[Kind]]) -> list[Answered]:
    """One outage: the groups at equal distances, some of the last shortly before its end; then everything, until all is well."""
    asking: list[asyncio.Task[list[Answered]]] = []
    await outage.begin(house, engine)
    try:
        for group in groups:
            asking.append(asyncio.create_task(at_once(house.url, group, AT_ONCE)))
            await asyncio.sleep((outage.seconds - 1) / len(groups))
        asking.append(asyncio.create_task(at_once(house.url, groups[-1], BESIDE)))
        await asyncio.sleep(min(1.0, outage.seconds))
    finally:
        await outage.end(house, engine)
    ended = time.monotonic()
    while not all(one.well for one in await at_once(house.url, KINDS, 1)):
        assert time.monotonic() - ended < outage.healed + MACHINE, f"{engine} was {outage.name}, and is still missed"
    print(f"{engine} {outage.name}: all is well {time.monotonic() - ended:.2f} s after its end")
    return [one for task in asking for one in await task]


async def at_once(url: str, kinds: Iterable[Kind], count: int) -> list[Answered]:
    return list(await asyncio.gather(*(ask(url, kind) for kind in kinds for _ in range(count))))


def table(name: str, answers: Sequence[Answered]) -> list[str]:
    """The worst of all, and of each kind."""
    by_kind: dict[str, list[Answered]] = defaultdict(list)
    for one in answers:
        by_kind[one.kind.name].append(one)
    worst = sorted(((max(one.seconds for one in ones), kind) for kind, ones in by_kind.items()), reverse=True)
    lines = [f"  {seconds:5.2f} s  {kind:40} {dict(Counter(one.status for one in by_kind[kind]))}" for seconds, kind in worst]
    return [f"{name}: {len(answers)} answers, the worst after {worst[0][0]:.2f} s", *lines]
