"""One process of the system: the API or the sandbox under uvicorn, a worker, the coordinator.

In: settings, sometimes a listening socket that `moa up` opened. Out: exit code 0 after SIGTERM or Ctrl-C, when everything is drained.
No process here starts another one.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from backend.cli.leash import hold
from backend.cli.running import need_engines, settings_of
from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.connections import Connection
from backend.errors import MoaError
from backend.logs import log_everything
from backend.settings import Settings

LARGEST_MESSAGE = 64 * 1024  # bytes of one WebSocket message from a client
BACKLOG = 2048


class BadSettings(MoaError):
    """The settings cannot work. The message is one plain line that names the one to mend."""


class PortTaken(MoaError):
    """Somebody else listens there. The message is one plain line."""


class DrainingServer(uvicorn.Server):
    """uvicorn closes all sockets at once when it is told to end; this one lets the application say goodbye first.

    If the application has an `app.state.drain` (a coroutine function), it is awaited before uvicorn stops, for `drain_seconds` at most.
    """

    def __init__(self, config: uvicorn.Config, app: Starlette, drain_seconds: float) -> None:
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as exc:  # of two that took hold of one port at once, the second to listen
            raise PortTaken(f"the port cannot be had ({exc.strerror}); free it, or choose another one") from exc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = getattr(self._app.state, "drain", None)
        if drain is not None and not self.force_exit:
            await asyncio.wait({asyncio.ensure_future(drain())}, timeout=self._drain_seconds)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """An open listening socket. Raises `PortTaken`."""
    held = hold_port(host, port)
    try:
        held.listen(BACKLOG)
    except OSError as exc:
        held.close()
        raise _taken(host, port, exc) from exc
    return held


def hold_port(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen yet: until somebody is there to answer, who knocks is refused, not kept waiting.

    Raises `PortTaken`.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if held.family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((host, port))
    except OSError as exc:
        held.close()
        raise _taken(host, port, exc) from exc
    return held


def _taken(host: str, port: int, exc: OSError) -> PortTaken:
    return PortTaken(f"port {port} on {host} cannot be had ({exc.strerror}); free it, or choose another port")


def run_api(data: Path | None, *, port: int | None, fd: int | None, parent: int | None) -> None:
    hold(parent)
    settings = settings_of(data)
    need_engines(settings)
    listener = _listener(fd, settings.host, settings.port if port is None else port)
    from backend.app import create_app  # noqa: PLC0415  # heavy, and only this process needs it

    with _one_line():
        app = create_app(settings, mint=partial(_demo_token, settings))
    _serve(app, listener, drain_seconds=settings.drain_seconds)


def _demo_token(settings: Settings, user: str, seconds: int) -> str:
    return development_token(settings, user=user, ops=False, ttl=seconds, now=SystemClock().now())


def run_sandbox(data: Path | None, *, port: int | None, fd: int | None, parent: int | None) -> None:
    hold(parent)
    settings = settings_of(data)
    listener = _listener(fd, settings.host, settings.sandbox_port if port is None else port)
    from backend.providers.sandbox.app import create_app  # noqa: PLC0415  # only this process needs it
    from backend.providers.sandbox.options import SandboxOptions  # noqa: PLC0415

    _serve(create_app(SandboxOptions.of(settings)), listener, drain_seconds=1.0)


def run_worker(data: Path | None, *, queue: str, fd: int | None, parent: int | None) -> None:
    hold(parent)
    settings = settings_of(data)
    need_engines(settings)
    from backend.services import need  # noqa: PLC0415
    from backend.storage.vault import Vault  # noqa: PLC0415
    from backend.workers import run_worker  # noqa: PLC0415

    with _one_line():
        Vault(need(settings, "vault_keys"))
        need(settings, "asset_id_secret")
        _check_rules(settings)
    _run(run_worker(settings, queue, metrics_listener(fd, settings)))


def run_coordinator(data: Path | None, *, fd: int | None, parent: int | None) -> None:
    hold(parent)
    settings = settings_of(data)
    need_engines(settings)
    from backend.coordinators import run_coordinator  # noqa: PLC0415

    with _one_line():
        _check_rules(settings)
    _run(run_coordinator(settings, metrics_listener(fd, settings)))


def _check_rules(settings: Settings) -> None:
    """Of a coordinator that waits for its turn to lead, too: it is no time to find out then. Raises `ValueError`."""
    from backend.batches import batch_terms  # noqa: PLC0415
    from backend.services import circuit_options  # noqa: PLC0415

    circuit_options(settings)
    batch_terms(settings)


@contextmanager
def _one_line() -> Iterator[None]:
    """What is built from settings says by ValueError which of them cannot work."""
    try:
        yield
    except ValueError as exc:
        raise BadSettings(str(exc)) from exc


def _listener(fd: int | None, host: str, port: int) -> socket.socket:
    return hold_port(host, port) if fd is None else socket.socket(fileno=fd)


def metrics_listener(fd: int | None, settings: Settings) -> socket.socket | None:
    """None: this process shows its metrics nowhere."""
    if fd is None and settings.metrics_port is None:
        return None
    return _listener(fd, settings.metrics_host, settings.metrics_port or 0)


def config_of(app: Starlette, *, drain_seconds: float) -> uvicorn.Config:
    """How uvicorn serves any application of ours."""
    return uvicorn.Config(
        app,
        ws="backend.cli.upgrading:Upgrading",
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # costs more memory and time than it saves
        ws_ping_interval=None,  # the Centrifuge protocol has pings of its own
        loop="uvloop",
        http=Connection,  # on httptools
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,  # longer than clients keep an idle connection, so that it is they who close it
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )


def _serve(app: Starlette, listener: socket.socket, *, drain_seconds: float) -> None:
    log_everything()
    config = config_of(app, drain_seconds=drain_seconds)
    # uvicorn raises the signal that ended it once more when it is done; with these, that is exit code 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = DrainingServer(config, app, drain_seconds)
    server.run(sockets=[listener])
    if not server.started:
        raise SystemExit(1)


def _run(work: Coroutine[object, object, None]) -> None:
    log_everything()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
