"""How traffic, statistics and alerts look in a terminal. RULE: pure.

In: what the API answers. Out: rich tables. What is worth a look has its mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct
from rich import box
from rich.table import Table
from rich.text import Text

from backend.cli.showing import INDUSTRIES
from backend.clock import KST

MARKS = {"flame": "🔥", "drop": "📉"}
_STYLES = {"flame": "bold red", "drop": "yellow"}


class Figure(Struct, frozen=True):
    """Calls of both days."""

    calls: int
    before: int
    ratio: float | None = None


class Sums(Struct, frozen=True):
    """What became of calls."""

    calls: int
    successes: int
    failures: int
    mean_ms: float | None = None
    deviation_ms: float | None = None


class Category(Struct, frozen=True):
    industry: str
    calls: int
    before: int
    so_far: int
    ratio: float | None = None
    mark: str | None = None


class OfProvider(Struct, frozen=True):
    org_code: str
    name: str
    calls: int
    before: int
    by_user: Figure
    scheduled: Figure
    sums: Sums
    industry: str | None = None
    ratio: float | None = None
    mark: str | None = None


class Losses(Struct, frozen=True):
    reports: int
    calls: int


class Traffic(Struct, frozen=True):
    """`GET /ops/traffic`."""

    date: str
    compared_with: str
    until: datetime
    categories: tuple[Category, ...]
    providers: tuple[OfProvider, ...]
    text: dict[str, str]
    losses: Losses


class Reason(Struct, frozen=True):
    reason: str
    calls: int


class Consents(Struct, frozen=True):
    new: int
    revoked: int
    held: int


class Reported(Struct, frozen=True):
    """One institution in the weekly report."""

    org_code: str
    name: str
    by_user: Sums
    scheduled: Sums
    failures_by_reason: tuple[Reason, ...]
    consents: Consents


class Statistics(Struct, frozen=True):
    """`GET /ops/statistics`."""

    week: str
    ends: str
    complete: bool
    providers: tuple[Reported, ...]


class Alert(Struct, frozen=True):
    key: str
    kind: str
    facts: dict[str, Any]
    opened_at: datetime
    closed_at: datetime | None = None


class Alerts(Struct, frozen=True):
    """`GET /ops/alerts`."""

    alerts: tuple[Alert, ...]


def categories_table(traffic: Traffic) -> Table:
    """All seven."""
    table = Table("category", title=f"{traffic.date} beside {traffic.compared_with}", title_justify="left", box=box.SIMPLE)
    _numbers(table, "so far", f"until {traffic.until.astimezone(KST):%H:%M}", "a week before", "ratio")
    for each in traffic.categories:
        row = INDUSTRIES[each.industry], f"{each.so_far:,}", f"{each.calls:,}", f"{each.before:,}", _ratio(each.ratio, each.mark)
        table.add_row(*row, style=_STYLES.get(each.mark or "", ""))
    return table


def providers_table(traffic: Traffic) -> Table:
    """Those that were called on either day."""
    table = Table("provider", "code", "category", box=box.SIMPLE)
    _numbers(
        table,
        "so far",
        f"until {traffic.until.astimezone(KST):%H:%M}",
        "a week before",
        "ratio",
        "users'",
        "scheduled",
        "failed",
        "mean ms",
        "deviation",
    )
    for each in traffic.providers:
        table.add_row(
            Text(each.name),
            each.org_code,
            each.industry or "",
            f"{each.sums.calls:,}",
            f"{each.calls:,}",
            f"{each.before:,}",
            _ratio(each.ratio, each.mark),
            f"{each.by_user.calls:,}",
            f"{each.scheduled.calls:,}",
            f"{each.sums.failures:,}",
            _ms(each.sums.mean_ms),
            _ms(each.sums.deviation_ms),
            style=_STYLES.get(each.mark or "", ""),
        )
    return table


def statistics_table(found: Statistics) -> Table:
    """Two rows of an institution that both asked: users' calls, and scheduled ones."""
    state = "" if found.complete else ", not over yet"
    table = Table("provider", "code", "asked", title=f"{found.week} to {found.ends}{state}", title_justify="left", box=box.SIMPLE)
    _numbers(table, "calls", "successes", "failures", "mean ms", "deviation", "consents", "new", "revoked")
    table.add_column("failed by")
    for each in found.providers:
        consents = f"{each.consents.held:,}", f"{each.consents.new:,}", f"{each.consents.revoked:,}"
        reasons = ", ".join(f"{reason.reason}: {reason.calls:,}" for reason in each.failures_by_reason)
        for asker, sums in (("users", each.by_user), ("scheduled", each.scheduled)):
            figures = f"{sums.calls:,}", f"{sums.successes:,}", f"{sums.failures:,}", _ms(sums.mean_ms), _ms(sums.deviation_ms)
            last = (*consents, Text(reasons)) if asker == "users" else ()
            if sums.calls or asker == "users":
                table.add_row(Text(each.name), each.org_code, asker, *figures, *last)
    return table


def alerts_table(alerts: Iterable[Alert]) -> Table:
    """Those that are open first."""
    table = Table("since", "until", "kind", "what", "facts", box=box.SIMPLE)
    for each in alerts:
        facts = ", ".join(f"{name}: {value}" for name, value in each.facts.items())
        until = _moment(each.closed_at) if each.closed_at else "now"
        style = "" if each.closed_at else "bold red"
        table.add_row(_moment(each.opened_at), until, each.kind, Text(each.key), Text(facts), style=style)
    return table


def _numbers(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def _ratio(ratio: float | None, mark: str | None) -> str:
    return " ".join(([f"{ratio:.2f}"] if ratio is not None else []) + ([MARKS.get(mark, mark)] if mark else []))


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%m-%d %H:%M:%S}"
