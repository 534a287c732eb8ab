"""The whole system on one machine: engines, sandbox, coordinator, APIs, workers, started in this order and stopped in the reverse one.

In: what is wanted. Out: `ready http://…` when a registration can be made; it ends on SIGINT, SIGTERM or SIGHUP with no process left.
The listening sockets are opened here and inherited, so a port that is taken is noticed first and one that was found stays ours
until the process behind it is told to end: from then on only that process answers there, and nobody after it.
A second Ctrl-C is a hurry: processes are killed, the engines still end cleanly.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from backend.cli.children import Child, kept, kept_engine
from backend.cli.datafolder import DataFolder
from backend.cli.preflight import NotReady, check_disk, check_platform, check_python
from backend.cli.readiness import ready, url_of
from backend.cli.running import database_url, settings_of
from backend.cli.serving import listen
from backend.engines import Engine, start_postgres, start_valkey
from backend.settings import Settings

MARGIN = 5.0  # seconds that a process has beyond its own drain before it is killed
HIGHEST_PORT = 65535
COORDINATOR, BATCH_WORKER = "coordinator", "worker-batch"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to start. Port 0: any free one."""

    data: Path | None
    port: int
    sandbox_port: int
    workers: int
    apis: int
    sandbox: bool


@dataclass(frozen=True)
class System:
    """What is being started: its settings, its open sockets, its engines' URLs."""

    settings: Settings
    apis: tuple[socket.socket, ...]
    metrics: Mapping[str, socket.socket]  # of processes without an API, by name
    sandbox: socket.socket | None
    hurry: asyncio.Event

    @property
    def api_urls(self) -> tuple[str, ...]:
        return tuple(url_of(api) for api in self.apis)

    @property
    def sandbox_url(self) -> str:
        return url_of(self.sandbox) if self.sandbox else self.settings.sandbox_url


def run(wanted: Wanted) -> None:
    """Runs until it is told to stop. Raises `MoaError` with one plain line if it cannot start."""
    folder = DataFolder(settings_of(wanted.data).data)
    with folder.held():
        folder.forget_where()  # left behind by one that was killed; it would look like engines of somebody else's
        folder.make_secrets()
        settings = settings_of(folder.path)
        _preflight(settings, folder.path)
        try:
            asyncio.run(_until_stopped(wanted, settings, folder))
        finally:
            folder.forget_where()


def _preflight(settings: Settings, folder: Path) -> None:
    check_python()
    if settings.database_url is None or settings.valkey_url is None:
        check_platform()
    check_disk(folder)


async def _until_stopped(wanted: Wanted, settings: Settings, folder: DataFolder) -> None:
    hurry, stopping = asyncio.Event(), asyncio.Event()
    life = asyncio.ensure_future(_live(wanted, settings, folder, hurry))

    def asked() -> None:
        if stopping.is_set():
            hurry.set()
        else:
            stopping.set()
            _say("stopping; once more to hurry")
            life.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    await asyncio.wait({life})
    if not life.cancelled():
        life.result()
    _say("stopped")


