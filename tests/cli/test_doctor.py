from __future__ import annotations

from pathlib import Path

import pytest

from backend.cli.datafolder import DataFolder
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
