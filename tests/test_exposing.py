"""The page of a process, the server of one without an API, and one page of all: what Prometheus itself would read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.cli.serving import listen
from backend.clock import SystemClock
from backend.exposing import AllProcesses, merged, page, process_registry, serving_metrics
from backend.metrics import Metric, Metrics
from backend.settings import TARGETS_FILE
from tests.running import Running


def figures(text: bytes) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Values by sample name and labels; a name whose lines do not stand together is told."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        assert frozenset(sample.labels.items()) not in found.setdefault(sample.name, {}), sample
        found[sample.name][frozenset(sample.labels.items())] = sample.value
    return found


def told(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


async def test_a_page_has_every_kind_and_the_process_itself() -> None:
    metrics = Metrics()
    metrics.count(Metric.JOBS, "batch", 'a "name"', "done")
    metrics.set(Metric.QUEUE_OLDEST, "batch", to=1.5)
    metrics.observe(Metric.HTTP_SECONDS, "GET", "/", value=0.2)
    shown = figures(await page(metrics, process_registry()))
    assert shown["moa_jobs_total"] == {told(queue="batch", job='a "name"', outcome="done"): 1}
    assert shown["moa_queue_oldest_seconds"] == {told(queue="batch"): 1.5}
    buckets = shown["moa_http_request_duration_seconds_bucket"]
    assert buckets[told(method="GET", route="/", le="0.1")] == 0
    assert buckets[told(method="GET", route="/", le="0.25")] == buckets[told(method="GET", route="/", le="+Inf")] == 1
    assert shown["process_start_time_seconds"]


async def test_pages_become_one_with_the_process_on_every_line() -> None:
    one, other = Metrics(), Metrics()
    for metrics, jobs in ((one, 3), (other, 4)):
        metrics.count(Metric.JOBS, "batch", "collect", "done", by=jobs)
        metrics.set(Metric.LEADER, to=jobs % 2)
        metrics.observe(Metric.HTTP_SECONDS, "GET", "/", value=0.2)
    pages = {name: await page(each, process_registry()) for name, each in (("one", one), ("other", other))}
    shown = figures(merged({**pages, "silent": None}))
    assert shown["moa_jobs_total"] == {
        told(process="one", queue="batch", job="collect", outcome="done"): 3,
        told(process="other", queue="batch", job="collect", outcome="done"): 4,
    }
    assert shown["moa_leader"] == {told(process="one"): 1, told(process="other"): 0}
    assert shown["moa_process_up"] == {told(process="one"): 1, told(process="other"): 1, told(process="silent"): 0}


async def test_a_process_without_an_api_is_reached_and_lets_go_of_its_port() -> None:
    metrics, listener = Metrics(), listen("127.0.0.1", 0)
    metrics.set(Metric.LEADER, to=1)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with serving_metrics(metrics, listener, SystemClock()), httpx.AsyncClient(base_url=address) as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert figures(answer.content)["moa_leader"] == {told(): 1}
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.post("/metrics")).status_code == 405
    async with httpx.AsyncClient(base_url=address) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/metrics")


async def test_many_who_ask_for_all_ask_each_process_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.netloc.decode())
        if request.url.port == 2:
            raise httpx.ConnectError("gone")
        return httpx.Response(200, content=b"# HELP moa_leader x.\n# TYPE moa_leader gauge\nmoa_leader 1.0\n")

    targets = [{"targets": [f"127.0.0.1:{port}"], "labels": {"process": f"p{port}"}} for port in (1, 2)]
    (tmp_path / TARGETS_FILE).write_text(json.dumps(targets))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        everybody = AllProcesses(folder=tmp_path, own=Metrics(), client=client, clock=SystemClock())
        pages = await asyncio.gather(*(everybody.page() for _ in range(20)))
    assert sorted(asked) == ["127.0.0.1:1", "127.0.0.1:2"]
    shown = figures(pages[0])
    assert set(pages) == {pages[0]}
    assert shown["moa_leader"] == {told(process="p1"): 1}
    assert shown["moa_process_up"] == {told(process="p1"): 1, told(process="p2"): 0}


@pytest.mark.parametrize("content", [None, "[", '[{"targets": []}]', '{"a": 1}'])
async def test_without_a_word_of_others_the_process_shows_itself(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / TARGETS_FILE).write_text(content)
    metrics = Metrics()
    metrics.set(Metric.LEADER, to=1)
    async with httpx.AsyncClient() as client:
        everybody = AllProcesses(folder=tmp_path, own=metrics, client=client, clock=SystemClock())
        assert figures(await everybody.page())["moa_leader"] == {told(process="self"): 1}


@pytest.mark.system
async def test_one_page_of_a_running_system_has_all_of_its_processes(running: Running) -> None:
    processes = {"api-1", "coordinator", "worker-1", "worker-batch"}
    async with httpx.AsyncClient(base_url=running.url, timeout=15) as client:
        shown = figures((await client.get("/metrics/all")).content)
        alone = figures((await client.get("/metrics")).content)
    assert {dict(labels)["process"] for labels in shown["moa_info"]} == processes
    assert set(shown["moa_process_up"].values()) == {1}
    assert set(shown["moa_metrics_sources_failed"].values()) == {0}
    assert set(shown["moa_engine_up"].values()) == {1}
    assert sum(shown["moa_leader"].values()) == 1
    assert {dict(labels)["queue"] for labels in shown["moa_queue_jobs"]} == {"interactive", "batch"}
    assert shown["moa_outbox_oldest_seconds"]
    assert {dict(labels)["to"] for labels in shown["moa_webhook_oldest_seconds"]} == {"app", "operators"}
    assert alone["moa_http_requests_total"][told(method="GET", route="/metrics/all", status="200")] >= 1
    known = {metric.full_name for metric in Metric}
    names = {name for name in shown if name.startswith("moa_")}
    assert {name for name in names if name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") not in known} == set()
