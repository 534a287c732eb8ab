"""Reads how many distinct users came on which day, from a file that somebody exported.

In: CSV with a day and a number on each line (a first line without a number is a heading), or seven bare numbers for the week that is
planned, Sunday first; or JSON, an object from day to number. Days are `2026-11-22` or `20261122`. Out: `Visitors`, or an
`UnreadableVisitors` that names the line.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec

from backend.batch.calendar import DAYS_OF_A_WEEK, days_from
from backend.batch.rehearsal import Visitors
from backend.errors import MoaError

_MOST = 4_000_000  # bytes
_Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000_000)]
_BETWEEN = re.compile(r"[,;\t ]+")


class UnreadableVisitors(MoaError):
    """The file says nothing that can be used. The message is one plain line."""


def read_visitors(file: Path, sunday: date) -> Visitors:
    """`sunday`: of the week that is planned. Raises `UnreadableVisitors`, OSError."""
    if file.stat().st_size > _MOST:
        raise UnreadableVisitors(f"{file}: is larger than {_MOST // 1_000_000} MB")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableVisitors(f"{file}: is no text in UTF-8") from None
    found = _of_json(file, text) if text.lstrip().startswith("{") else _of_lines(file, text, sunday)
    if not found:
        raise UnreadableVisitors(f"{file}: has no day")
    return Visitors(tuple(sorted(found.items())))


def _of_json(file: Path, text: str) -> dict[date, int]:
    try:
        return {date.fromisoformat(on): users for on, users in msgspec.json.decode(text, type=dict[str, _Count]).items()}
    except (msgspec.MsgspecError, ValueError):
        raise UnreadableVisitors(f'{file}: {{"2026-11-22": 120000, ...}} is needed') from None


def _of_lines(file: Path, text: str, sunday: date) -> dict[date, int]:
    rows = [(number, _BETWEEN.split(line.strip())) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if rows and not any(character.isdigit() for cell in rows[0][1] for character in cell):
        del rows[0]
    if len(rows) == DAYS_OF_A_WEEK and all(len(cells) == 1 for _, cells in rows):
        return {on: _users(file, number, cells[0]) for on, (number, cells) in zip(days_from(sunday, DAYS_OF_A_WEEK), rows, strict=True)}
    return {_day(file, number, cells): _users(file, number, cells[1]) for number, cells in rows}


def _day(file: Path, number: int, cells: list[str]) -> date:
    try:
        if len(cells) < 2:
            raise ValueError
        return date.fromisoformat(cells[0].strip('"'))
    except ValueError:
        raise UnreadableVisitors(f"{file}: line {number}: `2026-11-22,120000` is needed") from None


def _users(file: Path, number: int, cell: str) -> int:
    try:
        return msgspec.convert(cell.strip('"'), _Count, strict=False)
    except msgspec.ValidationError:
        raise UnreadableVisitors(f"{file}: line {number}: a number of users is needed, 0 to 10,000,000,000") from None
