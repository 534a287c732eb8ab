"""Makes `.venv` from a lock file, on a machine that has nothing but Python. `make` runs it as a script; it imports nothing of ours.

In: the name of a lock file, the ports that will be wanted. Out: a `.venv` that holds exactly what the lock names, and this project.
It does nothing when the lock was installed before. What is missing on the machine is one line that says how to mend it, and exit code 1.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
OLDEST, NEWEST = (3, 11), (3, 14)
OLDEST_GLIBC = (2, 28)
NEEDED_MB = {"requirements.lock": 700, "requirements-dev.lock": 1500}  # packages, pip's work, a data folder
CONTAINS = {"requirements-dev.lock": ("requirements.lock",)}  # whoever installed the left has the right, too


class Missing(Exception):
    """The message is one plain line: what is missing, how to mend it."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Installs the locked dependencies into .venv.")
    parser.add_argument("lock", choices=sorted(NEEDED_MB))
    parser.add_argument("--ports", type=int, nargs="*", default=[], help="ports that must be free")
    asked = parser.parse_args(arguments)
    try:
        check_python(sys.version_info[:2])
        check_platform(sys.platform, platform.machine(), platform.libc_ver())
        check_ports(asked.ports)
        with Path("requirements.lock").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two `make` at once: the second waits, and finds the work done
            if not installed(asked.lock):
                check_venv()
                check_disk(NEEDED_MB[asked.lock])
                install(asked.lock)
    except Missing as exc:
        print(f"moa: {exc}", file=sys.stderr)
        return 1
    return 0


def check_python(version: tuple[int, int]) -> None:
    if not OLDEST <= version <= NEWEST:
        raise Missing(
            f"Python {version[0]}.{version[1]} is not supported: install Python 3.11 to 3.14, or name one: make PYTHON=/path/to/python3"
        )


def check_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Missing(f"{sys.executable} has no venv module: install it (Debian, Ubuntu: apt install python{version}-venv)")


def check_platform(system: str, machine: str, libc: tuple[str, str]) -> None:
    """The locked wheels hold the engines' binaries; they exist for these platforms only."""
    if system == "darwin" and machine == "arm64":
        return
    known = system == "linux" and machine in {"x86_64", "aarch64"} and libc[0] == "glibc"
    if not known or tuple(int(part) for part in libc[1].split(".")[:2]) < OLDEST_GLIBC:
        raise Missing("there are no embedded engines for this platform: use Linux with glibc 2.28 or newer, or macOS 11 or newer on arm64")


def check_disk(needed_mb: int) -> None:
    free_mb = shutil.disk_usage(".").free // (1024 * 1024)
    if free_mb < needed_mb:
        raise Missing(f"{Path.cwd()} has {free_mb} MB free and {needed_mb} MB are needed: make room")


def check_ports(ports: Sequence[int]) -> None:
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as exc:
            raise Missing(
                f"port {port} cannot be had ({exc.strerror}): stop what listens there, or run .venv/bin/moa up --port … --sandbox-port …"
            ) from exc


def installed(lock: str) -> bool:
    """Whether `.venv` has this very lock."""
    stamp = _stamp(lock)
    return PYTHON.exists() and stamp.exists() and stamp.read_text(encoding="ascii") == _fingerprint(lock)


def install(lock: str) -> None:
    """Makes `.venv` if there is no usable one, installs, and remembers what was installed."""
    if not (PYTHON.exists() and _quietly(str(PYTHON), "-m", "pip", "--version") == 0):
        print("making .venv …", flush=True)
        _run("cannot make .venv; remove it and try again", sys.executable, "-m", "venv", "--clear", str(VENV))
    for stamp in VENV.glob(".installed-*"):
        stamp.unlink()
    print(f"installing {lock} …", flush=True)
    pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    _run("cannot install the dependencies; is a package registry reachable?", *pip, "--require-hashes", "-r", lock)
    _run("cannot install the project itself", *pip, "--no-deps", "--no-build-isolation", "-e", ".")
    for known in (lock, *CONTAINS.get(lock, ())):
        _stamp(known).write_text(_fingerprint(known), encoding="ascii")


def _stamp(lock: str) -> Path:
    return VENV / f".installed-{lock}"


def _fingerprint(lock: str) -> str:
    return hashlib.sha256(Path(lock).read_bytes() + Path("pyproject.toml").read_bytes()).hexdigest()


def _quietly(*command: str) -> int:
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def _run(fault: str, *command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET"}}
    if subprocess.run(command, check=False, env=environment).returncode != 0:
        raise Missing(fault)


if __name__ == "__main__":
    sys.exit(main())
