"""Runs one benchmark: rounds of all variants interleaved, so that whatever the machine does meanwhile meets each of them.

In: a `Benchmark`, a `Plan`. Out: a `Page` with each round's figures, their median and spread. One round at a time; a round that fails
ends the run, since a table with holes would be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.figures import figure, median
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, S, Samples, Table
from benchmarks.pages import Cell, Line, Page, TableOfFigures, Verdict

Rounds = Mapping[str, Sequence[Samples]]  # by variant


async def run(benchmark: Benchmark[S], plan: Plan, *, machine: Mapping[str, str], quick: bool, tell: Callable[[str], None]) -> Page:
    """The whole benchmark. `tell` hears of the progress."""
    rounds: dict[str, list[Samples]] = {variant.name: [] for variant in benchmark.variants}
    async with benchmark.stage() as stage:
        for number in range(1, plan.rounds + 1):
            for variant in benchmark.variants:
                tell(f"{benchmark.name}: round {number} of {plan.rounds}, {variant.name}")
                rounds[variant.name].append(await variant.run(stage, Round(number=number, variant=variant.name, plan=plan)))
    tables = tuple(filled(table, rounds) for table in benchmark.tables)
    return Page(
        name=benchmark.name,
        title=benchmark.title,
        about=benchmark.about,
        variants={variant.name: variant.about for variant in benchmark.variants},
        tables=tables,
        verdicts=tuple(judged(aim, tables) for aim in benchmark.aims),
        plan=plan,
        quick=quick,
        machine=dict(machine),
    )


def filled(table: Table, rounds: Rounds) -> TableOfFigures:
    """The table with its figures."""
    lines = tuple(
        Line(variant, tuple(_cell(column, samples) for column in table.columns))
        for variant, samples in rounds.items()
        if not table.variants or variant in table.variants
    )
    return TableOfFigures(title=table.title, about=table.about, columns=table.columns, lines=lines)


def judged(aim: Aim, tables: Sequence[TableOfFigures]) -> Verdict:
    """Whether an aim was met. Raises LookupError for an aim that names what is not there."""
    for table in tables:
        if table.title == aim.table:
            place = [column.title for column in table.columns].index(aim.column)
            cells = {line.variant: line.cells[place] for line in table.lines}
            if aim.over is None:
                return _verdict(aim, table.columns[place].unit, cells[aim.variant].median)
            return _verdict(aim, "x", _ratio(cells[aim.variant], cells[aim.over]))
    raise LookupError(aim.table)


def _verdict(aim: Aim, unit: str, measured: float | None) -> Verdict:
    bounds_hold = measured is not None and not (
        (aim.most is not None and measured > aim.most) or (aim.least is not None and measured < aim.least)
    )
    return Verdict(aim, unit, measured, bounds_hold)


def _ratio(cell: Cell, over: Cell) -> float | None:
    """Round by round, since what slows one of them down in a round slows down the other, too."""
    return median([one / other for one, other in zip(cell.rounds, over.rounds, strict=True) if one is not None and other])


def _cell(column: Column, rounds: Sequence[Samples]) -> Cell:
    figures = tuple(figure(samples.get(column.samples, ()), column.statistic) for samples in rounds)
    known = [each for each in figures if each is not None]
    return Cell(rounds=figures, median=median(known), least=min(known, default=None), most=max(known, default=None))
