"""The law of the feed through the real code: a snapshot at a position, with the events after it, is a fresh snapshot.

Hypothesis plays CA and providers by driving `Handling` on real PostgreSQL; facts go through the real relay to the real feed, and observers
begin at drawn moments, also in the middle of a transaction, by a snapshot over HTTP and any transport. They fold by the contract's table
alone (`client_fold.py`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.app import create_app
from backend.clock import SystemClock, iso
from backend.engines import Engine
from backend.events import Asset
from backend.registration.decisions import Cancel, RecordAssets, RecordSignatureRequest, RecordSigned, Request, Retry
from backend.services import Foundation, found
from backend.settings import Settings
from backend.storage.changes import Writes
from tests.clients.apps import JSON, App, Snapshot, folded, is_after
from tests.clients.people import read_snapshot
from tests.realtime.given import SECRET, serve, token, until
from tests.realtime.watching import Transport, Watcher
from tests.registration.house import VAULT_KEYS
from tests.registration.play import NOON, SIGNATURE, TTL, A, B, C
from tests.registration.test_law import requests
from tests.storage.given import copied

MOST_OBSERVERS = 4
ACCEPTED_OR_TOO_LATE = {202, 409}

USERS = itertools.count(1)
REQUESTED = {"sign_web_url": "https://ca/w", "sign_ios_url": "ca://i", "sign_aos_url": "ca://a", "sign_expires_at": NOON + TTL}


@dataclass
class Stage:
    """An API that serves, and the same engines for whoever plays the workers."""

    port: int
    foundation: Foundation


@pytest.fixture(scope="module")
async def law_stage(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[Stage]:
    async with copied(postgres.url, migrated_template, "of_the_law") as database_url:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            database_url=database_url,
            valkey_url=valkey.url,
            jwt_secret=SECRET,
            vault_keys=VAULT_KEYS,
            asset_id_secret="another secret for tests",
            rate_limit_per_minute=0,
            sockets_per_user=0,
            log_level="error",
        )
        app, foundation = create_app(settings), found(settings, SystemClock())
        async with app.router.lifespan_context(app), serve(app) as port:
            yield Stage(port, foundation)
        await foundation.close()


@dataclass
class World:
    """One person: their registrations, everybody who observes them, and what was seen at moments of rest."""

    stage: Stage
    user_id: str
    http: httpx.AsyncClient
    registration_ids: list[str] = field(default_factory=list)
    observers: list[tuple[App, Watcher]] = field(default_factory=list)
    seen: list[Snapshot] = field(default_factory=list)
    changes: int = 0

    async def begin(self, org_codes: list[str]) -> None:
        answer = await self.http.post("/v1/registrations", json={"providers": org_codes})
        assert answer.status_code == 202, answer.text
        self.registration_ids.append(answer.json()["id"])

    async def meet(self, registration_id: str, request: Request) -> None:
        """What a job or a person does with a request."""
        path = f"/v1/registrations/{registration_id}"
        match request:
            case Retry():
                answer = await self.http.post(path + "/retry")
                assert answer.status_code in ACCEPTED_OR_TOO_LATE
            case Cancel():
                assert (await self.http.delete(path)).status_code in ACCEPTED_OR_TOO_LATE
            case RecordAssets(org_code=org_code, run=run, assets=assets):
                await self._record(registration_id, org_code, run, assets)
            case RecordSignatureRequest():
                await self._handle(registration_id, request, REQUESTED)
            case _:
                await self._handle(registration_id, request, {})

    async def _record(self, registration_id: str, org_code: str, run: int, assets: tuple[Asset, ...]) -> None:
        self.changes += 1
        now = iso(self.stage.foundation.clock.now())
        shown = tuple(
            msgspec.structs.replace(each, id=f"{org_code}-{each.id}", name=f"입출금 {self.changes}", as_of=now) for each in assets
        )
        recorded = RecordAssets(org_code, run, shown)
        await self.stage.foundation.handling.handle(self.user_id, registration_id, recorded, writes=Writes(assets=shown))

    async def _handle(self, registration_id: str, request: Request, columns: dict[str, Any]) -> None:
        await self.stage.foundation.handling.handle(self.user_id, registration_id, request, writes=Writes(registration=columns))

    async def observe(self, transport: Transport) -> None:
        """Somebody reads a snapshot and follows from its position."""
        snapshot = await read_snapshot(self.http)

        async def give_token() -> str:
            return token(self.user_id)

        app = App(f"observer-{len(self.observers)}", give_token)
        app.read(snapshot, goes_on=False)
        watcher = Watcher(app, port=self.stage.port, http=self.http, since=snapshot.place)
        self.observers.append((app, watcher))
        await watcher.use(transport)

    async def rest(self) -> None:
        """Until everything that was committed is in the feed; then a snapshot is kept."""
        await until(self._is_relayed)
        self.seen.append(await read_snapshot(self.http))

    async def _is_relayed(self) -> bool:
        foundation = self.stage.foundation
        async with foundation.database.reading() as connection:
            committed = await connection.fetchval("SELECT feed_offset FROM users WHERE user_id = $1", self.user_id)
        return (await foundation.feed.position(self.user_id)).offset == committed

    async def current(self, registration_id: str) -> Any:
        return await self.stage.foundation.handling.find(self.user_id, registration_id)

    async def log(self) -> list[JSON]:
        epoch = self.seen[-1].place[0]
        page = (await self.http.get("/v1/events", params={"since": f"{epoch}:0"})).json()
        assert page["recovered"]
        return list(page["events"])


async def play(world: World, data: st.DataObject) -> None:
    await world.begin(data.draw(org_codes))
    first = world.registration_ids[0]
    if data.draw(st.booleans()):  # most roads lie behind the signature
        await world.meet(first, RecordSignatureRequest(1, SIGNATURE))
        await world.meet(first, RecordSigned(1))
    for _ in range(data.draw(st.integers(2, 14))):
        registration_id = data.draw(st.sampled_from(world.registration_ids))
        request = data.draw(requests(await world.current(registration_id)))
        deeds = [partial(world.meet, registration_id, request)]
        if len(world.observers) < MOST_OBSERVERS and data.draw(st.booleans()):
            deeds.append(partial(world.observe, data.draw(st.sampled_from(Transport))))
        elif world.observers and data.draw(st.booleans()):
            deeds.append(partial(data.draw(st.sampled_from(world.observers))[1].use, data.draw(st.sampled_from(Transport))))
        elif len(world.registration_ids) < 2 and data.draw(st.booleans()):
            deeds.append(partial(world.begin, data.draw(org_codes)))
        await asyncio.gather(*(deed() for deed in deeds))
        if data.draw(st.booleans()):
            await world.rest()
    await world.rest()


async def check(world: World) -> None:
    fresh = world.seen[-1]
    await until(lambda: all(app.place == fresh.place for app, _ in world.observers), 10)
    for app, _ in world.observers:
        assert (app.faults, app.losses) == ([], 0)
        assert app.view().shows_what(fresh.view()), app.name
    log = await world.log()
    for place, earlier in enumerate(world.seen):
        for later in world.seen[place + 1 :]:
            epoch = earlier.place[0]
            between = [event for event in log if is_after(earlier.place, epoch, event["offset"]) and event["offset"] <= later.place[1]]
            assert folded(earlier, between).shows_what(later.view())


org_codes = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3, unique=True)


async def hold(stage: Stage, data: st.DataObject) -> None:
    user_id = f"law-{next(USERS)}"
    url, headers = f"http://127.0.0.1:{stage.port}", {"Authorization": f"Bearer {token(user_id)}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10) as http:
        world = World(stage, user_id, http)
        try:
            await play(world, data)
            await check(world)
        finally:
            for _, watcher in world.observers:
                await watcher.use(None)


SHORT = settings(max_examples=12, suppress_health_check=list(HealthCheck))


@SHORT
@given(data=st.data())
async def test_a_snapshot_and_the_events_after_it_are_a_fresh_snapshot_on_every_transport(law_stage: Stage, data: st.DataObject) -> None:
    await hold(law_stage, data)


@pytest.mark.long
@settings(SHORT, max_examples=100)
@given(data=st.data())
async def test_the_law_holds_in_many_lives(law_stage: Stage, data: st.DataObject) -> None:
    await hold(law_stage, data)
