"""All that is sealed comes under the new key, whoever writes meanwhile and wherever it is killed."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Text

from backend.storage import resealing, tables
from backend.storage.database import Database
from backend.storage.resealing import keys_in_use, reseal
from backend.storage.sealed import EVERY_SEALED, PERSON, REVOKED_TOKEN
from backend.storage.statements import Connection
from backend.storage.vault import Vault, key_id_of, new_key, parsed_keys
from tests.storage.given import insert

OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()
LOST = "k9:" + base64.b64encode(b"9" * 32).decode()
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
BOTH = Vault(f"{NEW},{OLD}")
PEOPLE = 7


def test_every_sealed_column_of_every_table_is_rotated() -> None:
    of_tables = {
        (table.name, column.name) for table in tables.metadata.sorted_tables for column in table.columns if "sealed" in column.name
    }
    assert {(each.table.name, each.column) for each in EVERY_SEALED} == of_tables
    here = [each for each in EVERY_SEALED if each is not REVOKED_TOKEN]  # it was sealed in the link, and moved as it is
    assert len({each.name for each in here}) == len(here), "no two columns seal under one name"
    for each in EVERY_SEALED:
        assert all(isinstance(each.table.c[name].type, Text) or each.table.c[name].type.python_type is str for name in each.key)
        assert not any(each.table.c[name].nullable for name in each.key)
    in_order = [each.table.name for each in EVERY_SEALED]
    assert in_order == sorted(in_order, key=in_order.index), "columns of one table stand together"


def plain(each: Any, row: tuple[str, ...]) -> bytes:
    return f"{each.column} of {row}".encode()


def filled(vault: Vault, table: Any, number: int) -> dict[str, Any]:
    """A row with something in every column that must have something, and in every sealed one."""
    user, registration = f"user-{number:03d}", f"reg_{number:03d}"
    named = {"user_id": user, "id": f"{table.name}-{number:03d}", "registration_id": registration, "org_code": "A1MOABK001"}
    if table is tables.registrations:
        named["id"] = registration
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.name in named:
            row[column.name] = named[column.name]
        elif not column.nullable and column.server_default is None and "sealed" not in column.name:
            kind = column.type.python_type
            row[column.name] = {str: f"x{number}", int: 1, datetime: NOW, date: NOW.date(), bytes: b""}[kind]
    for each in EVERY_SEALED:
        if each.table is table:
            values = tuple(row[name] for name in each.key)
            row[each.column] = vault.seal(plain(each, values), *each.row(*values))
    return row


async def fill(database: Database, keys: str, people: int = PEOPLE) -> None:
    vault = Vault(keys)

    async def deed(connection: Connection) -> None:
        for table in (tables.registrations, *dict.fromkeys(each.table for each in EVERY_SEALED)):
            await insert(connection, table, [filled(vault, table, number) for number in range(people)])

    await database.transaction(deed)


async def opened(database: Database, vault: Vault) -> Counter[str]:
    """Opens every sealed value, holds it against what was sealed, and counts their keys."""
    found: Counter[str] = Counter()
    async with database.reading() as connection:
        for each in EVERY_SEALED:
            for row in await connection.fetch(f"SELECT * FROM {each.table.name}"):
                values = tuple(row[name] for name in each.key)
                assert vault.open(row[each.column], *each.row(*values)) == plain(each, values)
                found[key_id_of(row[each.column]) or ""] += 1
    return found


def untold(_table: str, _rows: int) -> None:
    """Nobody looks on."""


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "PAGE", 3)


async def test_everything_comes_under_the_first_key_and_says_the_same(database: Database) -> None:
    await fill(database, OLD)
    everything = PEOPLE * len(EVERY_SEALED)
    assert await keys_in_use(database) == {"k1": everything}
    done = await reseal(database, BOTH, untold)
    assert (done.values, done.unreadable) == (everything, 0)
    assert await opened(database, Vault(NEW)) == {"k2": everything}
    assert (await reseal(database, BOTH, untold)).values == 0


async def test_what_lies_empty_stays_empty(database: Database) -> None:
    await fill(database, OLD, people=1)
    await database.transaction(lambda connection: connection.execute("UPDATE links SET access_token_sealed = NULL"))
    await reseal(database, BOTH, untold)
    async with database.reading() as connection:
        row = await connection.fetchrow("SELECT access_token_sealed, refresh_token_sealed FROM links")
    assert row is not None
    assert row["access_token_sealed"] is None
    assert key_id_of(row["refresh_token_sealed"]) == "k2"


class Killed(BaseException):
    """Stands for kill -9."""


class Mortal:
    """A database whose user is killed after so many transactions, or right before a commit."""

    def __init__(self, database: Database, lives: int) -> None:
        self._database, self._lives = database, lives
        self.reading = database.reading

    async def transaction(self, deed: Callable[[Connection], Awaitable[Any]]) -> Any:
        async def dying(connection: Connection) -> Any:
            done = await deed(connection)
            self._lives -= 1
            if self._lives < 0:
                raise Killed
            return done

        return await self._database.transaction(dying)


@pytest.mark.parametrize("lives", range(0, 20, 3))
async def test_killed_between_two_pages_or_before_a_commit_everything_opens_and_the_next_one_finishes(
    database: Database, lives: int
) -> None:
    await fill(database, OLD)
    with pytest.raises(Killed):
        await reseal(Mortal(database, lives), BOTH, untold)  # type: ignore[arg-type]
    halfway = await opened(database, BOTH)
    assert halfway["k1"] > 0
    done = await reseal(database, BOTH, untold)
    assert done.values == halfway["k1"]
    assert await opened(database, Vault(NEW)) == {"k2": PEOPLE * len(EVERY_SEALED)}


async def test_what_a_running_process_writes_meanwhile_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk has read the page; before it replaces, a process that knows only the old key seals something newer."""
    await fill(database, OLD, people=1)
    newer = Vault(OLD).seal(b"newer", *PERSON.row("user-000"))
    replace, overtaken = resealing._replace, False

    async def late(database: Database, each: Any, changes: Any) -> None:
        nonlocal overtaken
        if each is PERSON and not overtaken:
            overtaken = True
            await database.transaction(lambda connection: connection.execute("UPDATE users SET person_sealed = $1", newer))
        await replace(database, each, changes)

    monkeypatch.setattr(resealing, "_replace", late)
    await reseal(database, BOTH, untold)
    async with database.reading() as connection:
        sealed = await connection.fetchval("SELECT person_sealed FROM users")
    assert Vault(NEW).open(sealed, *PERSON.row("user-000")) == b"newer", "kept, and found by the next walk"


