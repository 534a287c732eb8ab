"""Every sealed value of the database, walked page by page: which keys are in use, and all of it under the current one.

In: a vault whose first key is the one to seal with. Out: counts. Safe beside running processes: a value is replaced only if it is still
the one that was read, in short transactions; a walk that was killed is begun again. Never here: a value that does not open is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import groupby
from typing import Any

from msgspec import Struct
from sqlalchemy import Table

from backend.storage.database import Database
from backend.storage.sealed import EVERY_SEALED, Sealed
from backend.storage.statements import Connection, Row, Statement, statement
from backend.storage.vault import Vault, VaultError, key_id_of

PAGE = 500  # rows read at once, and replaced in one transaction
MOST_WALKS = 10  # a process that has not heard of the new key yet may go on sealing under the old one
_HEAD = 200  # bytes of an envelope that hold its key's id


class Resealed(Struct, frozen=True):
    """What a rotation did."""

    values: int  # sealed anew
    unreadable: int  # left as they are: their key is not known, or they are damaged


Told = Callable[[str, int], None]  # a table, and how many of its rows were walked so far


async def keys_in_use(database: Database) -> Counter[str]:
    """How many values lie under which key; "" counts what is no envelope."""
    found: Counter[str] = Counter()
    for table, columns in _by_table():
        shown = [f"substr({each.column}, 1, {_HEAD}) AS {each.column}" for each in columns]
        async for page in _pages(database, table, shown):
            found.update(key_id_of(row[each.column]) or "" for row in page for each in columns if row[each.column] is not None)
    return found


async def reseal(database: Database, vault: Vault, told: Told) -> Resealed:
    """Seals everything under the vault's first key, until a walk finds nothing more to do."""
    values = 0
    for _ in range(MOST_WALKS):
        walk = await _walk(database, vault, told)
        values += walk.values
        if walk.values == 0:
            break
    return Resealed(values, walk.unreadable)


async def _walk(database: Database, vault: Vault, told: Told) -> Resealed:
    values = unreadable = 0
    for table, columns in _by_table():
        head = f"v1|{vault.key_ids()[0]}|".encode()
        shown = [_unless_begins(each.column, len(head)) for each in columns]
        walked = 0
        async for page in _pages(database, table, shown, head):
            for each in columns:
                changes, closed = _changes(vault, each, page)
                unreadable += closed
                values += len(changes)
                if changes:
                    await _replace(database, each, changes)
            walked += len(page)
            told(table.name, walked)
    return Resealed(values, unreadable)


def _by_table() -> list[tuple[Table, list[Sealed]]]:
    return [(table, list(columns)) for table, columns in groupby(EVERY_SEALED, key=lambda each: each.table)]


def _unless_begins(column: str, length: int) -> str:
    """The value, or NULL where it begins with `:head`: what is done already need not travel."""
    return f"CASE WHEN substr({column}, 1, {length}) = :head THEN NULL ELSE {column} END AS {column}"


async def _pages(database: Database, table: Table, shown: Sequence[str], head: bytes = b"") -> AsyncIterator[Sequence[Row]]:
    """Every row by key: its key, what names its sealed values, and `shown`. Nothing is held between two pages."""
    key = _key(table)
    names = {name for each in EVERY_SEALED if each.table is table for name in each.key} - set(key)
    first, further = (
        statement(
            f"""
            SELECT {", ".join((*key, *sorted(names), *shown))} FROM {table.name} {where} ORDER BY {", ".join(key)} LIMIT {PAGE}
            """  # noqa: S608  # names of tables and columns
        )
        for where in ("", f"WHERE ({', '.join(key)}) > ({', '.join(f':{name}' for name in key)})")
    )
    values: dict[str, Any] = {"head": head}
    page = first
    while True:
        async with database.reading() as connection:
            rows = await page.rows(connection, values)
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        values.update({name: rows[-1][name] for name in key})
        page = further


def _key(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key.columns)


def _changes(vault: Vault, each: Sealed, page: Sequence[Row]) -> tuple[list[dict[str, Any]], int]:
    """The replacements for one column of one page, and how many of its values do not open."""
    changes, closed = [], 0
    for row in page:
        old = row[each.column]
        if old is None:
            continue
        name = each.row(*(row[part] for part in each.key))
        try:
            new = vault.seal(vault.open(old, *name), *name)
        except VaultError:
            closed += 1
            continue
        changes.append({"old": old, "new": new, **{name: row[name] for name in _key(each.table)}})
    return changes, closed


def _replacing(each: Sealed) -> Statement:
    row = " AND ".join(f"{name} = :{name}" for name in _key(each.table))
    return statement(f"UPDATE {each.table.name} SET {each.column} = :new WHERE {row} AND {each.column} = :old")  # noqa: S608  # names


async def _replace(database: Database, each: Sealed, changes: Sequence[dict[str, Any]]) -> None:
    async def deed(connection: Connection) -> None:
        await _replacing(each).run_each(connection, changes)

    await database.transaction(deed)
