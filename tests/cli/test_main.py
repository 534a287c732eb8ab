"""What a person gets for a mistake: one plain line, the right exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROCESSES = [("api",), ("worker",), ("coordinator",), ("migrate",)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("up", "--port", "many"),
        ("up", "--port", "70000"),
        ("up", "--workers", "0"),
        ("up", "--bogus"),
        ("worker", "--queue", "slow"),
        ("token",),
        ("token", "--user", "alice", "--ttl", "0"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(moa, arguments: tuple[str, ...]) -> None:
    said = moa(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("moa: ")
    assert said.err.count("\n") == 1
    assert "moa --help" in said.err


@pytest.mark.parametrize(("arguments", "word"), [((), "coordinator"), (("keys",), "rotate"), (("--help",), "coordinator")])
def test_no_command_shows_what_there_is(moa, arguments: tuple[str, ...], word: str) -> None:
    said = moa(*arguments)
    assert (said.code, said.err) == (0, "")
    assert word in said.out
    assert said.out.startswith("Usage: moa")


@pytest.mark.parametrize("arguments", PROCESSES)
def test_a_process_without_engines_says_what_to_start(moa, data: Path, arguments: tuple[str, ...]) -> None:
    said = moa(*arguments, "--data", str(data))
    assert said.code == 1
    assert said.err == f"moa: no PostgreSQL is known: `moa up` is not running in {data}; start it, or set MOA_DATABASE_URL\n"


def test_an_url_of_another_database_is_refused(moa, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", "mysql://root:hidden@localhost/moa")
    said = moa("migrate", "--data", str(data))
    assert (said.code, said.err) == (1, "moa: MOA_DATABASE_URL must begin with postgresql:// or postgres://\n")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("MOA_DATABASE_URL", "postgresql://moa:hidden/word@db.example:5432/moa"),
        ("MOA_DATABASE_URL", "postgresql://moa:hidden#word@db.example/moa"),
        ("MOA_DATABASE_URL", "postgresql://moa@db.example:hidden/moa"),
        ("MOA_DATABASE_URL", "postgresql://moa@[::hidden/moa"),
        ("MOA_VALKEY_URL", "redis://:hidden/word@valkey.example:6379"),
    ],
)
@pytest.mark.parametrize("arguments", [("worker",), ("api", "--port", "0"), ("coordinator",)])
def test_an_url_that_cannot_be_read_is_said_in_one_line_without_it(
    moa, data: Path, monkeypatch: pytest.MonkeyPatch, variable: str, url: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", "postgresql://moa@one.example:5432,two.example/moa?host=/run")
    monkeypatch.setenv("MOA_VALKEY_URL", "redis://[::1]:6379/0")
    monkeypatch.setenv(variable, url)
    said = moa(*arguments, "--data", str(data))
    assert said.code == 1
    assert said.err.startswith(f"moa: {variable} cannot be read; ")
    assert said.err.count("\n") == 1
    assert "hidden" not in said.err


def test_an_engine_that_is_away_is_said_in_one_line(moa, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", "postgresql://moa:hidden@127.0.0.1:1/moa")
    said = moa("migrate", "--data", str(data))
    assert said.code == 1
    assert said.err.startswith("moa: ")
    assert said.err.count("\n") == 1
    assert "hidden" not in said.err


def test_a_wrong_password_is_said_in_one_line(moa, data: Path, monkeypatch: pytest.MonkeyPatch, empty_database_url: str) -> None:
    before, _, after = empty_database_url.partition("@")
    monkeypatch.setenv("MOA_DATABASE_URL", f"{before}wrong@{after}")
    said = moa("migrate", "--data", str(data))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "check MOA_DATABASE_URL" in said.err


def test_a_setting_that_does_not_fit_is_named_and_not_repeated(moa, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_PORT", "hidden-value")
    said = moa("settings", "--data", str(data))
    assert said.code == 1
    assert said.err.startswith("moa: MOA_PORT: ")
    assert "hidden-value" not in said.err


def test_an_output_without_korean_letters_is_no_reason_for_a_traceback(data: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    said = subprocess.run(
        [sys.executable, "-m", "backend.cli", "plan", "--users", "10", "--data", str(data)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, b"")
    assert b"A1MOABK001" in said.stdout
    assert said.stdout.isascii()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOA_ALERT_SECONDS", "inf"),
        ("MOA_CALL_DEADLINE", "inf"),
        ("MOA_CIRCUIT_FAILURE_RATE", "nan"),
        ("MOA_SIGNATURE_TTL", "1e18"),
        ("MOA_CERTIFICATE_DAYS", "9999999999"),
        ("MOA_HOST", ""),
        ("MOA_JWKS_URL", ""),
        ("MOA_CA_PENDING_CODE", ""),
        ("MOA_CLIENT_SECRET", ""),
    ],
)
def test_what_no_process_could_work_with_is_refused(moa, data: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    said = moa("settings", "--data", str(data))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"moa: {name}: ")


@pytest.mark.parametrize(("name", "value"), [("MOA_CIRCUIT_SIZE", "0"), ("MOA_CIRCUIT_LONGEST_WAIT_MS", "1"), ("MOA_BATCH_DAYS_SAID", "x")])
@pytest.mark.parametrize("process", ["worker", "coordinator"])
def test_rules_that_contradict_each_other_are_said_when_a_process_starts_and_not_when_it_leads(
    moa, data: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, process: str
) -> None:
    for needed, given in {
        "MOA_DATABASE_URL": "postgresql://moa@127.0.0.1:1/moa",
        "MOA_VALKEY_URL": "redis://127.0.0.1:1",
        "MOA_VAULT_KEYS": "k:" + "A" * 43 + "=",
        "MOA_ASSET_ID_SECRET": "x" * 32,
        name: value,
    }.items():
        monkeypatch.setenv(needed, given)
    said = moa(process, "--data", str(data))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"moa: {name}")


def test_migrate_brings_an_empty_database_up_to_date(moa, data: Path, monkeypatch: pytest.MonkeyPatch, empty_database_url: str) -> None:
    monkeypatch.setenv("MOA_DATABASE_URL", empty_database_url)
    for more in ("", f"{'&' if '?' in empty_database_url else '?'}sslmode=prefer"):  # as managed databases give their URLs
        monkeypatch.setenv("MOA_DATABASE_URL", empty_database_url + more)
        said = moa("migrate", "--data", str(data))
        assert (said.code, said.err) == (0, "")


def test_a_data_folder_that_cannot_be_made_is_said_in_one_line(moa, data: Path) -> None:
    data.touch()
    said = moa("up", "--port", "0", "--sandbox-port", "0", "--data", str(data / "below"))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "choose another with --data" in said.err
