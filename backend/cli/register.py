"""`moa register`: a client in the terminal. It registers a person, follows the feed, and shows each result as it arrives.

In: who, which providers, by which transport. Out: live progress in a terminal, plain lines elsewhere, then the assets and the timings.
It speaks the public API only, with a development token. A provider that failed is one plain line and exit code 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import typer
from rich.live import Live
from rich.spinner import Spinner

from backend.cli import calling
from backend.cli.calling import ProviderRow
from backend.cli.following import TRANSPORTS, Api, Connection, NoAnswer, follow
from backend.cli.listing import console
from backend.cli.progress import Event, Position, Progress, begun, heard, reread
from backend.cli.running import settings_of
from backend.cli.showing import accepted_line, assets_table, live, plain_line, timings
from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.errors import MoaError

SHOWN = 10  # providers, when none are named
EVERYBODY = "all"
MARGIN = timedelta(seconds=30)


class NotRegistered(MoaError):
    """The registration ended, but not with every provider. The message is one plain line."""


def register(*, user: str, providers: str | None, url: str | None, transport: str, data: Path | None) -> None:
    """Runs until the registration is over. Raises `MoaError` with one plain line, `typer.BadParameter` for wrong usage."""
    connection = TRANSPORTS.get(transport)
    if connection is None:
        raise typer.BadParameter(f"choose {', '.join(TRANSPORTS)}", param_hint="--transport")
    named = None if providers is None else [code.strip() for code in providers.split(",") if code.strip()]
    if named == []:
        raise typer.BadParameter("name at least one provider", param_hint="--providers")
    settings = settings_of(data)
    longest = timedelta(seconds=settings.signature_ttl + settings.provider_deadline) + MARGIN
    token = development_token(settings, user=user, ops=False, ttl=2 * int(longest.total_seconds()), now=SystemClock().now())
    progress = asyncio.run(_within(longest, (url or settings.api_url).rstrip("/"), token, named, connection))
    screen = console()
    if progress.assets:
        screen.print(assets_table(progress))
    screen.print(timings(progress))
    _judge(progress)


async def _within(longest: timedelta, url: str, token: str, named: list[str] | None, connection: Connection) -> Progress:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("http://… or https://…", param_hint="--url")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with asyncio.timeout(longest.total_seconds()), httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
            return await _registered(Api(url, token, http), named, connection)
    except TimeoutError as exc:
        raise NoAnswer(f"not over after {longest.total_seconds():.0f} s; it goes on without us") from exc


async def _registered(api: Api, named: list[str] | None, connection: Connection) -> Progress:
    rows = await calling.providers(api)
    chosen = [row.org_code for row in rows] if named == [EVERYBODY] else named or some_of_each(rows)
    asked = time.monotonic()
    accepted = await calling.begin(api, chosen)
    following = Following(api, begun(accepted, asked=asked, accepted=time.monotonic()))
    await following.run(connection, accepted.position)
    return following.progress


def some_of_each(rows: tuple[ProviderRow, ...]) -> list[str]:
    """Up to ten: the first of each industry, then the second of each, and so on."""
    turns: dict[str, int] = {}
    ranked = []
    for row in rows:
        turns[row.industry] = turns.get(row.industry, 0) + 1
        ranked.append((turns[row.industry], row))
    return [row.org_code for _, row in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]


class Following:
    """One registration on its way, on the screen."""

    def __init__(self, api: Api, progress: Progress) -> None:
        self.progress = progress
        self._api = api
        self._spinner = Spinner("dots", style="cyan")
        self._screen = console()

    async def run(self, connection: Connection, since: Position) -> None:
        """Returns when the registration is over."""
        with self._shown() as say:
            say(accepted_line(self.progress))
            async with aclosing(follow(connection, self._api, since, self._reread)) as events:
                async for event in events:
                    now = time.monotonic()
                    self.progress = heard(self.progress, event, now)
                    self._tell(say, event, now)
                    if self.progress.over is not None:
                        return

    async def _reread(self) -> Position | None:
        """The registration is read before the assets, so what follows its position completes both."""
        snapshot = await calling.snapshot(self._api, self.progress.id)
        self.progress = reread(self.progress, snapshot, await calling.assets(self._api), time.monotonic())
        return None if self.progress.over is not None else snapshot.position

    def _tell(self, say: Callable[[str], object], event: Event, now: float) -> None:
        line = plain_line(self.progress, event, now)
        if line is not None:
            say(line)

    @contextmanager
    def _shown(self) -> Iterator[Callable[[str], object]]:
        """A live picture in a terminal; elsewhere lines as they come."""
        if self._screen.is_terminal:
            with Live(get_renderable=lambda: live(self.progress, self._spinner, time.monotonic()), console=self._screen):
                yield lambda _: None
        else:
            yield lambda line: print(line, flush=True)


def _judge(progress: Progress) -> None:
    """A deferred provider is no failure: its assets come by themselves. Raises `NotRegistered` for anything that will not come."""
    failed = [row for row in progress.rows.values() if row.status == "failed"]
    if failed:
        reasons = ", ".join(f"{row.name} ({row.error.code})" if row.error else row.name for row in failed)
        raise NotRegistered(f"{len(failed)} of {len(progress.rows)} providers failed: {reasons}")
    if progress.status not in {"completed", "partial"}:
        raise NotRegistered(f"the registration was {progress.status}")
