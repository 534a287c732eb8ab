"""What operators look at and do: `moa breakers`, `moa providers`.

In: the running system's API, with the operator's token, or a development token in the name of whoever is logged in here. Out: tables,
live in a terminal; one plain line for what was set. What cannot be read for a moment is said under what was read last.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import httpx
import typer
from msgspec import Struct
from rich.live import Live

from backend.cli import calling
from backend.cli.boards import Row, breakers_table, history_table, providers_table
from backend.cli.following import Api
from backend.cli.listing import console, show
from backend.cli.running import settings_of
from backend.cli.tokens import development_token
from backend.clock import KST, SystemClock
from backend.errors import MoaError
from backend.settings import Settings

EVERY = 1.0  # seconds between two looks
MOST_SHOWN = 100  # actions, when nobody says how many
DECIDER = "coordinator"
TOKEN_SECONDS = 12 * 3600

T = TypeVar("T")


class Breakers(Struct, frozen=True):
    breakers: tuple[Row, ...]


class Done(Struct, frozen=True):
    """What was set."""

    org_code: str
    mode: str


class Action(Struct, frozen=True):
    at: datetime
    who: str
    action: str
    org_code: str
    reason: str


class Decision(Struct, frozen=True):
    at: datetime
    org_code: str
    scope: str
    state: str
    mode: str
    reason: str


class History(Struct, frozen=True):
    actions: tuple[Action, ...]
    decisions: tuple[Decision, ...]

    def lines(self, most: int) -> Sequence[tuple[str, ...]]:
        """Both in one order, the newest first: when in Korea, who, what, where, why."""
        done = [(each.at, each.who, each.action, each.org_code, each.reason) for each in self.actions]
        decided = [(each.at, DECIDER, each.state, f"{each.org_code} {each.scope}", each.reason) for each in self.decisions]
        newest = sorted(done + decided, key=lambda line: line[0], reverse=True)[:most]
        return [(f"{at.astimezone(KST):%Y-%m-%d %H:%M:%S}", *rest) for at, *rest in newest]


def show_breakers(data: Path | None, url: str | None) -> None:
    """Every circuit; in a terminal again and again, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        run(data, url, _watch if console().is_terminal else _look)


def show_history(data: Path | None, url: str | None, org_code: str | None, limit: int) -> None:
    """What operators did and what was decided, the newest first."""
    asked = {"limit": str(limit), **({"org_code": org_code} if org_code is not None else {})}

    async def look(api: Api) -> None:
        found = await calling.ask(api, History, "GET", "/ops/breakers/history", params=asked)
        console().print(history_table(found.lines(limit)))

    run(data, url, look)


def set_mode(data: Path | None, url: str | None, org_code: str, mode: str, reason: str) -> None:
    """Forces the circuits of an institution, or leaves them to the coordinator again."""

    async def put(api: Api) -> None:
        done = await calling.ask(api, Done, "PUT", f"/ops/breakers/{_quoted(org_code)}", json={"mode": mode, "reason": reason})
        print(f"{done.org_code}: {done.mode}")

    run(data, url, put)


def show_providers(data: Path | None, url: str | None) -> None:
    """Every provider with its status."""

    async def look(api: Api) -> None:
        console().print(providers_table([(row.org_code, row.name, row.industry, row.status) for row in await calling.providers(api)]))

    run(data, url, look)


def _quoted(org_code: str) -> str:
    """Raises `typer.BadParameter` for what cannot be one: it would be another address."""
    if not (org_code.isascii() and org_code.isalnum()):
        raise typer.BadParameter("letters and digits", param_hint="ORG_CODE")
    return org_code


def run(data: Path | None, url: str | None, deed: Callable[[Api], Awaitable[T]]) -> T:
    """Does it as an operator, and returns what came of it."""
    settings = settings_of(data)
    address = (url or settings.api_url).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise typer.BadParameter("http://… or https://…", param_hint="--url")
    token = _token(settings)

    async def whole() -> T:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False) as http:
            return await deed(Api(address, token, http))

    return asyncio.run(whole())


def _token(settings: Settings) -> str:
    """The operator's own, or one for development. Raises `NoSecret`."""
    if settings.ops_token is not None:
        return settings.ops_token.get_secret_value()
    return development_token(settings, user=_operator(), ops=True, ttl=TOKEN_SECONDS, now=SystemClock().now())


def _operator() -> str:
    """Who is noted for what is done."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # an account without a name
        return "cli"


async def _breakers(api: Api) -> tuple[Row, ...]:
    return (await calling.ask(api, Breakers, "GET", "/ops/breakers")).breakers


async def _look(api: Api) -> None:
    show(breakers_table(await _breakers(api), SystemClock().now()))


async def _watch(api: Api) -> None:
    rows = await _breakers(api)
    with Live(breakers_table(rows, SystemClock().now()), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(EVERY)
            trouble = ""
            try:
                rows = await _breakers(api)
            except MoaError as exc:
                trouble = str(exc)
            live.update(breakers_table(rows, SystemClock().now(), trouble=trouble), refresh=True)
