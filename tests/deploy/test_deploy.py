"""What deploy/ names exists, what it says is read by the tools that it is for, and operators find a section for each alert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.metrics import Kind, Metric
from backend.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
SECTIONS = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
UNITS = sorted((DEPLOY / "systemd").iterdir())
DRAIN = 30  # seconds, the contract's
OURS = {"api", "worker-interactive", "worker-batch", "coordinator"}


def series() -> set[str]:
    """Every name that a process may show."""
    return {
        f"{metric.full_name}{suffix}"
        for metric in Metric
        for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
    }


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "moa.json").read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [rule["expr"] for rule in RULES] + targets + [each["expr"] for each in dashboard["annotations"]["list"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_asked_for_exists_with_its_labels(expression: str) -> None:
    names = set(re.findall(r"\bmoa_[a-z_]+", expression))
    assert names <= series()
    known = {label for metric in Metric if re.sub("_(bucket|sum|count)$", "", metric.full_name) in expression for label in metric.labels}
    known |= {"le", "alertname", "alertstate", "job", "instance", "process"}
    asked = set(re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!~|!=|=)", expression))
    for listed in re.findall(r"(?:by|without)\s*\(([^)]*)\)", expression):
        asked |= {label.strip() for label in listed.split(",")}
    assert asked <= known


def test_the_test_of_the_rules_uses_no_series_that_nobody_shows() -> None:
    assert set(re.findall(r"series: '(moa_[a-z_]+)", (PROMETHEUS / "rules_test.yml").read_text())) <= series()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_its_section_its_words_and_its_test(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert SECTIONS.count(name) == 1
    assert rule["annotations"]["runbook"].endswith(f"docs/operations.md#{name.lower()}")
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert f'alertname="{name}"' in (PROMETHEUS / "rules_test.yml").read_text()


def test_no_section_is_about_an_alert_that_is_gone() -> None:
    assert {section for section in SECTIONS if section.startswith("Moa")} == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_passes_them(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on this machine: install the package prometheus to examine the rules")
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "@" in unit.name], ids=lambda unit: unit.name)
def test_a_unit_leaves_time_for_a_drain_and_little_else(unit: Path) -> None:
    text = unit.read_text()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0]) > DRAIN >= Settings.model_fields["drain_seconds"].default
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "CapabilityBoundingSet=", "User=moa", "Restart=always"):
        assert f"\n{line}\n" in text


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/moa/bin/moa", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_fleet_of_containers_is_whole_and_stops_gently() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services.keys() == OURS | {"postgres", "valkey", "migrate", "prometheus", "grafana"}
    for name in OURS:
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > DRAIN
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
    [job] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert {name for found in job["dns_sd_configs"] for name in found["names"]} == OURS


@pytest.mark.parametrize("file", ["Containerfile", "compose.yaml", "moa.env.example", *(f"systemd/{unit.name}" for unit in UNITS)])
def test_every_setting_that_is_named_exists(file: str) -> None:
    ours = {f"MOA_{name.upper()}" for name in Settings.model_fields} | {"MOA_POSTGRES_PASSWORD", "MOA_GRAFANA_PASSWORD"}  # compose's own
    assert set(re.findall(r"\bMOA_[A-Z_]+", (DEPLOY / file).read_text())) <= ours


def test_the_image_runs_as_nobody_in_particular_from_the_lock() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "--require-hashes -r requirements.lock" in text
    assert all(image.startswith("python:") for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
