"""What a benchmark is: frozen descriptions, and one async function per variant. RULE but for those functions.

A variant runs one round on the stage and returns samples by name; columns say which statistic of which samples a table shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

Samples = Mapping[str, Sequence[float]]
S = TypeVar("S")


class Statistic(StrEnum):
    """What becomes of one round's samples."""

    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    MEAN = "mean"
    COUNT = "count"


class Column(Struct, frozen=True):
    """One figure of each variant."""

    title: str
    samples: str  # their name in what a round returns
    statistic: Statistic
    unit: str = "ms"


class Table(Struct, frozen=True, kw_only=True):
    """Columns side by side, one line per variant."""

    title: str
    columns: tuple[Column, ...]
    about: tuple[str, ...] = ()  # paragraphs: what the columns mean
    variants: tuple[str, ...] = ()  # empty: all


class Aim(Struct, frozen=True, kw_only=True):
    """A promise: the median over rounds of this column is at most `most`, and at least `least`; or so many times that of `over`."""

    variant: str
    table: str
    column: str
    most: float | None = None
    least: float | None = None
    over: str | None = None  # a variant: what is judged is the median of this column's ratio to that variant's in the same round


class Plan(Struct, frozen=True, kw_only=True):
    """How much of it."""

    rounds: int
    seconds: float  # of each round that count
    warm_up: float  # seconds at the start of each round that do not
    rate: float  # arrivals a second; 0: none, a closed loop
    seed: int = 20240926


class Round(Struct, frozen=True, kw_only=True):
    """One round of one variant. Rounds of one number have one seed: every variant meets the same arrivals."""

    number: int  # from 1
    variant: str
    plan: Plan

    @property
    def seed(self) -> int:
        return self.plan.seed + self.number


@dataclass(frozen=True, kw_only=True)
class Variant(Generic[S]):
    """One way to do it."""

    name: str
    about: str
    run: Callable[[S, Round], Awaitable[Samples]]


@dataclass(frozen=True, kw_only=True)
class Benchmark(Generic[S]):
    """One page. `stage` starts what all variants run on, once; its value goes to each of them."""

    name: str  # of the page's files
    title: str
    about: tuple[str, ...]  # paragraphs: the question, the method, every definition
    stage: Callable[[], AbstractAsyncContextManager[S]]
    variants: tuple[Variant[S], ...]
    tables: tuple[Table, ...]
    plan: Plan
    quick: Plan
    aims: tuple[Aim, ...] = ()
