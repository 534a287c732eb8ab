"""`moa register` against a running system: three transports, a sick provider, a person who takes their time, cut connections."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import httpx
import pytest
from rich.cells import cell_len

from tests.running import Running

pytestmark = pytest.mark.system

FEW = {"A1MOABK001": "새벽은행", "B1MOACD001": "물결카드", "G1MOATC001": "메아리텔레콤"}
PEOPLE = count(1)


@pytest.fixture
def quick(running: Running) -> Iterator[Running]:
    """The system with a fast CA and three fast providers."""
    running.sandbox("ca", approve_after_ms=20, latency_ms={"p50": 1, "p99": 2})
    for code in FEW:
        running.sandbox(f"providers/{code}", latency_ms={"p50": 1, "p99": 2})
    yield running
    running.reset()


@pytest.fixture
def register(quick: Running, moa) -> Callable[..., object]:
    def run(*arguments: str, providers: str | None = ",".join(FEW)):
        chosen = () if providers is None else ("--providers", providers)
        return moa("register", "--user", f"person-{next(PEOPLE)}", *chosen, "--data", str(quick.data), *arguments)

    return run


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_every_transport_tells_the_same_story(register, transport: str) -> None:
    said = register("--transport", transport)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert re.fullmatch(r"accepted +\d+ ms  reg_\w{26}, 3 providers", lines[0])
    assert sum(line.startswith("signature") and line.endswith("  completed") for line in lines) == 1
    for name in FEW.values():
        assert sum(line.startswith(name) and "completed, " in line for line in lines) == 1
        assert any(f" {name} " in line and "****" in line for line in lines)
    assert re.search(r"^first asset +\+[\d,]+ ms  after the signature: ", said.out, re.MULTILINE)
    assert re.search(r"^all in all +[\d,]+ ms  \d+ assets of 3 providers", said.out, re.MULTILINE)


def test_without_a_choice_ten_providers_of_all_industries_are_registered(register) -> None:
    said = register(providers=None)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].endswith("10 providers")
    assert {line.strip()[:2] for line in said.out.splitlines()} >= {"은행", "카드", "투자", "보험", "전금", "대출", "통신"}


def test_a_provider_that_fails_is_one_line_and_the_others_are_shown(quick: Running, register) -> None:
    quick.sandbox("providers/B1MOACD001", mode="down")
    said = register()
    assert said.code == 1
    assert said.err == "moa: 1 of 3 providers failed: 물결카드 (provider_unavailable)\n"
    assert re.search(r"^물결카드 .* provider_unavailable$", said.out, re.MULTILINE)
    assert re.search(r"^새벽은행 .* completed, ", said.out, re.MULTILINE)
    assert "새벽은행" in said.out.partition("balance")[2]


def test_a_provider_that_rests_is_no_failure(quick: Running, register) -> None:
    quick.sandbox("providers/G1MOATC001", mode="maintenance")
    said = register()
    assert (said.code, said.err) == (0, "")
    assert re.search(r"^메아리텔레콤 .* deferred$", said.out, re.MULTILINE)


@pytest.mark.parametrize(("decision", "code", "end"), [("approve", 0, ""), ("deny", 1, "moa: the registration was denied\n")])
def test_a_person_who_signs_by_hand_is_shown_where(quick: Running, decision: str, code: int, end: str) -> None:
    quick.sandbox("ca", approve_after_ms=None)
    command = [sys.executable, "-m", "backend.cli", "register", "--user", f"hand-{next(PEOPLE)}", "--data", str(quick.data)]
    with subprocess.Popen([*command, "--providers", "A1MOABK001"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        page = next(found[1] for line in process.stdout if (found := re.search(r"requested: (http://\S+/sandbox/sign/\w+)$", line)))
        httpx.post(page, content=f"decision={decision}").raise_for_status()
        assert re.search(r"^signature .* (completed|denied)$", process.stdout.read(), re.MULTILINE)
        assert process.stderr.read() == end
        assert process.wait(30) == code


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_cut_connections_cost_time_and_nothing_else(quick: Running, register, transport: str) -> None:
    quick.sandbox("providers/A1MOABK001", latency_ms={"p50": 150, "p99": 160})
    with Cutting(quick.url) as cutting:
        said = register("--transport", transport, "--url", cutting.url)
    assert (said.code, said.err) == (0, "")
    assert cutting.cuts >= 2
    for name in FEW.values():
        told = [line.split("  ")[-1] for line in said.out.splitlines() if line.startswith(name)]
        assert [words for words in told if words.startswith(("connecting", "completed"))] == ["connecting", told[-1]]


def test_a_terminal_shows_a_picture_whose_columns_stand_under_each_other(quick: Running) -> None:
    command = [sys.executable, "-m", "backend.cli", "register", "--user", "rich", "--providers", ",".join(FEW), "--data", str(quick.data)]
    shown = _in_a_terminal(command)
    assert "✓" in shown
    assert "\x1b[?25h" in shown  # the cursor is back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    rows = [line.rstrip("\r") for line in plain.splitlines() if "****" in line]
    assert len(rows) > 30
    assert {cell_len(line[: line.index("****")]) for line in rows} == {cell_len(rows[0].partition("****")[0])}
    assert max(cell_len(line) for line in rows) <= 80


def _in_a_terminal(command: list[str]) -> str:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # the end of a terminal is EIO
            while part := os.read(master, 65536):
                shown += part
        os.close(master)
        assert process.wait(30) == 0, shown.decode()
    return shown.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--providers", "NOPE"), 1, "unknown provider"),
        (("--providers", "A1MOABK001,A1MOABK001"), 1, "chosen twice"),
        (("--providers", ","), 2, "name at least one provider"),
        (("--transport", "pigeon"), 2, "choose websocket, sse, poll"),
        (("--url", "http://127.0.0.1:1"), 1, "nothing answers at http://127.0.0.1:1"),
        (("--url", "ftp://moa"), 2, "http://… or https://…"),
    ],
)
def test_a_mistake_is_one_plain_line(running: Running, moa, arguments: tuple[str, ...], code: int, words: str) -> None:
    said = moa("register", "--user", "alice", *arguments, "--data", str(running.data))
    assert said.code == code
    assert said.out == ""
    assert said.err.startswith("moa: ")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_what_is_no_api_of_ours_is_said(running: Running, moa) -> None:
    said = moa("register", "--user", "alice", "--url", running.settings.sandbox_url, "--data", str(running.data))
    assert (said.code, said.err) == (1, "moa: what answers there is not this API (HTTP 404)\n")


def test_before_the_first_up_it_says_what_to_start(moa, data: Path) -> None:
    said = moa("register", "--user", "alice", "--data", str(data))
    assert said.code == 1
    assert "run `moa up` once" in said.err


class Cutting:
    """A way to the API on which no connection lives longer than a moment."""

    LIFE = 0.25  # seconds; long enough for a handshake on a busy machine

    def __init__(self, url: str) -> None:
        self._target = httpx.URL(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.cuts = 0

    def __enter__(self) -> Cutting:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _begin(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        self._server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.host, self._target.port)
        try:
            async with asyncio.timeout(self.LIFE):
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        except TimeoutError:
            self.cuts += 1
        except OSError:
            pass
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while part := await source.read(65536):
            sink.write(part)
            await sink.drain()
        raise ConnectionResetError
