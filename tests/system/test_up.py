"""`moa up` as a whole: it comes up, a person registers, it goes away, and nothing of it stays behind."""

from __future__ import annotations

import os
import pty
import signal
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.settings import RUNNING_FILE, Settings, load_settings

pytestmark = pytest.mark.system

INDUSTRIES = {"bank", "card", "invest", "insu", "efin", "capital", "telecom"}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOA_")]:
        monkeypatch.delenv(name)


def client(settings: Settings, url: str, user: str) -> httpx.Client:
    token = development_token(settings, user=user, ops=False, ttl=600, now=SystemClock().now())
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=15)


def test_a_person_registers_everywhere_and_ctrl_c_leaves_no_process(up, alive) -> None:
    system = up("--apis", "2", "--workers", "2")
    url = system.ready()
    settings = load_settings(system.data)
    other = next(line.split()[1].rstrip("/") for line in system.said.splitlines() if line.startswith("also "))
    with client(settings, url, "alice") as here, client(settings, other, "alice") as there:
        providers = here.get("/v1/providers").json()["providers"]
        assert {provider["industry"] for provider in providers} == INDUSTRIES
        accepted = here.post("/v1/registrations", json={"providers": [provider["org_code"] for provider in providers]})
        assert accepted.status_code == 202
        events = followed(there, accepted.json()["position"])
        registration = there.get(accepted.headers["location"]).json()
    assert registration["status"] == "completed", system.said
    assert {provider["status"] for provider in registration["providers"]} == {"completed"}
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    assert "Traceback" not in system.said

    processes = system.processes()
    assert len(processes) > 9
    assert system.ends(signal.SIGINT) == 0
    assert alive(processes) == set()
    assert not (system.data / RUNNING_FILE).exists()
    assert "Traceback" not in system.said


def followed(api: httpx.Client, position: dict[str, object]) -> list[dict[str, object]]:
    """Every event from the beginning to `registration.completed`, by poll."""
    events: list[dict[str, object]] = []
    since, deadline = f"{position['epoch']}:0", time.monotonic() + 60
    while not any(event["type"] == "registration.completed" for event in events):
        assert time.monotonic() < deadline, [event["type"] for event in events]
        answer = api.get("/v1/events", params={"since": since, "wait": "5"}).json()
        events += answer["events"]
        since = f"{answer['epoch']}:{answer['offset']}"
    return events


def test_a_second_one_is_refused_while_a_killed_ones_engines_are_taken_over(up, alive) -> None:
    first = up()
    first.ready()
    assert stat.S_IMODE((first.data / RUNNING_FILE).stat().st_mode) == 0o600
    second = up()
    assert second.process.wait(30) == 1
    assert f"already runs in {first.data} (process {first.process.pid})" in second.said
    assert second.said.count("\n") == 1

    processes, engines = first.processes(), first.engines()
    assert len(engines) == 2
    first.process.kill()
    first.process.wait()
    first.until(lambda: not alive(processes - first.all_of_engines()))

    third = up()
    third.ready()
    assert third.said.count("taken over") == 2
    assert third.engines() == engines
    rest = third.processes()
    assert third.ends(signal.SIGTERM) == 0
    assert alive(rest) == set()


@pytest.mark.long
def test_what_dies_is_started_again_and_said(up) -> None:
    system = up()
    url = system.ready()
    api = next(pid for pid in system.processes() if b"\0api\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(api, signal.SIGKILL)
    system.until(lambda: "api-1 ended (SIGKILL); starting it again" in system.said)
    system.until(lambda: httpx.get(f"{url}/readyz", timeout=15).status_code == 200)
    for engine in system.engines():
        os.kill(engine, signal.SIGKILL)
    system.until(lambda: "PostgreSQL ended; starting it again" in system.said and "Valkey ended; starting it again" in system.said)
    system.until(lambda: httpx.get(f"{url}/readyz", timeout=15).status_code == 200)
    assert system.ends(signal.SIGINT) == 0


def test_a_stop_while_it_is_still_starting_leaves_nothing(up, alive) -> None:
    system = up()
    system.until((system.data / "run" / "postgres.json").exists)
    processes = system.processes()
    assert system.ends(signal.SIGINT) == 0
    assert alive(processes) == set()


def test_while_it_ends_its_ports_answer_or_refuse(up) -> None:
    system = up()
    url = system.ready()
    sandbox = next(line.split()[1].rstrip("/") for line in system.said.splitlines() if line.startswith("sandbox "))
    system.process.send_signal(signal.SIGTERM)
    seen: dict[str, set[object]] = {url: set(), sandbox: set()}
    while system.process.poll() is None:
        for asked, answers in seen.items():
            answers.add(_outcome(f"{asked}/readyz"))
    assert seen[url] <= {200, 503, "refused"}
    assert seen[sandbox] <= {404, "refused"}
    assert "refused" in seen[url], "the engines end last"


def _outcome(url: str) -> object:
    began = time.monotonic()
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.ConnectError:
        return "refused"
    except (httpx.ReadError, httpx.RemoteProtocolError):  # it was let in just as the socket was closed, or by one that never answers
        return "refused" if time.monotonic() - began < 0.3 else "silence"


@pytest.mark.long
def test_a_terminal_that_is_closed_takes_everything_along(up, alive) -> None:
    terminal, slave = pty.openpty()
    system = up(output=slave)
    os.close(slave)
    said = b""
    while b"ready http" not in said:
        said += os.read(terminal, 65536)
    processes = system.processes()
    os.close(terminal)
    assert system.ends(signal.SIGHUP) == 0
    assert alive(processes) == set()


@pytest.mark.long
def test_engines_of_ones_own_are_used_and_none_is_embedded(up, database_url: str, valkey_url: str) -> None:
    system = up(MOA_DATABASE_URL=database_url, MOA_VALKEY_URL=valkey_url)
    url = system.ready()
    assert system.engines() == set()
    assert not (system.data / "postgres").exists()
    with client(load_settings(system.data), url, "alice") as api:
        provider = api.get("/v1/providers").json()["providers"][0]["org_code"]
        accepted = api.post("/v1/registrations", json={"providers": [provider]})
        assert followed(api, accepted.json()["position"])[-1]["type"] == "registration.completed"
    assert system.ends(signal.SIGTERM) == 0


def test_a_port_that_is_taken_is_said_before_anything_starts(up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        system = up("--port", str(port))
        assert system.process.wait(30) == 1
    assert system.said.startswith(f"moa: port {port} ")
    assert system.said.count("\n") == 1
    assert system.engines() == set()
