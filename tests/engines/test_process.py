"""The rules of keeping a server, tried on servers that do nothing but live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from backend.engines.folders import EngineRefused, try_lock
from backend.engines.process import Launch, start, started

GENTLY = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def launch(folder: Path, command: str, *, answers: bool = True, stop=GENTLY) -> Launch:
    return Launch(
        name="Server",
        url="unix:///nowhere",
        command=("/bin/sh", "-c", command),
        environment={},
        folder=folder,
        lock=folder / "server.lock",
        log=folder / "server.log",
        ready=lambda _pid: answers,
        stop=stop,
        start_seconds=0.3,
        adopt_seconds=0.1,
    )


def test_a_server_lives_in_a_session_of_its_own_and_ends_when_told(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "exec sleep 60"))
    assert os.getsid(engine.pid) == engine.pid
    assert engine.alive()
    engine.stop()
    assert not engine.alive()
    assert started(engine.pid) is None


def test_stopping_twice_is_no_mistake(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "exec sleep 60"))
    engine.stop()
    engine.stop()


def test_a_server_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "trap '' TERM; echo ready; exec sleep 60", stop=((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0))))
    while b"ready" not in (tmp_path / "server.log").read_bytes():
        time.sleep(0.01)  # a signal before the trap is set would end it
    engine.stop()
    assert not engine.alive()


def test_it_is_over_only_when_the_last_process_of_the_server_is_gone(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "sleep 60 & echo $!; exec sleep 60", stop=((signal.SIGKILL, 0.1),)))
    while not (child := (tmp_path / "server.log").read_text().strip()):
        time.sleep(0.01)  # the shell is still on its way there
    with pytest.raises(EngineRefused, match="does not end"):
        engine.stop()
    os.kill(int(child), signal.SIGKILL)
    engine.stop()
    assert not engine.alive()


def test_a_server_that_does_not_start_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=r"Server did not start: no luck today; see .*server\.log"):
        start(launch(tmp_path, "echo no luck today; exit 3", answers=False))


def test_a_server_that_never_answers_is_stopped_again(tmp_path: Path) -> None:
    silent = launch(tmp_path, "exec sleep 60", answers=False)
    with pytest.raises(EngineRefused, match="does not answer"):
        start(silent)
    handle = try_lock(silent.lock)
    assert handle is not None
    os.close(handle)


def test_a_server_that_cannot_be_run_at_all_is_told_plainly(tmp_path: Path) -> None:
    broken = launch(tmp_path, "")
    with pytest.raises(EngineRefused, match="cannot be started"):
        start(Launch(**{**vars(broken), "command": (str(tmp_path / "missing"),)}))


def test_a_running_server_is_adopted(tmp_path: Path) -> None:
    first = start(launch(tmp_path, "exec sleep 60"))
    second = start(launch(tmp_path, "exec sleep 60"))
    assert (second.pid, second.adopted) == (first.pid, True)
    second.stop()
    assert not first.alive()


def test_a_running_server_that_does_not_answer_is_refused_with_the_way_to_end_it(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "exec sleep 60"))
    with pytest.raises(EngineRefused, match=f"kill -9 {engine.pid}"):
        start(launch(tmp_path, "exec sleep 60", answers=False))
    assert engine.alive()
    engine.stop()


def test_a_server_that_is_on_its_way_out_is_waited_for_and_started_again(tmp_path: Path) -> None:
    leaving = start(launch(tmp_path, "exec sleep 60"))
    silent = {**vars(launch(tmp_path, "exec sleep 60", answers=False)), "adopt_seconds": 10.0}
    asked: list[int] = []

    def ready(pid: int) -> bool:
        if pid == leaving.pid and not asked:
            os.kill(leaving.pid, signal.SIGTERM)
        asked.append(pid)
        return pid != leaving.pid

    engine = start(Launch(**{**silent, "ready": ready}))
    assert (engine.adopted, leaving.pid in asked) == (False, True)
    assert engine.pid != leaving.pid
    engine.stop()
    assert not leaving.alive()


def test_a_process_that_only_has_the_recorded_number_is_never_touched(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "exec sleep 60"))
    bystander = subprocess.Popen(["sleep", "60"])
    (tmp_path / "server.json").write_text(json.dumps({"pid": bystander.pid, "started": "long ago"}))
    with pytest.raises(EngineRefused, match="still runs but does not answer"):
        start(launch(tmp_path, "exec sleep 60"))
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    engine.stop()


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    with (tmp_path / "server.log").open("wb") as log:
        log.truncate(11 * 1024 * 1024)
    start(launch(tmp_path, "exec sleep 60")).stop()
    assert (tmp_path / "server.log").stat().st_size < 1024
    assert (tmp_path / "server.1.log").exists()


def test_an_engine_does_not_show_its_url(tmp_path: Path) -> None:
    engine = start(launch(tmp_path, "exec sleep 60"))
    assert "nowhere" not in repr(engine)
    engine.stop()
