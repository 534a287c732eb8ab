"""What operators read: `moa traffic`, `moa statistics`, `moa alerts`.

In: the running system's API, with the operator's token. Out: tables, and what was said of them in words.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from backend.cli import calling
from backend.cli.following import Api
from backend.cli.listing import console, show
from backend.cli.operating import run
from backend.cli.report_tables import Alerts, Statistics, Traffic, alerts_table, categories_table, providers_table, statistics_table
from backend.cli.running import settings_of


def show_traffic(data: Path | None, url: str | None, day: datetime | None) -> None:
    """A day beside the same weekday a week before."""
    asked = {"date": f"{day:%Y-%m-%d}"} if day is not None else {}
    language = settings_of(data).notice_language

    async def look(api: Api) -> None:
        found = await calling.ask(api, Traffic, "GET", "/ops/traffic", params=asked)
        for each in (categories_table(found), providers_table(found)):
            show(each)
        console().print(found.text[language], markup=False, highlight=False)
        if found.losses.reports or found.losses.calls:
            console().print(f"not in these sums: {found.losses.reports:,} reports, {found.losses.calls:,} calls", highlight=False)

    run(data, url, look)


def show_statistics(data: Path | None, url: str | None, week: datetime | None) -> None:
    """The weekly report."""
    asked = {"week": f"{week:%Y-%m-%d}"} if week is not None else {}

    async def look(api: Api) -> None:
        show(statistics_table(await calling.ask(api, Statistics, "GET", "/ops/statistics", params=asked)))

    run(data, url, look)


def show_alerts(data: Path | None, url: str | None, *, only_open: bool) -> None:
    """What is wrong, and what was."""
    asked = {"state": "open"} if only_open else {}

    async def look(api: Api) -> None:
        console().print(alerts_table((await calling.ask(api, Alerts, "GET", "/ops/alerts", params=asked)).alerts))

    run(data, url, look)
