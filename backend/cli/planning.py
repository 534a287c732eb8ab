"""`moa plan`: a week of the batch before there is one. Nothing is called, read from a database, or changed.

In: how many users, perhaps how many came on which day, the provider directory. Out: tables, reasons, a picture; `Infeasible` when not
everything can be done, after what can has been shown.
"""

from __future__ import annotations

import errno
import os
from datetime import date, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import BadParameter

from backend.batch.calendar import DAYS_OF_A_WEEK, Mark, in_korea, overrides, sunday_of
from backend.batch.closures import closures_of
from backend.batch.picture import Bar, Panel, picture, short
from backend.batch.plan import Plan
from backend.batch.rehearsal import Assumed, Pile, Rehearsal, Visitors, rehearse
from backend.batch.words import because, missing
from backend.cli.listing import console, show
from backend.cli.running import settings_of
from backend.cli.visitors import read_visitors
from backend.errors import MoaError
from backend.providers.contract import Provider
from backend.providers.directory import directory_of

_BAR = 32  # letters
_SHORT_MARKS = {Mark.PAYDAY: "payday", Mark.HOLIDAY: "holiday", Mark.MONTH_START: "first", Mark.MONTH_END: "last"}


class Infeasible(MoaError):
    """Not everything can be done in the week. The message is one plain line."""


def show_plan(
    data: Path | None, *, users: int, visitors: Path | None, out: Path | None, week: date | None, said: list[str], now: datetime
) -> None:
    """Prints the week in which `week` lies; None: the one that begins next Sunday. Raises `Infeasible`, `BadParameter`."""
    on = week or date.fromordinal(sunday_of(in_korea(now)).toordinal() + DAYS_OF_A_WEEK)
    sunday = sunday_of(on)
    try:
        closures = closures_of(range(sunday.year - 1, sunday.year + 2)).but(overrides(said))
    except ValueError as exc:
        raise BadParameter(str(exc), param_hint="--day") from None
    if out is not None:
        _check_place(out)
    came = read_visitors(visitors, sunday) if visitors is not None else Visitors()
    providers = directory_of(settings_of(data)).providers
    week_of_all = rehearse(providers, users=users, week=on, closures=closures, visitors=came, assumed=Assumed())
    _show(week_of_all, providers, users)
    if out is not None:
        out.write_text(drawing(week_of_all), "utf-8")
        console().print(f"picture: {out}", highlight=False, soft_wrap=True)
    _alarm(week_of_all.plans)


def _check_place(out: Path) -> None:
    """Before anything is shown. Raises `OSError` where no picture can be written."""
    folder = out.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(folder))
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, "A folder has this name", str(out))
    if not os.access(out if out.exists() else folder, os.W_OK):
        raise PermissionError(errno.EACCES, "Not writable", str(out))


def drawing(rehearsal: Rehearsal) -> str:
    """The week by day, and its day of most batch calls by half hour."""
    days = rehearsal.days
    fullest = max(range(len(days)), key=lambda ahead: rehearsal.by_day[ahead].batch)
    week = [Bar(f"{day.on:%a %d}", _told(f"{day.on:%A %Y-%m-%d}", pile), pile) for day, pile in zip(days, rehearsal.by_day, strict=True)]
    half_hours = [
        Bar(f"{number // 2:02d}" if number % 4 == 0 else "", _told(f"{number // 2:02d}:{number % 2 * 30:02d}", pile), pile)
        for number, pile in enumerate(rehearsal.by_half_hour[fullest])
    ]
    return picture(
        [
            Panel(f"Calls by day, week of {days[0].on}: peak to mean {rehearsal.flatness:.3f}", tuple(week)),
            Panel(f"Calls by half hour, {days[fullest].on:%A %Y-%m-%d}, in Korea", tuple(half_hours)),
        ]
    )


def _told(when: str, pile: Pile) -> str:
    return f"{when}: {pile.users:,.0f} calls of users, {pile.batch:,.0f} of the batch"


def _show(week: Rehearsal, providers: tuple[Provider, ...], users: int) -> None:
    to = console()
    to.print(f"Week of Sunday {week.days[0].on}, {users:,} users, each linked to {len(providers)} providers", highlight=False)
    show(_by_provider(week, providers))
    to.print(_by_day(week))
    flatness = (
        f"Peak to mean: {week.flatness:.3f} as planned, {week.equal:.3f} with an equal share each day, {week.at_once:.3f} all at once"
    )
    to.print(flatness, highlight=False, soft_wrap=True)
    _show_errors(week, to)
    largest = max(week.plans, key=lambda made: sum(day.calls for day in made.days))
    to.print(f"\nWhy, at {largest.org_code}:", highlight=False)
    for day in largest.days:
        to.print(f"  {because(largest, day.day.on)}", highlight=False, soft_wrap=True)


def _show_errors(week: Rehearsal, to: Console) -> None:
    if week.errors:
        worst = max(week.errors, key=lambda error: error.absolute)
        said = f"Forecast: weeks before were {worst.absolute:.1%} off, {worst.bias:+.1%} on balance (last {worst.weeks})"
        to.print(said, highlight=False, soft_wrap=True)


def _by_provider(week: Rehearsal, providers: tuple[Provider, ...]) -> Table:
    table = Table("provider", "", box=box.SIMPLE)
    for day in week.days:
        table.add_column(f"{day.on:%a %d}", justify="right")
    for name in ("peak/mean", "gap", "missing"):
        table.add_column(name, justify="right")
    for provider, made in zip(providers, week.plans, strict=True):
        left = str(made.shortfall.at_the_end or made.shortfall.missing) if made.shortfall else "-"
        links = (f"{day.links:,}" for day in made.days)
        row = (provider.org_code, provider.name, *links, f"{made.peak_to_mean:.3f}", str(made.gap), left)
        table.add_row(*(Text(cell) for cell in row))
    return table


def _by_day(week: Rehearsal) -> Table:
    table = Table("day", "", box=box.SIMPLE)
    for name in ("users", "batch", "calls"):
        table.add_column(name, justify="right")
    table.add_column("users and batch")
    highest = max(pile.calls for pile in week.by_day) or 1.0
    for day, pile in zip(week.days, week.by_day, strict=True):
        marks = ", ".join(word for mark, word in _SHORT_MARKS.items() if mark in day.marks)
        users = round(_BAR * pile.users / highest)
        bar = Text("█" * users, "blue").append("░" * (round(_BAR * pile.calls / highest) - users), "yellow")
        table.add_row(f"{day.on:%a %Y-%m-%d}", marks, short(pile.users), short(pile.batch), short(pile.calls), bar)
    return table


def _alarm(plans: tuple[Plan, ...]) -> None:
    lines = [line for line in map(missing, plans) if line is not None]
    if lines:
        raise Infeasible(lines[0] + (f" (and {len(lines) - 1} more providers)" if len(lines) > 1 else ""))
