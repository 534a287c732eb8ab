"""How metrics leave a process: the page that Prometheus reads, a small server for processes without an API, one page of all processes.

In: a process's `Metrics`. Out: the text format 0.0.4. `moa up` writes where its processes listen into the data folder, in the form of
Prometheus' own file discovery; the page of all asks each of them, and marks every line with its process. A process that does not answer in
time is `moa_process_up 0`, no reason to show nothing. No label names a person (`metrics.py`).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
import uvicorn
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.server import ServerState

from backend.clock import Clock
from backend.connections import Connection
from backend.lateness import lateness_shown
from backend.metrics import Distribution, Kind, Metric, Metrics, Sample
from backend.settings import TARGETS_FILE

PROCESS_SECONDS = 4.0  # for one process's page
FRESH_SECONDS = 1.0  # so long the page of all is good for whoever asks next
MOST_TARGETS = 200

_NAME = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?")


class Target(Struct, frozen=True):
    """One process in the form of Prometheus' file discovery."""

    targets: tuple[str, ...]  # host:port
    labels: dict[str, str]


# --- the page of a process -------------------------------------------------------------------------------------------


class _Gathered(Collector):
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Family]:
        families: dict[Metric, Family] = {}
        for sample in self._samples:
            family = families.get(sample.metric)
            if family is None:
                family = families[sample.metric] = _family(sample.metric)
            _add(family, sample)
        return sorted(families.values(), key=lambda family: family.name)


def _family(metric: Metric) -> Family:
    match metric.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(metric.full_name, metric.about, labels=metric.labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(metric.full_name, metric.about, labels=metric.labels)
    return HistogramMetricFamily(metric.full_name, metric.about, labels=metric.labels)


def _add(family: Family, sample: Sample) -> None:
    match family, sample.value:
        case HistogramMetricFamily(), Distribution(bounds=bounds, counts=counts, total=total):
            so_far, steps = 0, list[tuple[str, float]]()
            for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
                so_far += count
                steps.append((bound, so_far))
            family.add_metric(sample.labels, steps, total)
        case CounterMetricFamily() | GaugeMetricFamily(), float() | int() as value:
            family.add_metric(sample.labels, value)
        case _:
            raise TypeError(f"{sample.metric.full_name} is a {sample.metric.kind}")


def process_registry() -> CollectorRegistry:
    """What is to be known of any Python process: memory, descriptors, time of the processor, collections of garbage."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


async def page(metrics: Metrics, process: CollectorRegistry) -> bytes:
    """Everything that this process has to tell."""
    return generate_latest(_Gathered(await metrics.samples())) + generate_latest(process)


def endpoint(metrics: Metrics) -> Route:
    """`GET /metrics`. Public, as the contract has it: let no proxy lead there from outside."""
    process = process_registry()

    async def show(_: Request) -> Response:
        return Response(await page(metrics, process), media_type=CONTENT_TYPE)

    return Route("/metrics", show, methods=["GET"])


# --- a server for processes without an API ---------------------------------------------------------------------------


@asynccontextmanager
async def serving_metrics(metrics: Metrics, listener: socket.socket | None, clock: Clock) -> AsyncIterator[None]:
    """Serves `/metrics` and `/healthz` on an open listening socket while the block runs; None: nowhere.

    uvicorn's protocol without its server: that would take the process's signals, and wake it ten times a second.
    """
    if listener is None:
        yield
        return

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    app = Starlette(routes=[endpoint(metrics), Route("/healthz", healthz, methods=["GET"])])
    config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, config=config, server_state=state, app_state={}), sock=listener)
    try:
        async with lateness_shown(metrics, clock):
            yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()


# --- one page of all processes ---------------------------------------------------------------------------------------


class AllProcesses:
    """The page of every process that the data folder names. Asked by many at once, it asks once."""

    def __init__(self, *, folder: Path, own: Metrics, client: httpx.AsyncClient, clock: Clock) -> None:
        """`own`: this process's, for a folder that names none."""
        self._file = folder / TARGETS_FILE
        self._own = own
        self._client = client
        self._clock = clock
        self._process = process_registry()
        self._asking = asyncio.Lock()
        self._page = b""
        self._until = 0.0  # monotonic

    def route(self) -> Route:
        """`GET /metrics/all`."""

        async def show(_: Request) -> Response:
            return Response(await self.page(), media_type=CONTENT_TYPE)

        return Route("/metrics/all", show, methods=["GET"])

    async def close(self) -> None:
        """Lets go of its connections."""
        await self._client.aclose()

    async def page(self) -> bytes:
        """At most `FRESH_SECONDS` old."""
        async with self._asking:
            if self._clock.monotonic() >= self._until:
                self._page = await self._gather()
                self._until = self._clock.monotonic() + FRESH_SECONDS
            return self._page

    async def _gather(self) -> bytes:
        targets = targets_in(self._file)
        if not targets:
            return merged({"self": await page(self._own, self._process)})
        pages = await asyncio.gather(*(self._ask(target.targets[0]) for target in targets))
        return merged({target.labels.get("process", target.targets[0]): told for target, told in zip(targets, pages, strict=True)})

    async def _ask(self, address: str) -> bytes | None:
        """None: it did not answer."""
        try:
            async with asyncio.timeout(PROCESS_SECONDS):
                answer = await self._client.get(f"http://{address}/metrics")
        except (httpx.HTTPError, TimeoutError, OSError):
            return None
        return answer.content if answer.status_code == 200 else None


def targets_in(file: Path) -> list[Target]:
    """The processes that a file names; none, if there is none."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[Target])
    except (OSError, msgspec.MsgspecError):
        return []
    return [target for target in found if target.targets][:MOST_TARGETS]


def merged(pages: Mapping[str, bytes | None]) -> bytes:
    """Several pages of `generate_latest` as one: each family once, each line with its process. RULE. None: that process is silent."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}  # head and lines by name
    for process, told in pages.items():
        label = b'process="%b"' % process.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        head, lines = list[bytes](), list[bytes]()
        for line in (told or b"").splitlines():
            if line.startswith(b"# HELP "):
                head, lines = families.setdefault(line.split(b" ", 3)[2], ([], []))
            if not line.startswith(b"#"):
                lines.append(_labelled(line, label))
            elif len(head) < 2:
                head.append(line)
    up = generate_latest(_Gathered(Sample(Metric.PROCESS_UP, (name,), told is not None) for name, told in pages.items()))
    return b"".join(b"\n".join([*head, *lines, b""]) for head, lines in families.values()) + up


def _labelled(line: bytes, label: bytes) -> bytes:
    named = _NAME.match(line)
    if named is None:
        return line
    rest = line[named.end() :]
    return b"%b{%b,%b" % (named[1], label, rest) if named[2] else b"%b{%b}%b" % (named[1], label, rest)
