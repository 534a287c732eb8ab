"""One whole system for all tests that only want to use it: started once per session by `moa up`, told to end when the session is over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.engines import erase_postgres
from backend.settings import Settings, load_settings

PATIENCE = 90.0  # seconds
QUICK = {  # a provider that rests is asked again soon, and called by all as soon as it answers
    "MOA_DEFER_SECONDS": "1",
    "MOA_CIRCUIT_WAIT_MS": "500",
    "MOA_CIRCUIT_LONGEST_WAIT_MS": "1000",
    "MOA_CIRCUIT_MAINTENANCE_MS": "1000",
    "MOA_CIRCUIT_RAMP_MS": "0",
    "MOA_BATCH_AUTOMATIC": "false",  # tests run at any hour, also while transfer windows are open
}


@dataclass(frozen=True)
class Running:
    """Where it is, and how its sandbox is steered."""

    data: Path

    @property
    def settings(self) -> Settings:
        return load_settings(self.data)

    @property
    def url(self) -> str:
        return self.settings.api_url

    def sandbox(self, path: str, **change: Any) -> None:
        """Changes a provider (`providers/<org_code>`) or the CA (`ca`)."""
        httpx.put(f"{self.settings.sandbox_url}/sandbox/{path}", json=change).raise_for_status()

    def reset(self) -> None:
        """The sandbox as at the start, and every circuit closed that nobody forced."""
        httpx.post(f"{self.settings.sandbox_url}/sandbox/reset").raise_for_status()
        deadline = time.monotonic() + PATIENCE
        while any(breaker["state"] != "closed" and breaker["mode"] == "auto" for breaker in self.breakers()):
            assert time.monotonic() < deadline, self.breakers()
            time.sleep(0.1)  # a probe is on its way: real time is what passes here

    def breakers(self) -> list[dict[str, Any]]:
        """As an operator sees them."""
        answer = httpx.get(f"{self.url}/ops/breakers", headers=self.as_operator)
        return list(answer.raise_for_status().json()["breakers"])

    def force(self, org_code: str, mode: str) -> None:
        """What an operator sets for an institution's circuits."""
        asked = {"mode": mode, "reason": "a test"}
        httpx.put(f"{self.url}/ops/breakers/{org_code}", json=asked, headers=self.as_operator).raise_for_status()

    @property
    def as_operator(self) -> dict[str, str]:
        """Headers of somebody who may."""
        token = development_token(self.settings, user="tests", ops=True, ttl=60, now=SystemClock().now())
        return {"Authorization": f"Bearer {token}"}


@contextmanager
def running_system() -> Iterator[Running]:
    """Starts one on free ports in a folder of its own; afterwards nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="moa-system-"))
    log = folder / "up.log"
    command = [sys.executable, "-m", "backend.cli", "up", "--port", "0", "--sandbox-port", "0", "--data", str(folder / "m")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")} | QUICK
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, cwd=folder)
    try:
        deadline = time.monotonic() + PATIENCE
        while "\nready " not in log.read_text(encoding="utf-8", errors="replace"):
            assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8", errors="replace")
            time.sleep(0.1)  # another process is at work: real time is what passes here
        yield Running(folder / "m")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        erase_postgres(folder / "m")
        shutil.rmtree(folder, ignore_errors=True)
