"""A scenario on a fleet: people register and follow while something is done to the system; then everything that was seen is judged.

In: a `Fleet` that is whole. Out: `Evidence`. The end of a scenario is the last disturbance; from there everything has `HEALED` seconds.
Afterwards everybody registers once more, undisturbed: so many calls were needed, and these assets had to be found.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import httpx

from tests.faults.checkers import ENDED, ITEM_ENDED, NEVER_SIGNED, code_of, judged
from tests.faults.history import JSON, Evidence, History, Log, Rows, Tape
from tests.faults.people import Person, over
from tests.faults.supervisor import Fleet

HEALED = 30.0  # seconds after the last disturbance
MOST_FAULTS = 40  # that are printed
AT_ONCE = 20  # people who register once more; fewer where calls have little time, since a crowd disturbs itself
SPARE = 5.0  # seconds more that a follower is given, so that its last words are about the system and not about itself

BANK, CARD, EFIN = "A1MOABK001", "B1MOACD001", "E1MOAEF001"
QUICK = {"p50": 40, "p99": 150}  # ms; slow enough that something is always under way
WAITING = "/v1/ca/sign_result"  # asking whether a person has signed is no call beyond need
ALL = ("websocket", "sse", "poll")

_NUMBERS = itertools.count(1)


class Stage:
    """One scenario. `people` are those who live in it."""

    def __init__(self, fleet: Fleet, http: httpx.AsyncClient) -> None:
        self.fleet, self.http = fleet, http
        self.history = History()
        self.people: list[Person] = []
        self.began = time.time()
        self.ill = False  # whether an institution, or the way to it, was made ill
        self.at_once = AT_ONCE
        self._lives: list[asyncio.Task[None]] = []
        self._deserted, self._met = len(fleet.deserters), set(fleet.tracebacks())

    # --- people -------------------------------------------------------------------------------------------------------

    def person(self, name: str = "p", *, urls: tuple[str, ...] | None = None) -> Person:
        self.people.append(Person(f"{name}-{next(_NUMBERS)}", urls or self.fleet.api_urls, self.http, self.history))
        return self.people[-1]

    def lives(self, person: Person, *org_codes: str, transports: Sequence[str] = ALL) -> asyncio.Task[None]:
        """Somebody registers and follows to the end, over every transport at once."""
        return self._goes_on(self._life(person, org_codes or (BANK, CARD), transports))

    def arrive(self, count: int, *, every: float = 0.0, org_codes: Sequence[str] = (BANK, CARD)) -> asyncio.Task[None]:
        """So many people, one after the other, each following over one of the transports in turn and a fifth over all."""

        async def arriving() -> None:
            for number in range(count):
                self.lives(self.person(), *org_codes, transports=ALL if number % 5 == 0 else ALL[number % 3 : number % 3 + 1])
                await asyncio.sleep(every)

        return self._goes_on(arriving())

    async def until_accepted(self, count: int) -> None:
        """Until so many registrations have their 202."""
        while len(self.history.accepted()) < count:
            await asyncio.sleep(0.01)

    def _goes_on(self, life: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._lives.append(asyncio.create_task(life))
        return self._lives[-1]

    async def _life(self, person: Person, org_codes: Sequence[str], transports: Sequence[str]) -> None:
        registration = await person.register(*org_codes)
        await asyncio.gather(*(person.follow(transport, registration, over) for transport in transports))

    # --- the end ------------------------------------------------------------------------------------------------------

    async def is_well(self) -> Evidence:
        """Fails with every fault that a checker finds; else the evidence."""
        evidence = await self.evidence()
        faults = judged(evidence)
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:MOST_FAULTS])
        return evidence

    async def evidence(self) -> Evidence:
        """Waits until everybody is through, or the time is over; then looks everywhere."""
        healed = max((one.ended for one in self.history.disturbances), default=time.time()) + HEALED
        await self._until_over(healed + SPARE)
        rows, feeds = await self._settled(healed + SPARE)
        ours = {None, *(person.sub for person in self.people)}  # None: the operator's own calls
        calls = [call for call in await self.fleet.calls(self.began) if call["path"] != WAITING and call.get("user") in ours]
        needs, again = await self._once_more()
        return Evidence(
            asked=tuple(self.history.asked),
            tapes=tuple(self.history.tapes),
            rows=rows,
            feeds=feeds,
            calls=tuple(calls),
            needs=needs,
            again=again,
            ill=self.ill,
            disturbances=tuple(self.history.disturbances),
            deserters=tuple(self.fleet.deserters[self._deserted :]),
            tracebacks=tuple(mark for mark in self.fleet.tracebacks() if mark not in self._met),
            recovered_by=healed,
        )

    async def _until_over(self, deadline: float) -> None:
        while self._lives and time.time() < deadline:
            lives, self._lives = self._lives, []  # those who arrive bring others
            _, late = await asyncio.wait(lives, timeout=max(0.0, deadline - time.time()))
            self._lives += late
            for life in set(lives) - late:
                life.result()
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)

    async def _settled(self, deadline: float) -> tuple[Rows, Mapping[str, Log]]:
        """Rows and feeds at one moment, at which nothing was under way and each fact handed over; or when the time is over."""
        rows = await rows_of(self.fleet, self.people)
        while True:
            logs = await asyncio.gather(*(self._log(person) for person in self.people))
            before, rows = rows, await rows_of(self.fleet, self.people)
            # What was deferred may begin again at any moment: rows that changed while the feeds were read belong to other feeds.
            if (rows == before and not rows.outbox and not _under_way(rows)) or time.time() > deadline:
                return rows, {person.sub: log for person, log in zip(self.people, logs, strict=True) if log is not None}
            await asyncio.sleep(0.05)

    async def until_landed(self) -> None:
        """Until nothing is deferred any more, whatever was accepted has ended, and its facts are handed over."""
        async with asyncio.timeout(HEALED):
            while (rows := await rows_of(self.fleet, self.people)).outbox or _under_way(rows, "deferred"):
                await asyncio.sleep(0.05)

    async def _log(self, person: Person) -> Log | None:
        """All that the feed still holds: from its beginning, or from where a client of ours joined last."""
        if not any(user == person.sub for user, _ in self.history.accepted()):
            return None
        newest = (await person.get("/v1/events")).json()
        places = [0, *(entry.offset for tape in self.history.tapes for entry in _in(tape, person.sub, newest["epoch"]))]
        for offset in sorted(set(places)):
            found = (await person.get(f"/v1/events?since={newest['epoch']}:{offset}")).json()
            if found["recovered"]:
                events = tuple((event.pop("offset"), event) for event in found["events"])
                return Log(newest["epoch"], found["offset"], events)
        return Log(newest["epoch"], newest["offset"], ())

    async def _once_more(self) -> tuple[Mapping[tuple[str, str], Mapping[str, int]], Mapping[tuple[str, str], frozenset[str]]]:
        """What one undisturbed registration of each person needs, and finds."""
        began = time.time()
        chosen = await _chosen(self.fleet, self.people)
        people = [person for person in self.people if chosen.get(person.sub)]
        calm = {person.sub: person.again(History()) for person in people}
        turns = asyncio.Semaphore(self.at_once)

        async def lives(person: Person) -> None:
            async with turns:
                await self._life(calm[person.sub], chosen[person.sub], ("poll",))

        async with asyncio.timeout(HEALED * 2):
            await asyncio.gather(*map(lives, people))
        needs: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for call in await self.fleet.calls(began):
            if call.get("user") and call["path"] != WAITING:
                needs[call["user"], call["org_code"]][code_of(call)] += 1
        rows = await rows_of(self.fleet, people)
        begun = {registration_id for person in calm.values() for _, registration_id in person.history.accepted()}
        cut = [row for row in rows.items if row["registration_id"] in begun and row["status"] != "completed"]
        assert not cut, f"nothing disturbed these, and yet they did not complete, so that what is needed is not known: {cut}"
        again = {(row["user_id"], row["org_code"]): frozenset[str]() for row in rows.items}
        for row in rows.assets:
            again[row["user_id"], row["org_code"]] |= {row["id"]}
        return needs, again


def _under_way(rows: Rows, *more: str) -> bool:
    """Whether a registration, or a provider of one that was signed, has not ended; a provider's status among `more` counts as no end."""
    signed = {row["id"] for row in rows.registrations if row["status"] not in NEVER_SIGNED}
    statuses = {row["status"] for row in rows.items if row["registration_id"] in signed}
    return not ({row["status"] for row in rows.registrations} <= ENDED and statuses <= ITEM_ENDED - set(more))


