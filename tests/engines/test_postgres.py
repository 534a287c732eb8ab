from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from backend.engines import erase_postgres, start_postgres
from backend.engines.account import abandoned_homes


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder under a home that is closed to others and has a long path."""
    home = tmp_path / ("long-" * 20) / "home"
    home.mkdir(parents=True, mode=0o700)
    yield home / "m"
    erase_postgres(home / "m")


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def sockets(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


async def test_what_was_committed_survives_a_kill_and_no_folder_above_is_opened(data: Path, modes) -> None:
    before = modes(data.parent)
    engine = start_postgres(data)
    await query(engine.url, "CREATE TABLE kept (word text)")
    await query(engine.url, "INSERT INTO kept VALUES ('yes')")
    os.kill(engine.pid, signal.SIGKILL)
    while engine.alive():
        pass
    again = start_postgres(data)
    assert await query(again.url, "SELECT word FROM kept") == "yes"
    again.stop()
    assert modes(data.parent) == before


async def test_it_is_durable_and_closed_to_others(data: Path) -> None:
    engine = start_postgres(data)
    try:
        for name, value in {"fsync": "on", "data_checksums": "on", "listen_addresses": "", "max_connections": "200"}.items():
            assert await query(engine.url, f"SHOW {name}") == value
        assert stat.S_IMODE(sockets(engine.url).stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "postgres.secret").stat().st_mode) == 0o600
        without_password = engine.url.replace(urlsplit(engine.url).password or "?", "guess")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(without_password, "SELECT 1")
    finally:
        engine.stop()


async def test_its_log_holds_no_value_of_a_row(data: Path) -> None:
    engine = start_postgres(data)
    await query(engine.url, "CREATE TABLE people (name text PRIMARY KEY)")
    await query(engine.url, "INSERT INTO people VALUES ('hidden-person')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await query(engine.url, "INSERT INTO people VALUES ('hidden-person')")
    engine.stop()
    log = (data / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "hidden-person" not in log


async def test_one_that_a_killed_parent_left_is_adopted(data: Path, killed_parent, end_later) -> None:
    pid, url = killed_parent("start_postgres", data)
    end_later(pid)
    engine = start_postgres(data)
    assert (engine.pid, engine.adopted, engine.url) == (pid, True, url)
    assert await query(engine.url, "SELECT 1") == 1
    engine.stop()
    assert not engine.alive()


async def test_a_first_start_that_was_killed_leaves_nothing_half_made(data: Path) -> None:
    engine = start_postgres(data)
    engine.stop()
    cluster = next((data / "postgres").resolve().rglob("PG_VERSION")).parent
    half = cluster.with_name(".part")
    shutil.move(cluster, half)
    (half / "PG_VERSION").unlink()
    again = start_postgres(data)
    assert await query(again.url, "SELECT 1") == 1
    again.stop()
    assert not half.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")
def test_as_root_it_runs_as_an_account_that_owns_nothing_else(data: Path) -> None:
    engine = start_postgres(data)
    try:
        owner = Path(f"/proc/{engine.pid}").stat().st_uid
        assert owner != 0
        assert (data / "postgres").resolve().parent == Path("/var/lib/moa")
        assert {path.stat().st_uid for path in (data / "postgres" / "cluster").rglob("*")} == {owner}
    finally:
        engine.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has homes elsewhere")
def test_a_cluster_whose_data_folder_was_removed_can_be_found(data: Path) -> None:
    start_postgres(data).stop()
    home = (data / "postgres").resolve()
    assert home not in [left for left, _ in abandoned_homes()]
    shutil.rmtree(data)
    assert (home, str(data)) in abandoned_homes()
    shutil.rmtree(home)
