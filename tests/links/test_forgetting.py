"""Who wants to be forgotten leaves nothing but the history of consents, whoever is at work meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.clock import SystemClock
from backend.errors import EngineUnavailable
from backend.events import RegistrationAccepted
from backend.links.forgetting import ErasureSweep, Forgetting
from backend.registration.model import Item, Registration
from backend.registration.rows import new_row
from backend.storage import erasing, registrations
from backend.storage.database import Database
from backend.storage.outbox import Entry
from backend.storage.schema import metadata
from tests.links.test_refreshing import linked
from tests.registration.house import BANK, CARD, EFIN, Client, House


async def rows_of(house: House, user_id: str) -> dict[str, int]:
    """How many rows each table has of this user; tables without any are left out."""
    found = {}
    for table in metadata.sorted_tables:
        if "user_id" in table.c:
            found[table.name] = (await house.execute(f"SELECT count(*) AS n FROM {table.name} WHERE user_id = $1", user_id))[0]["n"]
    return {name: count for name, count in found.items() if count}


async def until_only_the_history_is_left(house: House, user_id: str) -> None:
    async with asyncio.timeout(8):
        while set(await rows_of(house, user_id)) != {"consent_history"}:
            await asyncio.sleep(0.05)


async def test_nothing_stays_but_the_history_and_the_providers_are_told(house: House, anna: Client, berta: Client) -> None:
    await linked(anna, BANK, CARD, EFIN)
    await linked(berta, BANK)
    await anna.http.post("/v1/registrations", json={"providers": [BANK]}, headers={"Idempotency-Key": "again"})
    await anna.http.post("/v1/refresh")
    assert (await anna.http.delete(f"/v1/links/{EFIN}")).status_code == 202
    others, before = await rows_of(house, berta.sub), (await anna.get("/v1/events")).json()
    asked = len(await house.calls())
    answer = await anna.http.delete("/v1/me")
    assert (answer.status_code, answer.content) == (202, b"")
    assert set(await rows_of(house, anna.sub)) <= {"consent_history", "revocations"}

    assert await anna.assets() == []
    assert (await anna.get("/v1/registrations")).json()["registrations"] == []
    assert (await anna.get("/v1/links")).json()["links"] == []
    since = f"{before['epoch']}:{before['offset']}"
    after = (await anna.get("/v1/events", since=since)).json()
    assert (after["recovered"], after["events"], after["offset"]) == (False, [], 0)
    assert after["epoch"] != before["epoch"]

    await until_only_the_history_is_left(house, anna.sub)
    revoked = {
        call["org_code"] for call in (await house.calls())[asked:] if call["path"].endswith("/revoke") and call["rsp_code"] == "00000"
    }
    assert revoked >= {BANK, CARD}
    happened = await house.execute("SELECT org_code, happened FROM consent_history WHERE user_id = $1", anna.sub)
    assert {(row["org_code"], row["happened"]) for row in happened} >= {(code, "revoked") for code in (BANK, CARD, EFIN)}
    assert await rows_of(house, berta.sub) == others


async def test_work_under_way_brings_nothing_back(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="slow", latency_ms={"p50": 300, "p99": 400})
    following = await anna.register(BANK, CARD)
    await following.heard("provider.assets")
    assert (await anna.http.delete("/v1/me")).status_code == 202
    async with asyncio.timeout(8):
        while not await house.calls(BANK):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # what was asked for has been answered by then
    assert not set(await rows_of(house, anna.sub)) - {"consent_history", "revocations"}


async def test_who_comes_back_is_new(house: House, anna: Client) -> None:
    await linked(anna, BANK)
    assert (await anna.http.delete("/v1/me")).status_code == 202
    following = await anna.register(BANK)
    assert following.position["offset"] == 0
    await following.ended("completed")
    assert following.events[0]["type"] == "registration.accepted"


async def test_who_was_never_here_can_be_forgotten_too(house: House, anna: Client) -> None:
    assert (await anna.http.delete("/v1/me")).status_code == 202
    assert await rows_of(house, anna.sub) == {}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that no process looks at."""
    database = Database(database_url, pool=2)
    yield database
    await database.close()


async def accepted(database: Database, name: str) -> list[Entry]:
    """A registration of anna's, whom nobody may know yet."""
    now = SystemClock().now()
    new = Registration(user_id="anna", id=name, created_at=now, sign_before=now, items=(Item(org_code=BANK),))
    row, told = new_row(new, request_id="req_12345678"), [RegistrationAccepted(registration_id=name, at=now).event()]
    acceptance = registrations.Acceptance(registration=row, org_codes=[BANK], person_sealed=b"sealed", events=told)
    return await database.single(lambda connection: registrations.accept(connection, acceptance, now))


async def test_who_registers_while_somebody_unknown_is_erased_is_not_erased_by_halves(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice erased at once, or never seen before: there is no row of theirs to be locked."""
    begun: list[asyncio.Task[list[Entry]]] = []

    class Meanwhile:
        async def run(self, *_: object) -> None:
            begun.append(asyncio.create_task(accepted(database, "reg_1")))
            await asyncio.wait(begun, timeout=0.3)

    *others, last = erasing._ERASE
    monkeypatch.setattr(erasing, "_ERASE", (*others, Meanwhile(), last))
    now = SystemClock().now()
    await database.transaction(lambda connection: erasing.erase(connection, "anna", now, traffic_key="key"))
    assert [offset for offset, _ in await begun[0]] == [1]
    async with database.reading() as connection:
        row = await registrations.load(connection, "anna", "reg_1")
    assert row is not None
    assert row["feed_offset"] == 1, "who was accepted is known"
    assert [offset for offset, _ in await accepted(database, "reg_2")] == [2]


async def test_a_feed_that_could_not_be_erased_is_erased_by_the_sweep(database: Database) -> None:
    async def away(_: str) -> None:
        raise EngineUnavailable("Valkey")

    erased = []

    async def back(user_id: str) -> None:
        erased.append(user_id)

    clock = SystemClock()
    forgetting = Forgetting(database=database, erase_feed=away, traffic_key=str.upper, afterwards=lambda _: None, clock=clock)
    await forgetting.forget("anna")
    async with database.reading() as connection:
        assert await connection.fetch("SELECT user_key FROM traffic_forgotten") == [("ANNA",)]
    sweep = ErasureSweep(database=database, erase_feed=back)
    assert await sweep.sweep(clock.now()) == 0, "it is in somebody's hands"
    assert await sweep.sweep(clock.now() + timedelta(seconds=3)) == 1
    assert erased == ["anna"]
    assert await sweep.sweep(clock.now() + timedelta(seconds=4)) == 0
