from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from backend.cli import bootstrap
from backend.cli.preflight import NotReady, check_disk, check_platform, check_python
from backend.cli.serving import PortTaken, listen


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_a_supported_python_is_fine(version: tuple[int, int]) -> None:
    check_python(version)
    bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_another_python_is_told_which_one_to_install(version: tuple[int, int]) -> None:
    with pytest.raises(NotReady, match=r"3\.11 to 3\.14"):
        check_python(version)
    with pytest.raises(bootstrap.Missing, match=r"install Python 3\.11 to 3\.14"):
        bootstrap.check_python(version)


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [("linux", "x86_64", ("glibc", "2.28")), ("linux", "aarch64", ("glibc", "2.41")), ("darwin", "arm64", ("", ""))],
)
def test_platforms_with_wheels_are_fine(system: str, machine: str, libc: tuple[str, str]) -> None:
    check_platform(system, libc)
    bootstrap.check_platform(system, machine, libc)


@pytest.mark.parametrize(
    ("system", "machine", "libc"), [("linux", "x86_64", ("", "")), ("linux", "x86_64", ("glibc", "2.17")), ("win32", "AMD64", ("", ""))]
)
def test_platforms_without_wheels_are_told_the_way_round(system: str, machine: str, libc: tuple[str, str]) -> None:
    with pytest.raises(NotReady, match="MOA_DATABASE_URL"):
        check_platform(system, libc)
    with pytest.raises(bootstrap.Missing, match="embedded engines"):
        bootstrap.check_platform(system, machine, libc)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    check_disk(tmp_path, needed=1)
    with pytest.raises(NotReady, match="make room"):
        check_disk(tmp_path, needed=1 << 60)


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as mine:
        port = mine.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            listen("127.0.0.1", port)
        with pytest.raises(bootstrap.Missing, match=f"port {port} cannot be had"):
            bootstrap.check_ports([port])
    bootstrap.check_ports([port])


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_ipv6_is_listened_on() -> None:
    with listen("::1", 0) as mine:
        assert mine.family == socket.AF_INET6


def test_a_lock_that_was_installed_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        Path(name).write_text("before\n")
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/python").symlink_to(sys.executable)
    assert not bootstrap.installed("requirements.lock")
    bootstrap._stamp("requirements.lock").write_text(bootstrap._fingerprint("requirements.lock"))
    assert bootstrap.installed("requirements.lock")
    Path("requirements.lock").write_text("after\n")
    assert not bootstrap.installed("requirements.lock")
