"""How the weekly batch looks in a terminal. RULE: pure.

In: what the API answers, and the moment. Out: a table with a bar for each provider that has links, those that are at work first; lines
about a rehearsal. Clock times are Korea's.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

from msgspec import Struct
from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from backend.clock import KST

_BAR = 24  # letters
_COUNTED = ("refreshed", "failed", "unknown", "due")
BEHIND = 1.0  # seconds of lag from which on it is worth a look


class Progress(Struct, frozen=True, kw_only=True):
    """A provider."""

    org_code: str
    name: str = ""
    due: int
    done: int
    failed: int
    skipped: int
    unknown: int
    planned_today: int
    pace_per_minute: int
    finish_estimate: datetime | None = None
    lag_seconds: float
    eased: bool = False
    paused: bool = False
    paused_because: str = ""
    paused_until: datetime | None = None
    rehearsal: bool = False
    rehearsal_links: int = 0

    @property
    def links(self) -> int:
        """All of this week that are known of."""
        return self.due + self.done + self.skipped


class Batch(Struct, frozen=True):
    """All of them."""

    week: str
    paused: bool
    providers: tuple[Progress, ...]


def batch_table(batch: Batch, now: datetime, *, trouble: str = "") -> Table:
    """Providers with links; `trouble`: why what is shown may be old."""
    title = Text(f"Week of Sunday {batch.week}" + (": all of it is held" if batch.paused else ""), "bold red" if batch.paused else "bold")
    table = Table(box=box.SIMPLE, title=title, caption=Text(trouble, "red") if trouble else None)
    rehearsed = any(each.rehearsal for each in batch.providers)
    for name in ("institution", "code", "", "due", "done", "failed", "skipped", "unknown", "today", "a minute", "behind", "finish (KST)"):
        table.add_column(
            name, justify="left" if name in {"institution", "code", ""} else "right", no_wrap=True, min_width=10 if name == "code" else None
        )
    if rehearsed:
        table.add_column("rehearsal", justify="right", no_wrap=True)
    for one in sorted((each for each in batch.providers if each.links), key=lambda each: (not each.pace_per_minute, not each.due)):
        table.add_row(
            Text(one.name),
            one.org_code,
            ProgressBar(total=one.links, completed=one.done + one.skipped, width=_BAR),
            *(f"{number:,}" for number in (one.due, one.done)),
            Text(f"{one.failed:,}", "red" if one.failed else ""),
            f"{one.skipped:,}",
            Text(f"{one.unknown:,}", "yellow" if one.unknown else ""),
            f"{one.planned_today:,}",
            Text(f"{one.pace_per_minute:,}" + " eased" * one.eased, "yellow" if one.eased else "") if one.pace_per_minute else "",
            Text(f"{one.lag_seconds:.0f} s", "yellow") if one.lag_seconds >= BEHIND else "",
            _finish(one, now),
            *([f"{one.rehearsal_links:,}" if one.rehearsal else ""] if rehearsed else []),
        )
    if not table.row_count:
        table.add_row(Text("nothing is due", "dim"))
    return table


def beginning(before: Batch, begins: datetime, ends: Mapping[str, datetime], replaced: int) -> str:
    """What a rehearsal has before it, in one line. `ends`: by provider. `replaced`: providers at which another one was open."""
    due = sum(one.due for one in before.providers if one.org_code in ends)
    whom = next(iter(ends)) if len(ends) == 1 else f"{len(ends)} providers"
    line = f"rehearsal at {whom}, {due:,} links due, from {_clock(begins)} to {_clock(max(ends.values()))} KST"
    where = f" at {replaced} of them" if len(ends) > 1 else ""
    return line + (f"; it takes the place of one that was open{where}" if replaced else "")


def holding(held: Set[str], now_held: Set[str]) -> list[str]:
    """Lines about providers that came to be held, and about those that are not any more."""
    changes = (now_held - held, "held; `moa batch resume` lets it go on"), (held - now_held, "goes on")
    return [f"{org_code}: {words}" for org_codes, words in changes for org_code in sorted(org_codes)]


def said(before: Batch, after: Batch, org_codes: Set[str], took: timedelta) -> list[str]:
    """What came of a rehearsal: a line for each provider with links, and one for all."""
    was = {one.org_code: one for one in before.providers}
    each = [_came(one, was.get(one.org_code)) for one in after.providers if one.org_code in org_codes]
    lines = [f"{code} {name}: {_counts(counts)}" for code, name, counts in each if any(counts.values())]
    total = {name: sum(counts[name] for _, _, counts in each) for name in _COUNTED}
    return [*lines, f"{_counts(total)}; {took.total_seconds():.0f} s"]


def _came(one: Progress, was: Progress | None) -> tuple[str, str, dict[str, int]]:
    done = one.done - (was.done if was else 0)
    return one.org_code, one.name, dict(zip(_COUNTED, (done, one.failed, one.unknown, one.due), strict=True))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in _COUNTED)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(KST):%H:%M:%S}"


_HELD = {"out_of_window": "out of window", "provider_busy": "asked to wait"}


def _finish(one: Progress, now: datetime) -> Text:
    if one.paused:
        until = f" until {one.paused_until.astimezone(KST):%a %H:%M}" if one.paused_until else ""
        return Text(_HELD.get(one.paused_because, "held") + until, "red")
    if one.finish_estimate is None:
        return Text("not this week" if one.due else "", "red")
    at = one.finish_estimate.astimezone(KST)
    days = (at.date() - now.astimezone(KST).date()).days
    return Text(f"{at:%H:%M}" if not days else f"{at:%a %H:%M}")
