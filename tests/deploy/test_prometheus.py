"""Prometheus itself scrapes a running system, as `moa up` writes down where its processes are, and evaluates our rules."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from backend.settings import TARGETS_FILE
from tests.deploy.test_deploy import PROMETHEUS
from tests.running import Running

pytestmark = [pytest.mark.system, pytest.mark.long]

PATIENCE = 60.0
BANK = "A1MOABK001"
FOR = {"MoaCircuitOpen": 60.0}  # seconds that it lasts before it is told: the rules are as they are shipped


class Prometheus:
    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def asked(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Values by labels."""
        found = self.http.get("/query", params={"query": expression}).json()["data"]["result"]
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in found}

    def alerts(self) -> set[tuple[str, str]]:
        """Names of those that are about to fire, or do, with their state."""
        return {(each["labels"]["alertname"], each["state"]) for each in self.http.get("/alerts").json()["data"]["alerts"]}

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.alerts()
            time.sleep(0.2)  # other processes are at work: real time is what passes here


@pytest.fixture
def prometheus(running: Running, tmp_path: Path) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("no Prometheus on this machine: install the package prometheus to see it scrape")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["file_sd_configs"][0]["files"] = [str(running.data / TARGETS_FILE)]
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=10) as http:
            here = Prometheus(http)
            here.until(lambda: _answers(f"http://{address}/-/ready"))
            yield here
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_every_process_is_scraped_the_rules_run_and_a_dead_bank_is_told(prometheus: Prometheus, running: Running) -> None:
    prometheus.until(lambda: set(prometheus.asked('up{job="moa"}').values()) == {1.0} and len(prometheus.asked("moa_info")) == 4)
    names = {"api-1", "coordinator", "worker-1", "worker-batch"}
    assert {dict(labels)["process"] for labels in prometheus.asked("moa_info")} == names
    groups = prometheus.http.get("/rules").json()["data"]["groups"]
    prometheus.until(
        lambda: all(rule["health"] == "ok" for group in prometheus.http.get("/rules").json()["data"]["groups"] for rule in group["rules"])
    )
    assert sum(len(group["rules"]) for group in groups) > 20
    others = {"MoaLostWork", "MoaOperatorsDenied"}  # of other tests, which may have killed and tried
    prometheus.until(lambda: {name for name, _ in prometheus.alerts()} <= others)

    prometheus.until(lambda: {dict(labels)["process"] for labels in prometheus.asked("moa_loop_lag_seconds_count > 10")} == names)
    late = prometheus.asked("histogram_quantile(0.5, sum by (le) (moa_loop_lag_seconds_bucket))")
    assert 0 <= late[frozenset()] < 0.5
    assert {dict(labels)["to"] for labels in prometheus.asked("moa_webhook_oldest_seconds")} == {"app", "operators"}

    running.force(BANK, "forced_open")
    try:
        prometheus.until(lambda: ("MoaCircuitOpen", "pending") in prometheus.alerts())
        prometheus.until(lambda: ("MoaCircuitOpen", "firing") in prometheus.alerts(), FOR["MoaCircuitOpen"] + PATIENCE)
        opened = prometheus.asked(f'max by (org_code, scope) (moa_circuit_state{{org_code="{BANK}"}})')
        assert set(opened.values()) == {2.0}
    finally:
        running.force(BANK, "auto")
    prometheus.until(lambda: "MoaCircuitOpen" not in {name for name, _ in prometheus.alerts()})
