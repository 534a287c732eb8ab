"""Starts any topology as separate processes, through the real `moa` commands, and knows every pid: nothing here looks by name.

In: a `Topology`. Out: a `Fleet` whose members can be killed, frozen, thawed, stopped and started again, with a proxy on every edge that the
topology names. A member that ends although nobody asked it to is a deserter, and remembered. At the end every process is gone.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from backend.engines import Engine, erase_postgres, start_postgres, start_valkey
from tests.faults.chaos import Address, Proxy, proxying

SECRET = "a secret for tests that is long enough"
READY_SECONDS = 60.0
STOP_SECONDS = 35.0
PAUSE = 0.02  # seconds between two looks at another process
PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections

SETTINGS: Mapping[str, str] = {
    "MOA_JWT_SECRET": SECRET,
    "MOA_VAULT_KEYS": "k1:" + base64.b64encode(b"v" * 32).decode(),
    "MOA_ASSET_ID_SECRET": "another secret for tests",
    "MOA_RATE_LIMIT_PER_MINUTE": "60000",  # never reached, but asked for at every request
    "MOA_LOG_FORMAT": "json",
    "MOA_BATCH_AUTOMATIC": "false",  # tests run at any hour, also while transfer windows are open
}


class Edge(StrEnum):
    """Who talks to whom. Coordinators, and whatever is not named in a topology, talk directly."""

    CLIENT_API = "client-api"
    API_POSTGRES = "api-postgres"
    API_VALKEY = "api-valkey"
    WORKER_POSTGRES = "worker-postgres"
    WORKER_VALKEY = "worker-valkey"
    WORKER_SANDBOX = "worker-sandbox"


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What to start. `settings` are environment variables for all processes; `edges` get a proxy."""

    apis: int = 1
    workers: int = 1
    coordinators: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    edges: frozenset[Edge] = frozenset()


@dataclass(eq=False)
class Member:
    """One process of ours: `moa <arguments>`."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[Member], bool]
    deserted: Callable[[str, int], None]
    url: str = ""  # of an API or the sandbox
    ended_at: float = 0.0  # Unix seconds of its last end
    hands: asyncio.Lock = field(default_factory=asyncio.Lock)  # held by whoever does something to it, where several might
    _process: asyncio.subprocess.Process | None = None
    _watching: asyncio.Task[None] | None = None
    _expected: bool = True  # whether its end is no surprise
    _log_from: int = 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def said(self) -> str:
        """What it has logged since its last start."""
        with self.log.open("rb") as file:
            file.seek(self._log_from)
            return file.read().decode("utf-8", "replace")

    async def start(self, **settings: str) -> None:
        """Starts it, with more settings for this time, and waits until it is ready."""
        await self.spawn(**settings)
        await self.until_ready()

    async def spawn(self, *, doomed: bool = False, **settings: str) -> None:
        """Starts it and does not wait. `doomed`: a failpoint is going to end it."""
        assert not self.alive, f"{self.name} runs already"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        command = (sys.executable, "-u", "-m", "backend.cli", *self.arguments, "--data", str(self.folder), "--parent", str(os.getpid()))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**self.environment, **settings},
                start_new_session=True,
            )
        self._expected = doomed
        self._watching = asyncio.create_task(self._watch(self._process))

    async def until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await asyncio.to_thread(self.ready, self):
            assert self.alive, f"{self.name} ended while it was starting:\n{self.said[-3000:]}"
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.said[-3000:]}"
            await asyncio.sleep(PAUSE)

    async def ended(self, seconds: float = 30.0) -> int:
        """Waits for its end; returns the exit code, negative for a signal."""
        assert self._process is not None
        assert self._watching is not None
        try:
            async with asyncio.timeout(seconds):
                code = await self._process.wait()
                await self._watching
        except TimeoutError:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s:\n{self.said[-3000:]}") from None
        return code

    async def kill(self) -> None:
        """SIGKILL, and waits for the end. One that is gone already stays gone."""
        self._expected = True
        self._send(signal.SIGKILL)
        await self.ended()

    def told_to_stop(self) -> None:
        """SIGTERM."""
        self._expected = True
        self._send(signal.SIGTERM)

    async def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and waits; returns the exit code."""
        self.told_to_stop()
        return await self.ended(seconds)

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.ended_at = time.time()
        if not self._expected:
            self.deserted(self.name, code)