def _in(tape: Tape, user: str, epoch: str) -> list[Any]:
    return [entry for entry in tape.entries if tape.user == user and entry.epoch == epoch][:1]


@asynccontextmanager
async def a_stage(fleet: Fleet) -> AsyncIterator[Stage]:
    """A scenario on this fleet, which is whole when the block begins; nobody of it goes on after the block."""
    await whole(fleet)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(trust_env=False, verify=False, limits=limits, timeout=None) as http:
        stage = Stage(fleet, http)
        try:
            yield stage
        finally:
            for life in stage._lives:
                life.cancel()
            await asyncio.gather(*stage._lives, return_exceptions=True)


async def whole(fleet: Fleet) -> None:
    """Starts whoever is missing, and makes the institutions quick and well."""
    for proxy in fleet.proxies.values():
        proxy.heal()
    await asyncio.gather(*(member.start() for member in fleet.members if not member.alive))
    (await fleet.http.post(f"{fleet.sandbox.url}/sandbox/reset")).raise_for_status()
    await fleet.steer("ca", approve_after_ms=50, latency_ms=QUICK)
    for org_code in (BANK, CARD, EFIN):
        await fleet.steer(f"providers/{org_code}", latency_ms=QUICK)


# --- what PostgreSQL holds ---------------------------------------------------------------------------------------------

