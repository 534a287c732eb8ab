"""How circuits, operators' actions and providers look in a terminal. RULE: pure.

In: rows as the API answers, and the moment. Out: rich tables. What is not closed stands first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from rich import box
from rich.table import Table
from rich.text import Text

from backend.cli.showing import INDUSTRIES

_STATES = {"open": "red", "half_open": "yellow", "closed": "green"}
_STATUSES = {"available": "green", "resting": "red", "maintenance": "yellow"}
_LEAST = {"code": 10, "scope": 5, "state": 9}  # cells: what a narrow terminal shows before anything else
_URGENCY = {"open": 0, "half_open": 1}


class Row(Struct, frozen=True, kw_only=True):
    """A circuit."""

    org_code: str
    name: str
    scope: str
    state: str
    mode: str
    epoch: int
    reason: str
    since: datetime
    retry_at: datetime | None = None
    failure_rate: float | None = None
    calls: int | None = None
    left_out: tuple[str, ...] = ()


def breakers_table(rows: Iterable[Row], now: datetime, *, trouble: str = "") -> Table:
    """Every circuit; `trouble`: why what is shown may be old."""
    table = Table(box=box.SIMPLE, caption=Text(trouble, "red") if trouble else None)
    for name in ("institution", "code", "scope", "state", "mode", "since", "probe", "failures", "calls", "epoch", "reason"):
        right = name in {"since", "probe", "failures", "calls", "epoch"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "reason", min_width=_LEAST.get(name))
    for row in sorted(rows, key=lambda row: (_URGENCY.get(row.state, 2), row.mode == "auto")):
        table.add_row(
            Text(row.name),
            row.org_code,
            row.scope,
            Text(row.state, _STATES.get(row.state, "")),
            Text(row.mode, "dim" if row.mode == "auto" else "bold magenta"),
            _long(now, row.since),
            "" if row.retry_at is None else "now" if row.retry_at <= now else f"in {_long(row.retry_at, now)}",
            "" if row.failure_rate is None else f"{row.failure_rate:.0f} %",
            "" if row.calls is None else f"{row.calls:,}",
            str(row.epoch),
            Text(_why(row)),  # Text: brackets are no markup
        )
    return table


def history_table(actions: Sequence[tuple[str, ...]]) -> Table:
    """When in Korea, who, what, where, why."""
    table = Table("when (KST)", "who", "action", box=box.SIMPLE)
    for name in ("institution", "reason"):
        table.add_column(name, overflow="fold")
    for action in actions:
        table.add_row(*(Text(cell) for cell in action))
    return table


def providers_table(providers: Sequence[tuple[str, str, str, str]]) -> Table:
    """Code, name, industry, status."""
    table = Table(box=box.SIMPLE)
    for name in ("code", "name", "industry", "status"):
        table.add_column(name, min_width=_LEAST.get(name))
    for org_code, name, industry, status in providers:
        table.add_row(org_code, Text(name), INDUSTRIES.get(industry, industry), Text(status, _STATUSES.get(status, "")))
    return table


def _why(row: Row) -> str:
    """The reason, and which nodes are bad: machine and process."""
    return f"{row.reason} (left out: {', '.join(row.left_out)})" if row.left_out else row.reason


def _long(later: datetime, earlier: datetime) -> str:
    seconds = max(0, int((later - earlier).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