@dataclass(eq=False)
class EngineMember:
    """PostgreSQL or Valkey, with all of its processes."""

    launch: Callable[[Path], Engine]
    folder: Path
    engine: Engine
    hands: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> None:
        self.engine = await asyncio.to_thread(self.launch, self.folder)

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.stop)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """SIGKILL to the server itself; waits until its last process is gone."""
        os.kill(self.engine.pid, signal.SIGKILL)
        while await asyncio.to_thread(self.engine.alive):
            await asyncio.sleep(PAUSE)

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for pid in with_children(self.engine.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(kw_only=True, eq=False)
class Fleet:
    """What runs. `proxies`: one per edge; of `CLIENT_API`, the first API's."""

    folder: Path
    postgres: EngineMember
    valkey: EngineMember
    sandbox: Member
    coordinators: list[Member]
    apis: list[Member]
    workers: list[Member]
    proxies: dict[Edge, Proxy]
    api_urls: tuple[str, ...]  # as clients reach them
    deserters: list[tuple[str, int]]  # who ended by itself, and how
    make: Callable[[str, str], Member]
    http: httpx.AsyncClient

    @property
    def members(self) -> list[Member]:
        return [self.sandbox, *self.coordinators, *self.apis, *self.workers]

    def another_worker(self, name: str) -> Member:
        """One more, not started yet."""
        self.workers.append(self.make("worker", name))
        return self.workers[-1]

    def dismiss(self, prefix: str) -> None:
        """Workers of such names that have ended are no longer of the fleet."""
        self.workers[:] = [worker for worker in self.workers if worker.alive or not worker.name.startswith(prefix)]

    async def steer(self, path: str, **change: Any) -> None:
        """Changes how the sandbox's CA or a provider behaves: `steer("ca", mode="hang")`."""
        (await self.http.put(f"{self.sandbox.url}/sandbox/{path}", json=change)).raise_for_status()

    async def calls(self, since: float = 0.0) -> list[dict[str, Any]]:
        """What the sandbox was asked since a moment, Unix seconds."""
        answer = await self.http.get(f"{self.sandbox.url}/sandbox/calls", params={"since": str(since)})
        return list(answer.json()["calls"])

    def pids(self) -> set[int]:
        """Everybody who lives, engines with all of their processes."""
        engines = {pid for engine in (self.postgres, self.valkey) for pid in with_children(engine.engine.pid)}
        return engines | {member.pid for member in self.members if member.alive}

    def tracebacks(self) -> list[str]:
        """Where a process has met what nobody expected."""
        marks = ("Traceback (most recent call last)", "request.failed")
        logs = ((member.name, member.log.read_text("utf-8", "replace")) for member in self.members if member.log.exists())
        return [f"{name}: {line[:2000]}" for name, log in logs for line in log.splitlines() if any(mark in line for mark in marks)]


@asynccontextmanager
async def a_fleet(topology: Topology) -> AsyncIterator[Fleet]:
    """The topology, ready for a registration while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="moa-f-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(erase_postgres, folder)
        fleet = await _built(stack, topology, folder)
        stack.push_async_callback(_end, fleet)
        await asyncio.gather(*(member.start() for member in fleet.members))
        yield fleet


async def _built(stack: AsyncExitStack, topology: Topology, folder: Path) -> Fleet:
    """Engines that run, a database that is migrated, proxies that listen, members that are not started."""
    valkey, postgres = await asyncio.gather(*(asyncio.to_thread(start, folder) for start in (start_valkey, start_postgres)))
    engines = [EngineMember(start_postgres, folder, postgres), EngineMember(start_valkey, folder, valkey)]
    for engine in engines:
        stack.push_async_callback(engine.stop)
    roads = _Roads(stack, topology.edges, folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")} | SETTINGS | topology.settings
    sandbox_url, api_urls = _local(free_port()), [_local(free_port()) for _ in range(topology.apis)]
    direct = {"MOA_DATABASE_URL": postgres.url, "MOA_VALKEY_URL": valkey.url, "MOA_SANDBOX_URL": sandbox_url}
    environments = {
        "api": clean | await roads.environment(direct, Edge.API_POSTGRES, Edge.API_VALKEY),
        "worker": clean | await roads.environment(direct, Edge.WORKER_POSTGRES, Edge.WORKER_VALKEY, Edge.WORKER_SANDBOX),
        "coordinator": clean | direct,
        "sandbox": clean | direct,
    }
    deserters: list[tuple[str, int]] = []

    def member(command: str, name: str, url: str = "") -> Member:
        port = ("--port", str(urlsplit(url).port)) if url else ()
        desert = lambda who, code: deserters.append((who, code))  # noqa: E731  # two words for the list
        return Member(name, (command, *port), environments[command], folder, READY[command], desert, url)

    fleet = Fleet(
        folder=folder,
        postgres=engines[0],
        valkey=engines[1],
        sandbox=member("sandbox", "sandbox", sandbox_url),
        coordinators=[member("coordinator", f"coordinator-{n}") for n in range(1, topology.coordinators + 1)],
        apis=[member("api", f"api-{n}", url) for n, url in enumerate(api_urls, 1)],
        workers=[member("worker", f"worker-{n}") for n in range(1, topology.workers + 1)],
        api_urls=tuple([await roads.url(Edge.CLIENT_API, url) for url in api_urls]),
        proxies=roads.proxies,
        deserters=deserters,
        make=member,
        http=await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30)),
    )
    await _migrate(folder, clean | direct)
    return fleet


class _Roads:
    """Lays the proxies and tells each kind of process where to go."""

    def __init__(self, stack: AsyncExitStack, edges: frozenset[Edge], folder: Path) -> None:
        self._stack, self._edges, self._folder = stack, edges, folder
        self.proxies: dict[Edge, Proxy] = {}

    async def environment(self, direct: Mapping[str, str], *edges: Edge) -> dict[str, str]:
        names = {"postgres": "MOA_DATABASE_URL", "valkey": "MOA_VALKEY_URL", "sandbox": "MOA_SANDBOX_URL"}
        found = dict(direct)
        for edge in edges:
            name = names[edge.rpartition("-")[2]]
            found[name] = await self.url(edge, direct[name])
        return found

    async def url(self, edge: Edge, direct: str) -> str:
        """Where to go instead."""
        if edge not in self._edges:
            return direct
        parts = urlsplit(direct)
        if parts.scheme == "http":
            port = free_port()
            await self._proxy(edge, ("127.0.0.1", port), (str(parts.hostname), int(parts.port or 80)))
            return _local(port)
        folder = self._folder / edge
        folder.mkdir(mode=0o700)
        if parts.scheme == "unix":
            await self._proxy(edge, folder / "s", Path(parts.path))
            return f"unix://{folder / 's'}"
        real = Path(parts.query.removeprefix("host=")) / ".s.PGSQL.5432"
        await self._proxy(edge, folder / ".s.PGSQL.5432", real)
        return parts._replace(query=f"host={folder}").geturl()

    async def _proxy(self, edge: Edge, listen: Address, upstream: Address) -> None:
        proxy = await self._stack.enter_async_context(proxying(listen, upstream))
        self.proxies.setdefault(edge, proxy)


async def _migrate(folder: Path, environment: Mapping[str, str]) -> None:
    command = (sys.executable, "-m", "backend.cli", "migrate", "--data", str(folder))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def _end(fleet: Fleet) -> None:
    """Everybody is killed; how they end when they are asked to is another test's matter. Engines follow by themselves."""
    fleet.valkey.thaw()
    fleet.postgres.thaw()
    await asyncio.gather(*(member.kill() for member in fleet.members if member.alive))


# --- who is ready -----------------------------------------------------------------------------------------------------


def _answers(path: str) -> Callable[[Member], bool]:
    def ready(member: Member) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{member.url}{path}", trust_env=False, timeout=5).status_code == 200
        return False

    return ready


READY: Mapping[str, Callable[[Member], bool]] = {
    "api": _answers("/readyz"),
    "sandbox": _answers("/sandbox/providers"),
    "worker": lambda member: "worker.started" in member.said,
    "coordinator": lambda member: True,  # only the one that leads says something
}


# --- processes and ports ----------------------------------------------------------------------------------------------


def with_children(pid: int) -> set[int]:
    """This process and every one that descends from it; zombies do not count."""
    parents = {}
    for line in subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout.splitlines():
        child, parent, state = line.split()
        if not state.startswith("Z"):
            parents[int(child)] = int(parent)
    known = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in known} - known:
        known |= more
    return known


def free_port() -> int:
    """A port that nobody has now, and that no outgoing connection will be given."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"
