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
from sqlalchemy import ColumnElement, RowMapping, Table, bindparam, case, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.storage.database import Database
from backend.storage.sealed import EVERY_SEALED, Sealed
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
        shown = [func.substr(each.stored, 1, _HEAD).label(each.column) for each in columns]
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
        walked = 0
        async for page in _pages(database, table, [_unless_current(each, head) for each in columns]):
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


def _unless_current(each: Sealed, head: bytes) -> ColumnElement[Any]:
    """The value, or NULL where there is nothing to do: what is done already need not travel."""
    return case((func.substr(each.stored, 1, len(head)) == head, None), else_=each.stored).label(each.column)


async def _pages(database: Database, table: Table, shown: Sequence[ColumnElement[Any]]) -> AsyncIterator[Sequence[RowMapping]]:
    """Every row by key: its key, what names its sealed values, and `shown`. Nothing is held between two pages."""
    key = list(table.primary_key.columns)
    names = {name for each in EVERY_SEALED if each.table is table for name in each.key} - {column.name for column in key}
    page = select(*key, *(table.c[name] for name in sorted(names)), *shown).order_by(*key).limit(PAGE)
    after: tuple[Any, ...] | None = None
    while True:
        async with database.reading() as connection:
            rows = (await connection.execute(page if after is None else page.where(tuple_(*key) > after))).mappings().all()
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        after = tuple(rows[-1][column.name] for column in key)


def _changes(vault: Vault, each: Sealed, page: Sequence[RowMapping]) -> tuple[list[dict[str, Any]], int]:
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
        changes.append({"old": old, "new": new, **{f"key_{column.name}": row[column.name] for column in each.table.primary_key.columns}})
    return changes, closed


async def _replace(database: Database, each: Sealed, changes: Sequence[dict[str, Any]]) -> None:
    statement = update(each.table).values({each.column: bindparam("new")}).where(each.stored == bindparam("old"))
    for column in each.table.primary_key.columns:
        statement = statement.where(column == bindparam(f"key_{column.name}"))

    async def deed(connection: AsyncConnection) -> None:
        await connection.execute(statement, list(changes))

    await database.transaction(deed)
