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
    cancelled: int = 0
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
    probes: int = 0
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
    scheduled: bool
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
    probes: Sums
    failures_by_reason: tuple[Reason, ...]
    consents: Consents


class Statistics(Struct, frozen=True):
    """`GET /ops/statistics`."""

    week: str
    ends: str
    complete: bool
    providers: tuple[Reported, ...]
    consents_missing: tuple[str, ...] = ()


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
    _numbers(table, _until(traffic), "a week before", "ratio", "day so far")
    for each in traffic.categories:
        row = INDUSTRIES[each.industry], f"{each.calls:,}", f"{each.before:,}", _ratio(each.ratio, each.mark), f"{each.so_far:,}"
        table.add_row(*row, style=_STYLES.get(each.mark or "", ""))
    return table


def providers_table(traffic: Traffic) -> Table:
    """Those that were called on either day. First what is compared, in whole hours; then the day so far, the hour that runs included."""
    table = Table("provider", "code", "category", box=box.SIMPLE)
    until = _until(traffic).replace(" ", "\n")
    _numbers(table, until, "a week\nbefore", "ratio", f"users'\n{until}", f"scheduled\n{until}")
    _numbers(table, *(f"{name}\nso far" for name in ("day", "failed", "cancelled", "mean ms", "deviation", "probes")))
    for each in traffic.providers:
        table.add_row(
            Text(each.name),
            each.org_code,
            each.industry or "",
            f"{each.calls:,}",
            f"{each.before:,}",
            _ratio(each.ratio, each.mark),
            f"{each.by_user.calls:,}",
            f"{each.scheduled.calls:,}",
            f"{each.sums.calls:,}",
            f"{each.sums.failures:,}",
            f"{each.sums.cancelled:,}",
            _ms(each.sums.mean_ms),
            _ms(each.sums.deviation_ms),
            f"{each.probes:,}",
            style=_STYLES.get(each.mark or "", ""),
        )
    return table


def statistics_table(found: Statistics) -> Table:
    """A row of an institution for each that asked: users, the weekly batch, and probes, which nobody asked for. calls = the next three."""
    missing = found.consents_missing
    state = f", consents without {missing[0]} to {missing[-1]}" if missing else "" if found.complete else ", not over yet"
    table = Table("provider", "code", "asked", title=f"{found.week} to {found.ends}{state}", title_justify="left", box=box.SIMPLE)
    _numbers(table, "calls", "successes", "failures", "cancelled", "mean ms", "deviation", "consents", "new", "revoked")
    table.add_column("failed by")
    for each in found.providers:
        consents = f"{each.consents.held:,}", f"{each.consents.new:,}", f"{each.consents.revoked:,}"
        table.add_row(Text(each.name), each.org_code, "users", *_sums(each.by_user), *consents, _reasons(each, scheduled=False))
        if each.scheduled.calls:
            table.add_row(Text(each.name), each.org_code, "scheduled", *_sums(each.scheduled), "", "", "", _reasons(each, scheduled=True))
        if each.probes.calls:
            table.add_row(Text(each.name), each.org_code, "probes", *_sums(each.probes))
    return table


def _until(traffic: Traffic) -> str:
    return f"until {traffic.until.astimezone(KST):%H:%M}"


def _sums(sums: Sums) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (sums.calls, sums.successes, sums.failures, sums.cancelled))
    return *counts, _ms(sums.mean_ms), _ms(sums.deviation_ms)


def _reasons(each: Reported, *, scheduled: bool) -> Text:
    return Text(", ".join(f"{found.reason}: {found.calls:,}" for found in each.failures_by_reason if found.scheduled is scheduled))


def alerts_table(alerts: Iterable[Alert]) -> Table:
    """Those that are open first."""
    table = Table("since (KST)", "until (KST)", "kind", box=box.SIMPLE)
    for name in ("what", "facts"):
        table.add_column(name, overflow="fold")  # a key that is cut could be anybody's
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
    return f"{moment.astimezone(KST):%m-%d %H:%M:%S}"
