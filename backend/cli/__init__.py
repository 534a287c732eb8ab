"""The command `moa`: one function per command, each imports what it needs when it is called.

In: arguments and the settings. Out: lines for a person on stdout, or one plain line on stderr and exit code 1 (2 for wrong usage).
Nothing is decided here; `up.py` keeps the whole system, `serving.py` one process of it.
"""

# ruff: noqa: PLC0415  # imports inside the commands keep the start of each one fast

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

app = typer.Typer(
    name="moa",
    help="Connects all financial institutions of a person at once.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[Path | None, typer.Option("--data", help="Folder of the running system. [default: MOA_DATA or .moa]", show_default=False)]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.", show_default=False)]
Listener = Annotated[int | None, typer.Option("--fd", hidden=True)]  # an open listening socket, inherited
Url = Annotated[str | None, typer.Option("--url", help="Where the API is. [default: the running system's]", show_default=False)]
OrgCode = Annotated[str, typer.Argument(metavar="ORG_CODE", help="The institution.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept with who said so.")]
Parent = Annotated[int | None, typer.Option("--parent", hidden=True)]  # end when this process ends


def main() -> None:
    """Entry point. A user's mistake is one line, never a traceback."""
    from backend.cli.mistakes import as_line

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Korean letters shows question marks
    try:
        sys.exit(app(standalone_mode=False, prog_name="moa") or 0)
    except TyperException as exc:
        print(as_line(exc), file=sys.stderr)
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(1)
    except Exception as exc:
        line = as_line(exc)
        if line is None:
            raise
        print(line, file=sys.stderr)
        sys.exit(1)


def _help(context: typer.Context) -> None:
    """Who names no command sees what there is; that is no mistake."""
    if context.invoked_subcommand is None:
        print(context.get_help())


app.callback(invoke_without_command=True)(_help)


@app.command()
def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the first API; the others follow. 0: any free ones.")] = 8000,
    sandbox_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the sandbox. 0: any free one.")] = 8900,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Interactive workers.")] = 1,
    apis: Annotated[int, typer.Option(min=1, max=64, help="API processes.")] = 1,
    sandbox: Annotated[bool, typer.Option("--sandbox/--no-sandbox", help="Whether to start invented institutions.")] = True,
    data: Data = None,
    parent: Parent = None,
) -> None:
    """Starts everything, says `ready http://…`, runs until Ctrl-C."""
    import signal

    from backend.cli.leash import hold
    from backend.cli.up import Wanted, run

    hold(parent, signal.SIGTERM)
    run(Wanted(data=data, port=port, sandbox_port=sandbox_port, workers=workers, apis=apis, sandbox=sandbox))


@app.command()
def api(port: Port = None, data: Data = None, fd: Listener = None, parent: Parent = None) -> None:
    """Serves the HTTP API, the feed and the page."""
    from backend.cli.serving import run_api

    run_api(data, port=port, fd=fd, parent=parent)


@app.command()
def worker(
    queue: Annotated[str, typer.Option(help="interactive or batch")] = "interactive",
    data: Data = None,
    fd: Listener = None,
    parent: Parent = None,
) -> None:
    """Runs the jobs of one queue."""
    from backend.cli.serving import run_worker

    if queue not in {"interactive", "batch"}:
        raise typer.BadParameter("choose interactive or batch", param_hint="--queue")
    run_worker(data, queue=queue, fd=fd, parent=parent)


@app.command()
def coordinator(data: Data = None, fd: Listener = None, parent: Parent = None) -> None:
    """Decides for all nodes which providers may be called."""
    from backend.cli.serving import run_coordinator

    run_coordinator(data, fd=fd, parent=parent)


@app.command()
def sandbox(port: Port = None, data: Data = None, fd: Listener = None, parent: Parent = None) -> None:
    """Serves the invented CA and providers."""
    from backend.cli.serving import run_sandbox

    run_sandbox(data, port=port, fd=fd, parent=parent)


@app.command()
def migrate(data: Data = None) -> None:
    """Brings the database to the newest schema."""
    import asyncio

    from backend.cli.running import database_url, settings_of
    from backend.storage.migrations import migrate as bring_up_to_date

    asyncio.run(bring_up_to_date(database_url(settings_of(data))))
    print("the schema is the newest")


@app.command()
def seed(
    links: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many there are to be.")],
    providers: Annotated[
        int | None, typer.Option(min=1, help="At the first so many of the directory. [default: all]", show_default=False)
    ] = None,
    data: Data = None,
) -> None:
    """Makes consented links of invented users, for rehearsals."""
    from backend.cli import seeding

    seeding.seed(data, links=links, providers=providers)


