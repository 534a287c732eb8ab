"""`moa breakers` and `moa providers` against a running system: what an operator sees, sets, and is told when it cannot be."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from backend.cli.boards import Row, breakers_table
from backend.cli.tokens import development_token
from backend.clock import SystemClock
from tests.running import Running

BANK, CARD = "A1MOABK004", "B1MOACD003"  # that no other test registers at: a circuit needs a while to be as before
CALM = "A1MOABK003"
NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def ops(running: Running, moa) -> Iterator[Callable[..., object]]:
    yield lambda *arguments: moa(*arguments, "--data", str(running.data))
    for org_code in (BANK, CARD):
        moa("breakers", "auto", org_code, "--reason", "after a test", "--data", str(running.data))


def lines_of(said, org_code: str) -> list[str]:
    return [line for line in said.out.splitlines() if org_code in line]


@pytest.mark.system
def test_in_a_pipe_every_circuit_is_shown_once(ops) -> None:
    said = ops("breakers")
    assert (said.code, said.err) == (0, "")
    assert [line.split()[2:5] for line in lines_of(said, CALM)] == [["read", "closed", "auto"], ["token", "closed", "auto"]]
    assert len(lines_of(said, "CAMOA00001")) == 1


@pytest.mark.system
def test_a_forced_mode_is_set_shown_and_remembered_with_who_said_so(ops) -> None:
    said = ops("breakers", "force-open", BANK, "--reason", "asked [bold]by phone")
    assert (said.code, said.out, said.err) == (0, f"{BANK}: forced_open\n", "")
    assert ops("breakers", "force-close", CARD, "--reason", "rehearsal").out == f"{CARD}: forced_closed\n"
    shown = ops("breakers")
    assert all("forced_open" in line and "asked [bold]by phone" in line for line in lines_of(shown, BANK))
    assert ops("breakers", "auto", BANK, "--reason", "well again").out == f"{BANK}: auto\n"

    for arguments in (("breakers", "history", BANK), ("breakers", "--history")):
        said = ops(*arguments)
        assert (said.code, said.err) == (0, "")
        newest, before = [line for line in lines_of(said, BANK) if " cli:" in line][:2]
        assert re.search(r"cli:\S+ +breaker\.auto +\S+ +well again", newest)
        assert re.search(r"cli:\S+ +breaker\.forced_open +\S+ +asked \[bold\]by phone", before)
    assert len(lines_of(ops("breakers", "history", BANK, "--limit", "1"), BANK)) == 1


@pytest.mark.system
def test_providers_are_listed_with_their_status(ops) -> None:
    said = ops("providers")
    assert (said.code, said.err) == (0, "")
    (bank,) = lines_of(said, CALM)
    assert bank.split()[1:] == ["도담은행", "은행", "bank", "available"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("force-open", "NOBODY0001", "--reason", "x"), 1, "moa: There is no such institution in the directory."),
        (
            ("force-open", "../v1/links", "--reason", "x"),
            2,
            "moa: Invalid value for ORG_CODE: letters and digits; `moa --help` lists what there is",
        ),
        (("force-open", BANK), 2, "moa: Missing option '--reason'; `moa --help` lists what there is"),
        (("auto", BANK, "--reason", " "), 1, "moa: Correct the fields named in `errors`. (reason: say why)"),
        (("history", "a b"), 1, "moa: Correct the named parameters. (org_code: 10 letters or digits are needed)"),
        (("history", "--limit", "0"), 2, None),
    ],
)
def test_what_cannot_be_done_is_one_line(ops, arguments: tuple[str, ...], code: int, line: str | None) -> None:
    said = ops("breakers", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1)
    assert line is None or said.err == line + "\n"


@pytest.mark.parametrize("arguments", [("breakers",), ("breakers", "history"), ("providers",), ("breakers", "auto", BANK, "--reason", "x")])
def test_nobody_there_is_one_line(moa, data: Path, monkeypatch, arguments: tuple[str, ...]) -> None:
    said = moa(*arguments, "--data", str(data))
    assert (said.code, said.err.startswith("moa: no secret to sign with in ")) == (1, True)
    monkeypatch.setenv("MOA_JWT_SECRET", "s" * 40)
    said = moa(*arguments, "--data", str(data), "--url", "http://127.0.0.1:1")
    assert (said.code, said.err) == (1, "moa: nothing answers at http://127.0.0.1:1; is `moa up` running there?\n")
    assert moa(*arguments, "--data", str(data), "--url", "ftp://x").code == 2


@pytest.mark.system
def test_an_operator_with_a_token_needs_no_secret_of_ours(ops, running: Running, moa, tmp_path: Path, monkeypatch) -> None:
    token = development_token(running.settings, user="olga", ops=True, ttl=60, now=SystemClock().now())
    there = ("--url", running.url, "--data", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("MOA_OPS_TOKEN", token)
    assert moa("breakers", "force-close", BANK, "--reason", "by hand", *there).code == 0
    assert re.search(r" olga +breaker\.forced_closed ", moa("breakers", "history", BANK, *there).out)
    monkeypatch.setenv("MOA_OPS_TOKEN", token[:-6])
    said = moa("breakers", *there)
    assert (said.code, said.out) == (1, "")
    assert said.err == "moa: Get a new token; its signature or its claims are not acceptable.\n"


@pytest.mark.system
def test_in_a_terminal_it_is_live_until_ctrl_c(running: Running) -> None:
    controller, terminal = pty.openpty()
    # Whoever runs these tests in the background ignores Ctrl-C, and so would whatever is started here.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from backend.cli import main; main()"
    command = [sys.executable, "-c", heeding, "breakers", "--data", str(running.data)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")} | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, env=environment) as process:
        os.close(terminal)
        try:
            shown, deadline = b"", time.monotonic() + 20
            while shown.count(BANK.encode()) < 4 and time.monotonic() < deadline:  # two looks, a second apart; another process is at work
                if select.select([controller], [], [], 0.2)[0]:
                    shown += os.read(controller, 65536)
            assert shown.count(BANK.encode()) >= 4
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert (process.returncode, err) == (0, b"")
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(10)
            os.close(controller)


def test_what_is_not_closed_stands_first_and_moments_are_said_from_now() -> None:
    def row(org_code: str, state: str, **more) -> Row:
        return Row(org_code=org_code, name="이름", scope="read", state=state, mode="auto", epoch=1, reason="[r]", since=NOW, **more)

    rows = [
        row("A", "closed"),
        row("B", "half_open", retry_at=NOW),
        row("C", "open", retry_at=NOW + timedelta(minutes=10), failure_rate=61.7, calls=1234, left_out=("machine-7:4711:0123abcd",)),
    ]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(breakers_table(rows, NOW + timedelta(minutes=5), trouble="PostgreSQL does not answer."))
    lines = console.export_text().splitlines()
    assert [line.split()[1] for line in lines if "이름" in line] == ["C", "B", "A"]
    (ill,) = (line for line in lines if " C " in line)
    assert all(part in ill for part in ("5 min", "in 5 min", "62 %", "1,234", "[r] (left out: machine-7:4711:0123abcd)"))
    assert any("PostgreSQL does not answer." in line for line in lines)
