"""Registrations by page, and the work that is still open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from backend.events import ProviderStatus, RegistrationStatus
from backend.registration.model import Item, Registration
from backend.registration.rows import changed_rows, new_row, restored
from backend.storage import registrations
from backend.storage.changes import Change, commit
from backend.storage.database import Database
from backend.storage.registrations import OpenWork, Page
from backend.storage.statements import Connection

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
IDLE = NOW + timedelta(seconds=2)
A, B = "A1MOABK001", "B1MOACD001"


def registration(name: str, *items: Item, user_id: str = "anna", **state: object) -> Registration:
    new = Registration(user_id=user_id, id=name, created_at=NOW, sign_before=NOW, items=items or (Item(org_code=A),))
    return replace(new, **state)


async def add(database: Database, *all_of_them: Registration) -> None:
    async def deed(connection: Connection) -> None:
        for one in all_of_them:
            codes = [item.org_code for item in one.items]
            row = new_row(one, request_id="req_12345678")
            new = registrations.Acceptance(registration=row, org_codes=codes, person_sealed=b"", events=())
            assert await registrations.accept(connection, new, one.created_at) == []
            fresh = replace(one, items=tuple(Item(org_code=item.org_code, run=one.run) for item in one.items))
            state, items = changed_rows(fresh, one)
            change = Change(user_id=one.user_id, registration_id=one.id, since=0, state=state, items=items)
            assert await commit(connection, change, NOW) == []

    await database.transaction(deed)


async def open_work(database: Database, *, idle_since: datetime = IDLE, now: datetime = IDLE, limit: int = 100) -> list[OpenWork]:
    async with database.reading() as connection:
        unsigned = await registrations.unsigned(connection, idle_since=idle_since, limit=limit)
        return unsigned + await registrations.uncollected(connection, idle_since=idle_since, now=now, limit=limit)


async def test_a_registration_comes_back_as_it_was_written(database: Database) -> None:
    items = (
        Item(org_code=B, status=ProviderStatus.DEFERRED, run=3, asset_ids=frozenset({"x", "y"}), retry_at=IDLE),
        Item(org_code=A, status=ProviderStatus.FAILED, error_code="provider_busy"),
    )
    written = registration("reg_1", *items, status=RegistrationStatus.PARTIAL, run=4, completed_as=RegistrationStatus.PARTIAL)
    await add(database, written)
    async with database.reading() as connection:
        row = await registrations.load(connection, "anna", "reg_1")
        assert row is not None
        assert restored(row) == written
        assert await registrations.load(connection, "berta", "reg_1") is None


async def test_pages_go_from_the_newest_to_the_oldest_and_leave_out_others(database: Database) -> None:
    await add(database, *(registration(f"reg_{number}", Item(org_code=B), Item(org_code=A)) for number in range(5)))
    await add(database, registration("reg_3", user_id="berta"))
    seen: list[str] = []
    async with database.reading() as connection:
        while page := await registrations.listed(connection, "anna", Page(2, seen[-1] if seen else None)):
            seen += [row["id"] for row in page]
            assert all([org_code for org_code, *_ in row["items"]] == [B, A] for row in page)
    assert seen == ["reg_4", "reg_3", "reg_2", "reg_1", "reg_0"]


@pytest.mark.parametrize("status", [ProviderStatus.WAITING, ProviderStatus.CONNECTING, ProviderStatus.COLLECTING])
async def test_what_was_begun_and_lies_idle_is_found(database: Database, status: ProviderStatus) -> None:
    await add(database, registration("reg_1", Item(org_code=A, status=status), status=RegistrationStatus.COLLECTING))
    await add(database, registration("reg_2", Item(org_code=A, run=3), run=3))
    assert set(await open_work(database)) == {
        OpenWork("anna", "reg_1", 1, "req_12345678", A),
        OpenWork("anna", "reg_2", 3, "req_12345678", None),
    }
    assert await open_work(database, idle_since=NOW) == [], "it is in somebody's hands"


@pytest.mark.parametrize("status", [ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.CANCELLED])
async def test_what_has_ended_is_left_alone(database: Database, status: ProviderStatus) -> None:
    await add(database, registration("reg_1", Item(org_code=A, status=status), status=RegistrationStatus.PARTIAL))
    assert await open_work(database) == []


@pytest.mark.parametrize("status", [RegistrationStatus.SIGNING, RegistrationStatus.DENIED, RegistrationStatus.EXPIRED])
async def test_nothing_is_collected_that_nobody_signed(database: Database, status: RegistrationStatus) -> None:
    await add(database, registration("reg_1", status=status))
    assert [work for work in await open_work(database) if work.org_code] == []


async def test_a_deferred_provider_is_found_when_its_time_has_come(database: Database) -> None:
    deferred = Item(org_code=A, status=ProviderStatus.DEFERRED, retry_at=IDLE + timedelta(seconds=5))
    await add(database, registration("reg_1", deferred, status=RegistrationStatus.PARTIAL))
    assert await open_work(database) == []
    assert len(await open_work(database, now=IDLE + timedelta(seconds=5))) == 1


@pytest.mark.parametrize("status", [RegistrationStatus.SIGNING, RegistrationStatus.DENIED, RegistrationStatus.EXPIRED])
async def test_a_deferred_provider_is_found_although_a_later_run_was_not_signed(database: Database, status: RegistrationStatus) -> None:
    deferred, waiting = Item(org_code=A, status=ProviderStatus.DEFERRED, retry_at=NOW), Item(org_code=B, run=2)
    await add(database, registration("reg_1", deferred, waiting, status=status, run=2))
    assert [work.org_code for work in await open_work(database) if work.org_code] == [A]


async def test_a_sweep_takes_no_more_than_it_is_told_and_the_oldest_first(database: Database) -> None:
    await add(database, *(replace(registration(f"reg_{number}"), created_at=NOW - timedelta(seconds=number)) for number in range(3)))
    assert [work.registration_id for work in await open_work(database, limit=2)] == ["reg_2", "reg_1"]