@app.command()
def token(
    user: Annotated[str, typer.Option(help="Whom the token stands for.")],
    ops: Annotated[bool, typer.Option("--ops", help="Also an operator.")] = False,
    ttl: Annotated[int, typer.Option(min=1, max=366 * 86400, help="Seconds until it expires.")] = 3600,
    data: Data = None,
) -> None:
    """Prints a development JWT."""
    from backend.cli.running import settings_of
    from backend.cli.tokens import development_token
    from backend.clock import SystemClock

    print(development_token(settings_of(data), user=user, ops=ops, ttl=ttl, now=SystemClock().now()))


@app.command()
def register(
    user: Annotated[str, typer.Option(help="Who registers.")],
    providers: Annotated[
        str | None,
        typer.Option(help="Organisation codes with commas between, or `all`. [default: ten of all industries]", show_default=False),
    ] = None,
    url: Url = None,
    transport: Annotated[str, typer.Option(help="websocket, sse or poll")] = "websocket",
    data: Data = None,
) -> None:
    """Registers a person and shows each result as it arrives."""
    from backend.cli.register import register as run

    run(user=user, providers=providers, url=url, transport=transport, data=data)


@app.command()
def doctor(data: Data = None) -> None:
    """Checks what the system rests on and says what to mend."""
    from backend.cli.doctor import examine

    if not examine(data):
        raise typer.Exit(1)


@app.command()
def settings(data: Data = None) -> None:
    """Lists every setting with its default, its value and what it is for."""
    from backend.cli.listing import show_settings

    show_settings(data)


@app.command()
def providers(url: Url = None, data: Data = None) -> None:
    """Lists the institutions that can be connected, with their status."""
    from backend.cli.operating import show_providers

    show_providers(data, url)


@app.command()
def plan(
    users: Annotated[int, typer.Option(min=0, max=1_000_000_000, help="How many, each linked to every institution.")] = 1_000_000,
    uv: Annotated[
        Path | None,
        typer.Option(help="Distinct users by day: lines `2026-11-22,120000`, or seven numbers from Sunday on.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to draw it, as SVG.", show_default=False)] = None,
    week: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day of the week. [default: next week]", show_default=False)
    ] = None,
    day: Annotated[
        list[str] | None, typer.Option(help="What a day is: `2026-06-03=holiday`, `no_trading` or `working`.", show_default=False)
    ] = None,
    data: Data = None,
) -> None:
    """Plans a week of the batch without touching anything: how many links on which day, and why."""
    from backend.cli.planning import show_plan
    from backend.clock import SystemClock

    if week is not None and not 2000 <= week.year <= 2100:
        raise typer.BadParameter("choose a day from 2000 to 2100", param_hint="--week")
    on = week.date() if week is not None else None
    show_plan(data, users=users, visitors=uv, out=out, week=on, said=day or [], now=SystemClock().now())


@app.command()
def traffic(
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A day in Korea. [default: today]", show_default=False)
    ] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Shows the calls of a day beside those of the same weekday a week before: what burns, what dropped, and what moved it."""
    from backend.cli.reports import show_traffic

    show_traffic(data, url, date)


@app.command()
def statistics(
    week: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The Sunday with which it begins. [default: the last that is over]", show_default=False),
    ] = None,
    url: Url = None,
    data: Data = None,
) -> None:
    """Shows the weekly report that the law asks for."""
    from backend.cli.reports import show_statistics

    show_statistics(data, url, week)


@app.command()
def alerts(
    only_open: Annotated[bool, typer.Option("--open", help="Only what is wrong now.")] = False, url: Url = None, data: Data = None
) -> None:
    """Shows what is wrong now, since when, and what was."""
    from backend.cli.reports import show_alerts

    show_alerts(data, url, only_open=only_open)


circuits = typer.Typer(help="Which institutions are called, and what operators said about it.", no_args_is_help=False)
app.add_typer(circuits, name="breakers")


@circuits.callback(invoke_without_command=True)
def _breakers(
    context: typer.Context,
    history: Annotated[bool, typer.Option("--history", help="Instead: what operators did and what was decided.")] = False,
    url: Url = None,
    data: Data = None,
) -> None:
    """Shows every circuit; in a terminal live, until Ctrl-C."""
    from backend.cli.operating import MOST_SHOWN, show_breakers, show_history

    if context.invoked_subcommand is not None:
        return
    if history:
        show_history(data, url, None, MOST_SHOWN)
    else:
        show_breakers(data, url)


@circuits.command("history")
def _history(
    org_code: Annotated[str | None, typer.Argument(help="Only of this institution.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    url: Url = None,
    data: Data = None,
) -> None:
    """Shows what operators did and what was decided, the newest first."""
    from backend.cli.operating import show_history

    show_history(data, url, org_code, limit)


@circuits.command("force-open")
def _force_open(org_code: OrgCode, reason: Why, url: Url = None, data: Data = None) -> None:
    """Refuses every call to an institution, until somebody says otherwise."""
    from backend.cli.operating import set_mode

    set_mode(data, url, org_code, "forced_open", reason)


@circuits.command("force-close")
def _force_close(org_code: OrgCode, reason: Why, url: Url = None, data: Data = None) -> None:
    """Lets every call through to an institution, however many fail, until somebody says otherwise."""
    from backend.cli.operating import set_mode

    set_mode(data, url, org_code, "forced_closed", reason)


@circuits.command("auto")
def _auto(org_code: OrgCode, reason: Why, url: Url = None, data: Data = None) -> None:
    """Leaves an institution's circuits to the coordinator again."""
    from backend.cli.operating import set_mode

    set_mode(data, url, org_code, "auto", reason)


