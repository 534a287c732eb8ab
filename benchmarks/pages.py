"""A run as values, and how it is shown: JSON is the record, Markdown and the terminal's table are made from it alone. RULE but for `save`.

Each figure is the median over rounds, with the least and the most of them in brackets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.model import Aim, Column, Plan

RESULTS = Path(__file__).parent / "results"


class Cell(Struct, frozen=True, kw_only=True):
    """One figure of each round, with their median and spread. None: there was nothing to measure."""

    rounds: tuple[float | None, ...]
    median: float | None
    least: float | None
    most: float | None


class Line(Struct, frozen=True):
    variant: str
    cells: tuple[Cell, ...]


class TableOfFigures(Struct, frozen=True, kw_only=True):
    title: str
    about: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


class Verdict(Struct, frozen=True):
    aim: Aim
    unit: str
    measured: float | None
    met: bool


class Page(Struct, frozen=True, kw_only=True):
    """One run of one benchmark. The machine is described without its name and without paths."""

    name: str
    title: str
    about: tuple[str, ...]
    variants: dict[str, str]  # name -> what it is
    tables: tuple[TableOfFigures, ...]
    verdicts: tuple[Verdict, ...]
    plan: Plan
    quick: bool
    machine: dict[str, str]


def save(page: Page, folder: Path) -> tuple[Path, Path]:
    """Writes `<name>.json`, and `<name>.md` from it."""
    folder.mkdir(parents=True, exist_ok=True)
    record, shown = folder / f"{page.name}.json", folder / f"{page.name}.md"
    record.write_bytes(msgspec.json.format(_rounded(page), indent=1) + b"\n")
    shown.write_text(markdown(load(record)), encoding="utf-8")
    return record, shown


def load(record: Path) -> Page:
    """A page from its JSON. Raises `msgspec.ValidationError`."""
    return msgspec.json.decode(record.read_bytes(), type=Page)


def markdown(page: Page) -> str:
    """The page as people read it."""
    parts = [f"# {page.title}", *page.about]
    parts.append("\n".join(f"* **{name}**: {about}" for name, about in page.variants.items()))
    for table in page.tables:
        heads = ["", *(_head(column) for column in table.columns)]
        rows = [[line.variant, *(_shown(cell) for cell in line.cells)] for line in table.lines]
        parts += [f"## {table.title}", *table.about, _grid(heads, rows)]
    if page.verdicts:
        parts += ["## Aims", _grid(["", "aim", "measured", ""], [_verdict(verdict) for verdict in page.verdicts])]
    parts += ["## How it was measured", _plan(page), _grid(["", ""], [[name, value] for name, value in page.machine.items()])]
    return "\n\n".join(parts) + "\n"


def terminal(page: Page) -> str:
    """The tables as text in columns."""
    parts = [page.title]
    for table in page.tables:
        rows = [["", *(_head(column) for column in table.columns)]]
        rows += [[line.variant, *(_shown(cell) for cell in line.cells)] for line in table.lines]
        parts.append(f"{table.title}\n{_aligned(rows)}")
    if page.verdicts:
        parts.append(_aligned([_verdict(verdict) for verdict in page.verdicts]))
    return "\n\n".join(parts)


def _plan(page: Page) -> str:
    plan = page.plan
    arrivals = f"; {plan.rate:g} arrivals a second; seed {plan.seed}" if plan.rate else ""
    quick = " **A quick run: too short to rely on.**" if page.quick else ""
    timed = f"; each {plan.seconds:g} s, after {plan.warm_up:g} s of warm-up that do not count" if plan.seconds else ""
    seeds = "" if plan.seconds else f"; each of a seed of its own, {plan.seed + 1} to {plan.seed + plan.rounds}"  # simulated time
    return (
        f"{plan.rounds} rounds of each variant, interleaved{timed}{arrivals}{seeds}. Each figure is the median over rounds, the least "
        f"and the most in brackets. Percentiles are samples (nearest rank), not interpolated.{quick}"
    )


def _head(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _shown(cell: Cell) -> str:
    if cell.median is None or cell.least is None or cell.most is None:
        return "-"
    spread = "" if cell.least == cell.most else f" [{_number(cell.least)}-{_number(cell.most)}]"
    return _number(cell.median) + spread


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _verdict(verdict: Verdict) -> list[str]:
    measured = "-" if verdict.measured is None else _number(verdict.measured)
    aim, over = verdict.aim, f", over {verdict.aim.over}" if verdict.aim.over else ""
    bounds = [f"{sign} {_number(bound)}" for sign, bound in (("<=", aim.most), (">=", aim.least)) if bound is not None]
    wanted = f"{' and '.join(bounds)} {verdict.unit}".rstrip()
    return [f"{aim.variant}: {aim.column}{over}", wanted, measured, "met" if verdict.met else "**missed**"]


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if not place else text.rjust(width) for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _rounded(page: Page) -> bytes:
    """Microseconds are beyond what is measured here; shorter figures make smaller differences between two runs' files."""
    tables = tuple(
        msgspec.structs.replace(table, lines=tuple(Line(line.variant, tuple(_short(cell) for cell in line.cells)) for line in table.lines))
        for table in page.tables
    )
    verdicts = tuple(msgspec.structs.replace(verdict, measured=_cut(verdict.measured)) for verdict in page.verdicts)
    return msgspec.json.encode(msgspec.structs.replace(page, tables=tables, verdicts=verdicts))


def _short(cell: Cell) -> Cell:
    return Cell(rounds=tuple(_cut(each) for each in cell.rounds), median=_cut(cell.median), least=_cut(cell.least), most=_cut(cell.most))


def _cut(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
