"""Failpoints strike at the passage that was named, in the process that was named, and never in production."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend import failpoints
from backend.failpoints import Charge, Deed, Failpoint, arm, parse
from backend.settings import Settings


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def test_without_a_word_a_passage_is_a_function_that_does_nothing() -> None:
    arm("")
    assert failpoints.reached is failpoints._nothing
    for place in Failpoint:
        failpoints.reached(place)


def test_it_strikes_once_at_the_passage_that_was_named() -> None:
    struck: list[signal.Signals] = []
    arm("commit.before=kill:3, job.before_ack=pause", struck.append)
    for _ in range(5):
        failpoints.reached(Failpoint.COMMIT_BEFORE)
        failpoints.reached(Failpoint.COLLECT_ANSWERED)
    assert struck == [signal.SIGKILL]
    failpoints.reached(Failpoint.JOB_BEFORE_ACK)
    assert struck == [signal.SIGKILL, signal.SIGSTOP]


def test_each_place_has_one_charge() -> None:
    assert parse("token.answered=kill:2,sign.answered=pause") == {
        Failpoint.TOKEN_ANSWERED: Charge(Deed.KILL, 2),
        Failpoint.SIGN_ANSWERED: Charge(Deed.PAUSE, 1),
    }


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "commit.before", "commit.before=hurt", "commit.before=kill:0", "commit.before=kill:x", ","]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="part 1 is not"):
        parse(text)
    with pytest.raises(ValidationError, match="part 1 is not"):
        Settings(_env_file=None, failpoints=text)


def test_each_place_is_somewhere_in_the_code() -> None:
    backend = Path(failpoints.__file__).parent
    code = "".join(file.read_text("utf-8") for file in backend.rglob("*.py"))
    assert {place.name for place in Failpoint if code.count(f"failpoints.reached(Failpoint.{place.name})") != 1} == set()


def test_production_refuses_failpoints() -> None:
    assert Settings(_env_file=None, environment="production").failpoints == ""
    with pytest.raises(ValidationError, match="only development has failpoints"):
        Settings(_env_file=None, environment="production", failpoints="commit.before=kill")


def test_a_command_refuses_them_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "MOA_ENVIRONMENT": "production", "MOA_FAILPOINTS": "commit.before=kill"}
    command = (sys.executable, "-m", "backend.cli", "worker", "--data", str(tmp_path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == "moa: MOA_FAILPOINTS: Value error, only development has failpoints\n"


def test_the_process_is_really_killed() -> None:
    script = "from backend import failpoints as f; f.arm('commit.before=kill:2'); [f.reached(f.Failpoint.COMMIT_BEFORE) for _ in 'ab']"
    done = subprocess.run((sys.executable, "-c", script), timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