Provider = Annotated[str | None, typer.Option("--provider", metavar="ORG_CODE", help="Only this institution.", show_default=False)]
BecauseOf = Annotated[str, typer.Option("--reason", help="Why; it is kept with who said so.", show_default=False)]

weekly = typer.Typer(help="The weekly batch: how it goes, held and let go on, rehearsed.", no_args_is_help=False)
app.add_typer(weekly, name="batch")


@weekly.callback(invoke_without_command=True)
def _batch(context: typer.Context, url: Url = None, data: Data = None) -> None:
    """Shows how the weekly batch goes; in a terminal live, until Ctrl-C."""
    from backend.cli.batching import show_batch

    if context.invoked_subcommand is None:
        show_batch(data, url)


@weekly.command("status")
def _status(url: Url = None, data: Data = None) -> None:
    """Shows how the weekly batch goes; in a terminal live, until Ctrl-C."""
    from backend.cli.batching import show_batch

    show_batch(data, url)


@weekly.command("run")
def _run(
    provider: Provider = None,
    within: Annotated[str, typer.Option(help="How long it may take: 90s, 3m, 1h; a minute at least.")] = "3m",
    url: Url = None,
    data: Data = None,
) -> None:
    """Refreshes all links that are due, now: a rehearsal. Real institutions only within their own transfer windows."""
    from backend.cli.batching import rehearse

    rehearse(data, url, provider, within)


@weekly.command("pause")
def _pause(provider: Provider = None, reason: BecauseOf = "", url: Url = None, data: Data = None) -> None:
    """Holds the batch of one institution, or all of it, until `resume`."""
    from backend.cli.batching import hold

    hold(data, url, "pause", provider, reason)


@weekly.command("resume")
def _resume(provider: Provider = None, reason: BecauseOf = "", url: Url = None, data: Data = None) -> None:
    """Lets the batch go on, planned anew."""
    from backend.cli.batching import hold

    hold(data, url, "resume", provider, reason)


vault_keys = typer.Typer(help="Keys of the vault.")
app.add_typer(vault_keys, name="keys")


vault_keys.callback(invoke_without_command=True)(_help)


@vault_keys.command()
def rotate(
    prune: Annotated[bool, typer.Option("--prune", help="Instead: remove keys that nothing uses any more.")] = False, data: Data = None
) -> None:
    """Puts everything that is sealed under a new key.

    With the data folder's keys (as `moa up` makes them) one call does it all beside the running system: the new key comes first in
    secrets.env, running processes take it over within a second, then every sealed value is sealed anew in small transactions. Killed in
    between, call it again: it finishes what was begun before it makes another key. Old keys stay readable until `--prune`, a minute later
    or any time after, removes those that nothing uses any more.

    With keys from the environment nothing is written; it prints the values to set. The order for a fleet: (1) the new key last in
    MOA_VAULT_KEYS everywhere, restart everything: now all can read it. (2) The new key first everywhere, restart. (3) `moa keys rotate`.
    (4) `moa keys rotate --prune` names the keys that may be left out.
    """
    from backend.cli.keys import rotate as run

    if not run(data, prune=prune):
        raise typer.Exit(1)
