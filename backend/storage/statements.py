"""SQL as values: a statement with named parameters is written once, as a constant, and run bare by asyncpg. RULE but for running.

In: SQL with `:names`. Out: rows of asyncpg, which are read by column name. PostgreSQL infers the type of each parameter from its place;
where it cannot, the SQL says it (`CAST(:now AS timestamptz)`). Prepared statements are kept by each connection, and planned without
their values: PostgreSQL then takes a range with one end for a third of the table, and reads it whole; one with two ends for a two
hundredth. So whoever looks at an end of a table names the other end, too (`> '-infinity'`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
Row: TypeAlias = asyncpg.Record
Values = Mapping[str, Any]

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")  # not `::type`
_NONE: Values = {}


class Statement:
    """One SQL statement. Every method takes its values by name and raises what asyncpg raises (`database.translated` reads it)."""

    __slots__ = ("_names", "sql")

    def __init__(self, sql: str, names: tuple[str, ...]) -> None:
        """`sql` with `$1`, `$2` …; `names` in their order."""
        self.sql = sql
        self._names = names

    async def rows(self, connection: Connection, values: Values = _NONE) -> list[Row]:
        """Every row."""
        return await connection.fetch(self.sql, *self._in_order(values))

    async def row(self, connection: Connection, values: Values = _NONE) -> Row | None:
        """The first row; None: there is none."""
        return await connection.fetchrow(self.sql, *self._in_order(values))

    async def value(self, connection: Connection, values: Values = _NONE, *, seconds: float | None = None) -> Any:
        """The first column of the first row; None: there is no row. `seconds` of a time limit of its own."""
        return await connection.fetchval(self.sql, *self._in_order(values), timeout=seconds)

    async def column(self, connection: Connection, values: Values = _NONE) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in await self.rows(connection, values)]

    async def run(self, connection: Connection, values: Values = _NONE, *, seconds: float | None = None) -> int:
        """How many rows it changed. `seconds` of a time limit of its own."""
        status = await connection.execute(self.sql, *self._in_order(values), timeout=seconds)
        count = status.rpartition(" ")[2]  # "UPDATE 1", "INSERT 0 1", "SET"
        return int(count) if count.isdigit() else 0

    async def run_each(self, connection: Connection, many: Sequence[Values]) -> None:
        """Once for each of `many`, in one round trip."""
        await connection.executemany(self.sql, [self._in_order(values) for values in many])

    def _in_order(self, values: Values) -> list[Any]:
        return [values[name] for name in self._names]


def json_row(row: Values) -> Values:
    """A row as `jsonb_to_recordset` takes it, which knows no bytes: they go as PostgreSQL writes them."""
    return {name: value if not isinstance(value, bytes) else f"\\x{value.hex()}" for name, value in row.items()}


def statement(sql: str) -> Statement:
    """A statement from SQL with `:names`; a name may come more than once."""
    names = tuple(dict.fromkeys(_NAME.findall(sql)))
    places = {name: f"${place}" for place, name in enumerate(names, 1)}
    return Statement(_NAME.sub(lambda found: places[found[1]], sql), names)
