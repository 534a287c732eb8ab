"""How the weekly batch looks in a terminal. RULE: pure.

In: what the API answers, and the moment. Out: a table with a bar for each provider that has links, those that are at work first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from rich import box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from backend.clock import KST

_BAR = 24  # letters
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
    paused: bool = False
    rehearsal: bool = False

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
    for name in ("institution", "code", "", "due", "done", "failed", "skipped", "unknown", "today", "a minute", "behind", "finish"):
        table.add_column(name, justify="left" if name in {"institution", "code", ""} else "right", no_wrap=True)
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
            f"{one.pace_per_minute:,}" if one.pace_per_minute else "",
            Text(f"{one.lag_seconds:.0f} s", "yellow") if one.lag_seconds >= BEHIND else "",
            _finish(one, now),
        )
    if not table.row_count:
        table.add_row(Text("nothing is due", "dim"))
    return table


def said(before: Batch, after: Batch, org_codes: frozenset[str], took: timedelta) -> str:
    """What came of a rehearsal, in one line."""
    now = [one for one in after.providers if one.org_code in org_codes]
    was = [one for one in before.providers if one.org_code in org_codes]
    done = sum(one.done for one in now) - sum(one.done for one in was)
    rest = ", ".join(f"{sum(getattr(one, name) for one in now):,} {name}" for name in ("failed", "unknown", "due"))
    return f"{done:,} links refreshed in {took.total_seconds():.0f} s; {rest}"


def _finish(one: Progress, now: datetime) -> Text:
    if one.paused:
        return Text("held", "red")
    if one.finish_estimate is None:
        return Text("not this week" if one.due else "", "red")
    at = one.finish_estimate.astimezone(KST)
    days = (at.date() - now.astimezone(KST).date()).days
    return Text(f"{at:%H:%M}" if not days else f"{at:%a %H:%M}")