_TABLES = {
    "registrations": "SELECT user_id, id, status, updated_at FROM registrations WHERE user_id = ANY($1)",
    "items": "SELECT user_id, registration_id, org_code, status, asset_ids, updated_at FROM registration_items WHERE user_id = ANY($1)",
    "assets": "SELECT user_id, id, org_code, kind, name, number_masked FROM assets WHERE user_id = ANY($1)",
    "links": "SELECT user_id, org_code, status FROM links WHERE user_id = ANY($1)",
    "users": "SELECT user_id, feed_offset FROM users WHERE user_id = ANY($1)",
}


async def rows_of(fleet: Fleet, people: Sequence[Person]) -> Rows:
    """The rows of these people, asked for at the engine itself."""
    users = [person.sub for person in people]
    connection = await asyncpg.connect(fleet.postgres.engine.url, timeout=10)
    try:
        tables = {name: tuple(_plain(row) for row in await connection.fetch(statement, users)) for name, statement in _TABLES.items()}
        waiting = await connection.fetchval("SELECT count(*) FROM outbox WHERE user_id = ANY($1)", users)
    finally:
        await connection.close()
    return Rows(**tables, outbox=waiting)


async def _chosen(fleet: Fleet, people: Sequence[Person]) -> dict[str, tuple[str, ...]]:
    """Whom each person has chosen."""
    chosen: dict[str, dict[str, None]] = defaultdict(dict)
    for row in (await rows_of(fleet, people)).items:
        chosen[row["user_id"]][row["org_code"]] = None
    return {user: tuple(org_codes) for user, org_codes in chosen.items()}


def _plain(row: asyncpg.Record) -> JSON:
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in row.items()}
