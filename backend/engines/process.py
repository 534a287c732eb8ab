"""One server process: started once, adopted when its parent was killed, stopped completely.

In: a `Launch`. Out: an `Engine`. The server inherits an open, locked file: while any of its processes lives the lock is held,
so "is it running?" and "is it over?" never rest on a number that another process may have got meanwhile.
A signal goes only to a pid whose recorded start time still fits. Nothing here looks for processes by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from backend.engines.folders import EngineRefused, try_lock, write_private

LARGEST_LOG = 10 * 1024 * 1024  # bytes; a larger one is set aside (one is kept) at the next start
PAUSE = 0.02


@dataclass(frozen=True)
class Account:
    """Whom a server runs as, when not as ourselves."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """How a server is started, recognised and stopped."""

    name: str  # as a person knows it: "PostgreSQL"
    url: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path  # the server's working folder
    lock: Path  # held by the server while it lives; its pid is recorded beside it
    log: Path
    ready: Callable[[int], bool]  # whether the server with this pid answers
    stop: tuple[tuple[signal.Signals, float], ...]  # what to send, and the seconds to wait for the end
    account: Account | None = None  # None: ours
    start_seconds: float = 120.0  # recovery after a crash reads the log of what was written; on a slow disk that takes a while
    adopt_seconds: float = 20.0


@dataclass
class Engine:
    """A running server. `url` is where it answers."""

    name: str
    url: str = field(repr=False)  # may hold a password
    pid: int
    adopted: bool  # it was running already, left behind by a parent that was killed
    _launch: Launch = field(repr=False)
    _child: subprocess.Popen[bytes] | None = field(repr=False, default=None)

    def alive(self) -> bool:
        """Whether any process of the server is left."""
        if not _over(self._launch.lock):
            return True
        if self._child is not None:
            self._child.wait()  # it let go of the lock on its last way
        return False

    def stop(self) -> None:
        """Ends the server and waits until its last process is gone; harsher by steps. Raises `EngineRefused` if that fails."""
        for number, seconds in self._launch.stop:
            if not self.alive():
                return
            self._signal(number)
            _wait(lambda: not self.alive(), seconds)
        if self.alive():
            raise EngineRefused(f"{self.name} (process {self.pid}) does not end; end it by hand: kill -9 {self.pid}")

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)  # no other process can have its pid before we reap it
        elif recorded(self._launch.lock) == self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start(launch: Launch) -> Engine:
    """Starts the server and waits until it answers; one that runs already is adopted.

    Raises `EngineRefused` when it does not start, or when one runs that does not answer.
    """
    handle = try_lock(launch.lock)
    if handle is None:
        return _adopt(launch)
    try:
        child = _spawn(launch, handle)
    except OSError as exc:
        raise EngineRefused(f"{launch.name} cannot be started: {exc.strerror} ({launch.command[0]})") from exc
    finally:
        os.close(handle)  # the child has it now
    engine = Engine(launch.name, launch.url, child.pid, False, launch, child)
    write_private(_record(launch.lock), json.dumps({"pid": child.pid, "started": started(child.pid)}))
    if not _wait(lambda: child.poll() is not None or launch.ready(child.pid), launch.start_seconds):
        engine.stop()
        raise EngineRefused(f"{launch.name} does not answer after {launch.start_seconds:.0f} s; see {launch.log}")
    if child.poll() is not None:
        raise EngineRefused(f"{launch.name} did not start: {_last_line(launch.log)}; see {launch.log}")
    return engine


def started(pid: int) -> str | None:
    """When the process was started, in words that fit no other process; None: there is no such process."""
    if sys.platform == "linux":
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {after_name.split()[19]}"  # proc(5): field 22, in ticks since the boot; the name is field 2
    answer = subprocess.run(("ps", "-o", "lstart=", "-p", str(pid)), capture_output=True, text=True, check=False, timeout=10)
    return answer.stdout.strip() or None


def _adopt(launch: Launch) -> Engine:
    pid = recorded(launch.lock)
    _wait(lambda: _over(launch.lock) or (pid is not None and launch.ready(pid)), launch.adopt_seconds)
    if _over(launch.lock):  # it was on its way out
        return start(launch)
    if pid is not None and launch.ready(pid):
        return Engine(launch.name, launch.url, pid, True, launch)
    who, how = (f" as process {pid}", f"kill -9 {pid}") if pid is not None else ("", f"fuser -k {launch.lock}")
    raise EngineRefused(f"{launch.name} of an earlier start still runs{who} but does not answer; end it ({how}) and start again")


def _spawn(launch: Launch, handle: int) -> subprocess.Popen[bytes]:
    if launch.log.exists() and launch.log.stat().st_size > LARGEST_LOG:
        launch.log.replace(launch.log.with_suffix(".1.log"))
    account = launch.account
    with os.fdopen(os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
        return subprocess.Popen(
            launch.command,
            cwd=launch.folder,
            env=dict(launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(handle,),
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which stops its servers last
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=() if account else None,
        )


def _record(lock: Path) -> Path:
    return lock.with_suffix(".json")


def recorded(lock: Path) -> int | None:
    """The pid on record, if that very process still lives."""
    try:
        record = json.loads(_record(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    pid = int(record["pid"])
    return pid if record["started"] is not None and started(pid) == record["started"] else None


def _over(lock: Path) -> bool:
    handle = try_lock(lock)
    if handle is None:
        return False
    os.close(handle)
    return True


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
