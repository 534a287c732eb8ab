"""The process of the baselines: the old way and the floor, behind one port.

It has its own database on the system's server, so that nobody takes its open registrations for work to be done. Prints `ready <url>`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import uvicorn
from starlette.applications import Starlette

from backend.cli.serving import listen
from backend.clock import SystemClock
from backend.identity import TokenVerifier
from backend.logs import configure_logs
from backend.providers.calling.transport import Guard
from backend.providers.clients import ProviderClients, http_clients
from backend.providers.directory import directory_of
from backend.services import need
from backend.settings import Settings, load_settings
from backend.storage.database import Database
from backend.storage.migrations import migrate
from benchmarks.bare_way import BareWay
from benchmarks.old_way import Endpoints, OldWay, OneAfterTheOther

DATABASE = "baselines"


async def make_database(settings: Settings) -> str:
    """The URL of our own database on the same server, made and migrated."""
    url = need(settings, "database_url")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()
    own = urlsplit(url)._replace(path=f"/{DATABASE}").geturl()
    await migrate(own)
    return own


def create_app(settings: Settings, url: str) -> Starlette:
    """The old API. Prints `ready <url>` when it serves."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        database = Database(await make_database(settings), pool=settings.database_pool)
        verifier = TokenVerifier(secret=need(settings, "jwt_secret"), jwks_url=None, clock=SystemClock())
        async with _clients(settings, OneAfterTheOther()) as guarded, _clients(settings, None) as free:
            app.routes.extend(Endpoints(OldWay(settings, database, guarded), verifier, settings.max_body_bytes).routes())
            bare = BareWay(OldWay(settings, database, free), verifier, settings.max_body_bytes)
            app.routes.extend(bare.routes())
            print(f"ready {url}", flush=True)
            yield
        await database.close()

    return Starlette(lifespan=lifespan)


def _clients(settings: Settings, guard: Guard | None) -> ProviderClients:
    directory = directory_of(settings)
    return http_clients(lambda: directory, settings, SystemClock(), guard=guard)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines")
    parser.add_argument("--data", type=Path, required=True, help="folder of the running system")
    settings = load_settings(parser.parse_args().data)
    configure_logs(settings, process="baselines")
    listener = listen(settings.host, 0)
    app = create_app(settings, f"http://{settings.host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_config=None, log_level="warning", access_log=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises what ended it once more; with this, that is exit code 0
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
