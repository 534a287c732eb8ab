from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest

from backend.cli.datafolder import DataFolder
from backend.engines.process import started
from backend.settings import SECRETS_FILE


@pytest.fixture
def running(data: Path, database_url: str, valkey_url: str) -> Path:
    """A data folder as `moa up` would leave it while it runs."""
    folder = DataFolder(data)
    folder.make_secrets()
    folder.say_where({"MOA_DATABASE_URL": database_url, "MOA_VALKEY_URL": valkey_url})
    return data


def test_a_healthy_system_is_all_well(moa, running: Path) -> None:
    said = moa("doctor", "--data", str(running))
    assert said.code == 0
    assert "!!" not in said.out
    assert "PostgreSQL 18" in said.out
    assert "keeps its data" in said.out


def test_a_folder_where_nothing_ever_ran_is_told_what_to_do(moa, data: Path) -> None:
    said = moa("doctor", "--data", str(data))
    assert said.code == 1
    assert "run `moa up` once" in said.out


def test_an_empty_database_is_told_to_be_migrated(moa, running: Path, monkeypatch: pytest.MonkeyPatch, empty_database_url: str) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", empty_database_url)
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert "moa migrate" in said.out


def test_engines_that_are_away_are_found(moa, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", "postgresql://moa:hidden@127.0.0.1:1/moa")
    monkeypatch.setenv("MOA_VALKEY_URL", "redis://:hidden@127.0.0.1:1")
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert said.out.count("does not answer") == 2
    assert "hidden" not in said.out + said.err


def test_secrets_that_others_may_read_are_found(moa, running: Path) -> None:
    (running / SECRETS_FILE).chmod(0o644)
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert "chmod 600" in said.out


def test_a_short_secret_is_found_and_not_shown(moa, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_JWT_SECRET", "too-short")
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert "MOA_JWT_SECRET is shorter" in said.out
    assert "too-short" not in said.out


def test_a_channel_that_cannot_be_called_is_found_and_not_shown(moa, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_NOTICE_WEBHOOKS", "https://hooks.example/a, http://hooks.example/hidden")
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert "MOA_NOTICE_WEBHOOKS, number 2: https is needed" in said.out
    assert "hidden" not in said.out


def test_a_setting_that_does_not_fit_is_a_finding(moa, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_PORT", "nowhere")
    said = moa("doctor", "--data", str(running))
    assert said.code == 1
    assert "MOA_PORT" in said.out


def test_engines_that_a_killed_moa_up_left_are_found_with_how_to_end_them(moa, running: Path) -> None:
    """This process stands for a server: it is on record, and lives."""
    record = {"pid": os.getpid(), "started": started(os.getpid())}
    (running / "run").mkdir(exist_ok=True)
    (running / "run" / "postgres.json").write_text(json.dumps(record), "utf-8")
    said = moa("doctor", "--data", str(running))
    words = " ".join(said.out.split())
    assert said.code == 1
    assert f"PostgreSQL (process {os.getpid()}) running" in words
    assert "The next `moa up` there takes over what runs" in words
    assert f"kill -INT {os.getpid()}" in words
    assert "Valkey (process" not in words

    (running / "run" / "postgres.json").write_text(json.dumps({**record, "started": "another boot"}), "utf-8")
    assert moa("doctor", "--data", str(running)).code == 0, "another process has its number now"


def test_folders_of_old_clusters_are_counted_and_one_is_named(moa, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = [(Path(f"/var/lib/moa/{number:016x}"), f"/old/{number}") for number in range(40)]
    monkeypatch.setattr(importlib.import_module("backend.cli.doctor"), "abandoned_homes", lambda: homes)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    words = " ".join(moa("doctor", "--data", str(running)).out.split())
    assert "was made for /old/0, which" in words
    assert "like 39 more there" in words
    assert "/old/1," not in words
