from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from urllib.parse import urlsplit

import redis

from backend.engines import start_valkey


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    engine = start_valkey(tmp_path)
    with redis.Redis.from_url(engine.url) as client:
        client.set("kept", "yes")
    os.kill(engine.pid, signal.SIGKILL)
    while engine.alive():
        pass
    again = start_valkey(tmp_path)
    with redis.Redis.from_url(again.url) as client:
        assert client.get("kept") == b"yes"
        assert client.config_get("appendfsync", "appendonly") == {"appendfsync": "everysec", "appendonly": "yes"}
    again.stop()


def test_it_is_reached_by_its_private_socket_only(tmp_path: Path) -> None:
    engine = start_valkey(tmp_path / "m")
    path = Path(urlsplit(engine.url).path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with redis.Redis.from_url(engine.url) as client:
        assert client.config_get("port") == {"port": "0"}
    engine.stop()


def test_one_that_a_killed_parent_left_is_adopted_with_its_data(tmp_path: Path, killed_parent, end_later) -> None:
    pid, url = killed_parent("start_valkey", tmp_path)
    end_later(pid)
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    engine = start_valkey(tmp_path)
    assert (engine.pid, engine.adopted, engine.url) == (pid, True, url)
    engine.stop()
    assert not engine.alive()


def test_a_data_folder_with_a_very_long_path_works(tmp_path: Path) -> None:
    engine = start_valkey(tmp_path / ("x" * 120) / "m")
    with redis.Redis.from_url(engine.url) as client:
        assert client.ping()
    engine.stop()
    Path(urlsplit(engine.url).path).parent.rmdir()


def test_no_folder_above_gets_another_mode(tmp_path: Path, modes) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = modes(home)
    start_valkey(home / "m").stop()
    assert modes(home) == before
