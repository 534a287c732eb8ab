"""`moa batch`: how the weekly batch goes, held and let go on, and rehearsed.

In: the running system's API, as an operator. Out: a table, live in a terminal; one plain line for what was said. A rehearsal is followed to
its end, also in a pipe: a line when it begins, when a provider is held, and for each provider at the end. `StillDue` when its time was too
short.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from msgspec import Struct
from rich.live import Live

from backend.cli import calling
from backend.cli.batch_board import Batch, batch_table, beginning, holding, said
from backend.cli.following import Api
from backend.cli.listing import console, show
from backend.cli.operating import EVERY, run
from backend.clock import SystemClock
from backend.errors import MoaError

AFTER = timedelta(seconds=5)  # a window's end: what began in it ends
QUIET = 3  # looks in a row that show nothing new, and nothing is left to do: it is over

_SPAN = re.compile(r"(\d{1,6})([smh]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class StillDue(MoaError):
    """Not everything was refreshed. The message is one plain line."""


class Held(Struct, frozen=True):
    """Whether it is held."""

    paused: bool
    org_code: str | None = None


class Closes(Struct, frozen=True):
    """When a provider's window closes."""

    org_code: str
    ends: datetime
    replaced: bool = False


class Opened(Struct, frozen=True):
    """A rehearsal."""

    begins: datetime
    providers: tuple[Closes, ...]


def show_batch(data: Path | None, url: str | None) -> None:
    """Every provider with links; in a terminal again and again, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        run(data, url, _watch if console().is_terminal else _look)


def hold(data: Path | None, url: str | None, what: str, org_code: str | None, reason: str) -> None:
    """`what`: pause or resume."""

    async def post(api: Api) -> None:
        held = await calling.ask(api, Held, "POST", f"/ops/batch/{what}", json=_named(org_code) | {"reason": reason})
        print(f"{held.org_code or 'all'}: {'held' if held.paused else 'goes on'}")

    run(data, url, post)


def rehearse(data: Path | None, url: str | None, org_code: str | None, within: str) -> None:
    """Has all that is due refreshed within so long, and waits for it. Raises `StillDue`, `Refusal`."""
    asked = _named(org_code) | {"within_seconds": span(within)}

    async def follow(api: Api) -> None:
        before = await _batch(api)
        opened = await calling.ask(api, Opened, "POST", "/ops/batch/run", json=asked)
        ends = {one.org_code: one.ends for one in opened.providers}
        whom = ends.keys()
        _tell(beginning(before, opened.begins, ends, sum(one.replaced for one in opened.providers)))
        after = await _followed(api, opened)
        _tell(*said(before, after, whom, max(SystemClock().now() - opened.begins, timedelta())))
        left = sum(one.due for one in after.providers if one.org_code in whom)
        if left:
            raise StillDue(f"{left:,} links are still due; `moa batch` shows where, the next window goes on with them")

    run(data, url, follow)


def span(text: str) -> int:
    """Seconds of `90s`, `3m`, `1h` or `180`. Raises `typer.BadParameter`."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter("90s, 3m or 1h", param_hint="--within")
    return int(found[1]) * _SECONDS[found[2]]


def _tell(*lines: str) -> None:
    """At once, also into a pipe."""
    for line in lines:
        print(line, flush=True)


def _named(org_code: str | None) -> dict[str, Any]:
    return {} if org_code is None else {"org_code": org_code}


async def _batch(api: Api) -> Batch:
    return await calling.ask(api, Batch, "GET", "/ops/batch")


async def _look(api: Api) -> None:
    show(batch_table(await _batch(api), SystemClock().now()))


async def _watch(api: Api) -> None:
    batch = await _batch(api)
    with Live(batch_table(batch, SystemClock().now()), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(EVERY)
            batch = await _again(api, batch, lambda shown: live.update(shown, refresh=True))


async def _again(api: Api, batch: Batch, show: Callable[[Any], None]) -> Batch:
    """What is so now; while nothing answers, what was."""
    trouble = ""
    try:
        batch = await _batch(api)
    except MoaError as exc:
        trouble = str(exc)
    show(batch_table(batch, SystemClock().now(), trouble=trouble))
    return batch


async def _followed(api: Api, opened: Opened) -> Batch:
    """To the end of the last window, or until nothing is left to do."""
    whom, ends = {one.org_code for one in opened.providers}, max(one.ends for one in opened.providers) + AFTER
    batch, quiet, seen, held = await _batch(api), 0, None, frozenset[str]()
    to = console()
    with Live(console=to, auto_refresh=False) if to.is_terminal else nullcontext() as live:
        while SystemClock().now() < ends and quiet < QUIET:
            await asyncio.sleep(EVERY)
            batch = await _again(api, batch, lambda shown: live.update(shown, refresh=True) if live else None)
            these = [one for one in batch.providers if one.org_code in whom]
            before, held = held, frozenset(one.org_code for one in these if one.paused)
            _tell(*holding(before, held))
            idle = SystemClock().now() > opened.begins and not any(one.due for one in these)
            quiet = quiet + 1 if idle and these == seen else 0
            seen = these
    return batch