async def _live(wanted: Wanted, settings: Settings, folder: DataFolder, hurry: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        apis, sandbox = _api_sockets(stack, wanted, settings), _sandbox_socket(stack, wanted, settings)
        system = System(settings, apis, _metrics_sockets(stack, wanted, settings), sandbox, hurry)
        folder.say_where(await _engines(stack, settings, folder.path) | _addresses(system))
        folder.say_targets(_targets(system))
        settings = settings_of(folder.path)  # now with the engines
        await _migrate(settings)
        children = _children(wanted, system, folder.path)
        patience = settings.drain_seconds + MARGIN
        fates = {await stack.enter_async_context(kept(group, patience=patience)) for group in children if group}
        everybody = [child for group in children for child in group]
        await _first(ready(system.apis, system.sandbox, everybody), fates)
        for child in everybody:
            child.settled = True
        _tell(system, folder.path)
        await _first(asyncio.Event().wait(), fates)


async def _engines(stack: AsyncExitStack, settings: Settings, data: Path) -> dict[str, str]:
    """Starts those that no setting names; returns where both are."""

    async def url(known: SecretStr | None, start: Callable[[Path], Engine]) -> str:
        if known is not None:
            return known.get_secret_value()
        return (await stack.enter_async_context(kept_engine(start, data, _say))).url

    return {
        "MOA_DATABASE_URL": await url(settings.database_url, start_postgres),
        "MOA_VALKEY_URL": await url(settings.valkey_url, start_valkey),
    }


def _addresses(system: System) -> dict[str, str]:
    return {
        "MOA_API_URL": system.api_urls[0],
        "MOA_SANDBOX_URL": system.sandbox_url,
        "MOA_RATE_LIMIT_PER_MINUTE": "0",
        "MOA_SOCKETS_PER_USER": "0",
    }


async def _migrate(settings: Settings) -> None:
    from backend.storage.migrations import migrate  # noqa: PLC0415  # SQLAlchemy is heavy; the sockets are open before it

    await migrate(database_url(settings))


def _children(wanted: Wanted, system: System, data: Path) -> tuple[list[Child], ...]:
    """Groups in the order of their start; each group is stopped together, the last group first."""

    def child(name: str, *arguments: str, listener: socket.socket | None = None) -> Child:
        more = () if listener is None else ("--fd", str(listener.fileno()))
        return Child(name, (*arguments, "--data", str(data), *more), _say, system.hurry, listener)

    apis = [child(f"api-{n}", "api", listener=api) for n, api in enumerate(system.apis, 1)]
    workers = [child(name, "worker", "--queue", "interactive", listener=system.metrics[name]) for name in _workers(wanted)]
    batch = child(BATCH_WORKER, "worker", "--queue", "batch", listener=system.metrics[BATCH_WORKER])
    return (
        [child("sandbox", "sandbox", listener=system.sandbox)] if system.sandbox else [],
        [child(COORDINATOR, "coordinator", listener=system.metrics[COORDINATOR])],
        [*apis, *workers, batch],
    )


def _workers(wanted: Wanted) -> list[str]:
    return [f"worker-{n}" for n in range(1, wanted.workers + 1)]


def _metrics_sockets(stack: AsyncExitStack, wanted: Wanted, settings: Settings) -> Mapping[str, socket.socket]:
    """Any free port for each."""
    names = (COORDINATOR, *_workers(wanted), BATCH_WORKER)
    return {name: stack.enter_context(closing(listen(settings.metrics_host, 0))) for name in names}


def _targets(system: System) -> Mapping[str, str]:
    """Where each process shows its metrics."""
    apis = {f"api-{n}": api for n, api in enumerate(system.apis, 1)}
    return {name: url_of(listener).removeprefix("http://") for name, listener in (apis | dict(system.metrics)).items()}


def _api_sockets(stack: AsyncExitStack, wanted: Wanted, settings: Settings) -> tuple[socket.socket, ...]:
    if wanted.port + wanted.apis - 1 > HIGHEST_PORT:
        raise NotReady(f"{wanted.apis} APIs from port {wanted.port} on need ports beyond {HIGHEST_PORT}; choose a lower --port")
    ports = (wanted.port + n if wanted.port else 0 for n in range(wanted.apis))
    return tuple(stack.enter_context(closing(listen(settings.host, port))) for port in ports)


def _sandbox_socket(stack: AsyncExitStack, wanted: Wanted, settings: Settings) -> socket.socket | None:
    return stack.enter_context(closing(listen(settings.host, wanted.sandbox_port))) if wanted.sandbox else None


async def _first(wait: Coroutine[object, object, object], fates: set[asyncio.Task[None]]) -> None:
    """Waits, unless a child's fate comes first: then its `ChildFailed` is raised."""
    waiting = asyncio.ensure_future(wait)
    watched: set[asyncio.Task[Any]] = {waiting, *fates}
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for fate in fates:
            if fate.done():
                fate.result()
        waiting.result()
    finally:
        waiting.cancel()


def _tell(system: System, data: Path) -> None:
    first = system.api_urls[0]
    _say(f"page     {first}/")
    for url in system.api_urls[1:]:
        _say(f"also     {url}/")
    if system.sandbox:
        _say(f"sandbox  {system.sandbox_url}/")
    _say(f"metrics  {first}/metrics/all")
    folder = "" if data == Path(".moa").absolute() else f" --data {data}"
    _say(f"token    {_command()} token --user alice{folder}")
    _say(f"try      {_command()} register --user alice{folder}")
    _say(f"ready {first}")


def _command() -> str:
    """How the person in this terminal calls `moa`: not by its name alone unless that finds this very one."""
    beside = Path(sys.executable).with_name("moa")
    return "moa" if shutil.which("moa") == str(beside) else os.path.relpath(beside)


def _say(line: str) -> None:
    """A terminal that was closed hears nothing, and is no reason not to stop what runs."""
    with suppress(OSError):
        print(line, file=sys.stdout, flush=True)