async def test_what_does_not_open_is_counted_and_left_as_it_is(database: Database) -> None:
    await fill(database, OLD, people=2)
    lost = Vault(LOST).seal(b"x", *PERSON.row("user-000"))
    await database.transaction(
        lambda connection: connection.execute("UPDATE users SET person_sealed = $1 WHERE user_id = 'user-000'", lost)
    )
    done = await reseal(database, BOTH, untold)
    assert (done.values, done.unreadable) == (2 * len(EVERY_SEALED) - 1, 1)
    assert await keys_in_use(database) == {"k9": 1, "k2": 2 * len(EVERY_SEALED) - 1}
    async with database.reading() as connection:
        assert await connection.fetchval("SELECT person_sealed FROM users WHERE user_id = 'user-000'") == lost


def test_a_new_key_has_a_name_of_its_own() -> None:
    assert list(parsed_keys(new_key([]))) == ["k1"]
    assert list(parsed_keys(new_key(["k2", "k10", "spring", "kx", "k"]))) == ["k11"]
    assert new_key([]) != new_key([])


def test_the_key_of_an_envelope_is_known_by_its_first_bytes() -> None:
    sealed = Vault(OLD).seal(b"x" * 1000, "a")
    assert key_id_of(sealed[:10]) == "k1"
    assert [key_id_of(garbage) for garbage in (b"", b"v1", b"v1|k1", b"v2|k1|", sealed[1:])] == [None] * 5
