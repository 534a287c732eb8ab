"""Invented figures that depend on nothing but their names and the day: the same person owns the same things in every run.

`Figures("moa", "A1MOABK001", "alice").number("balance", 1, 9)` is one number for ever. What moves (`specs.py`) moves on three days of each
month, the same for all that a person has at one provider. RULE: no clock, no randomness, no state. All money is whole won.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TypeVar

from msgspec import Struct

T = TypeVar("T")


class Figures:
    """Draws under a common name, as they are on one day."""

    __slots__ = ("_day", "_name", "_root")

    def __init__(self, *names: str, root: Figures | None = None, day: date = date.min) -> None:
        self._name, self._root, self._day = "\0".join(names), root or self, day

    def under(self, *names: str) -> Figures:
        """Draws that have nothing to do with ours but the days of change."""
        return Figures(self._name, *names, root=self._root, day=self._day)

    def on(self, day: date) -> Figures:
        """The same on another day."""
        return Figures(self._name, root=self._root, day=day)

    @property
    def changes(self) -> tuple[int, int, int]:
        """The days of each month on which something moves."""
        first = self._root.number("changes", 1, 8)
        return first, first + 10, first + 20

    @property
    def since(self) -> str:
        """DATE since when everything is as it is on this day."""
        return next(Period(self._day - timedelta(days=31), self._day).days(*self.changes))

    def number(self, name: str, least: int, most: int) -> int:
        """A whole number, both ends included."""
        digest = hashlib.blake2b(f"{self._name}\0{name}".encode(), digest_size=8).digest()
        return least + int.from_bytes(digest, "big") % (most - least + 1)

    def pick(self, name: str, choices: Sequence[T]) -> T:
        return choices[self.number(name, 0, len(choices) - 1)]

    def digits(self, name: str, length: int) -> str:
        """A number of exactly so many digits, not beginning with 0."""
        return str(self.number(name, 10 ** (length - 1), 10**length - 1))

    def day(self, name: str, first_year: int, last_year: int) -> str:
        """DATE: YYYYMMDD."""
        return f"{self.number(name, first_year, last_year)}{self.number(name + '.m', 1, 12):02}{self.number(name + '.d', 1, 28):02}"


def money(won: int) -> str:
    """F(18,3) with two decimals."""
    return f"{won}.00"


class Period(Struct, frozen=True):
    """The days that a call asks for, both included."""

    first: date
    last: date

    def months(self) -> Iterator[str]:
        """YYYYMM, the newest first."""
        year, month = self.last.year, self.last.month
        while (year, month) >= (self.first.year, self.first.month):
            yield f"{year}{month:02}"
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)

    def days(self, *days: int) -> Iterator[str]:
        """DATE of these days (each 28 at most) of every month, the newest first."""
        for month in self.months():
            for day in sorted(days, reverse=True):
                found = f"{month}{day:02}"
                if f"{self.first:%Y%m%d}" <= found <= f"{self.last:%Y%m%d}":
                    yield found
