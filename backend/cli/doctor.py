"""`moa doctor`: looks at everything the system rests on, one row each, with what to mend.

In: the settings. Out: a table; True when nothing is wrong. It changes nothing, and every look has a deadline.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis
from rich import box
from rich.table import Table
from rich.text import Text

from backend.batches import batch_terms
from backend.cli.datafolder import runs
from backend.cli.listing import console
from backend.cli.mistakes import as_line
from backend.cli.preflight import check_disk, check_platform, check_python
from backend.cli.running import database_url, settings_of, valkey_url
from backend.clock import SystemClock
from backend.engines import LeftRunning, left_running
from backend.engines.account import abandoned_homes
from backend.errors import MoaError
from backend.identity import MIN_SECRET_BYTES
from backend.providers.directory import directory_of
from backend.reporting.messenger import channels_of
from backend.services import circuit_options, need, reach_of
from backend.settings import SECRETS_FILE, Settings
from backend.storage.vault import Vault

DEADLINE = 5.0  # seconds for one look
CLOCK_TOLERANCE = 1.0  # seconds between our clock and an engine's


class Wrong(MoaError):
    """Something to mend. The message says what to do."""


@dataclass(frozen=True)
class Finding:
    what: str
    well: bool
    words: str


Look = Callable[[Settings], Awaitable[str]]


def examine(data: Path | None) -> bool:
    """Prints the table; True when nothing is wrong."""
    try:
        settings = settings_of(data)
    except ValidationError as exc:
        findings = [Finding("settings", False, (as_line(exc) or "").removeprefix("moa: "))]
    else:
        findings = asyncio.run(_findings(settings))
    table = Table("", "what", "finding", box=box.SIMPLE)
    for finding in findings:
        table.add_row(Text("ok" if finding.well else "!!", "green" if finding.well else "red"), finding.what, Text(finding.words))
    console().print(table)
    return all(finding.well for finding in findings)


async def _findings(settings: Settings) -> list[Finding]:
    return [await _finding(what, look, settings) for what, look in LOOKS.items()]


async def _finding(what: str, look: Look, settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(DEADLINE):
            return Finding(what, True, await look(settings))
    except TimeoutError:
        return Finding(what, False, f"no answer within {DEADLINE:.0f} s; restart it")
    except MoaError as exc:
        return Finding(what, False, str(exc))
    except Exception as exc:  # whatever a driver says of an engine that is ill
        return Finding(what, False, f"does not answer ({type(exc).__name__}); is `moa up` running?")


async def _machine(settings: Settings) -> str:
    check_python()
    if settings.database_url is None or settings.valkey_url is None:
        check_platform()
    return "Python and platform are supported"


async def _folder(settings: Settings) -> str:
    folder = settings.data.absolute()
    if not folder.is_dir():
        raise Wrong(f"{folder} does not exist; run `moa up` once, or name the folder with --data")
    secrets = folder / SECRETS_FILE
    if secrets.exists() and stat.S_IMODE(secrets.stat().st_mode) & 0o077:
        raise Wrong(f"others may read {secrets}: chmod 600 {secrets}")
    check_disk(folder)
    if runs(folder):
        return f"{folder}: `moa up` runs"
    left = left_running(folder)
    if left:
        raise Wrong(_left(folder, left))
    return f"{folder}: `moa up` does not run"


def _left(folder: Path, left: Sequence[LeftRunning]) -> str:
    who = " and ".join(f"{one.name} (process {one.pid})" for one in left)
    how = "; ".join(f"kill -{one.politely.name.removeprefix('SIG')} {one.pid}" for one in left)
    return (
        f"{folder}: `moa up` was killed and left {who} running. The next `moa up` there takes over what runs, and ends it when it ends; "
        f"to end it now: {how}"
    )


async def _secrets(settings: Settings) -> str:
    named = {"MOA_JWT_SECRET": settings.jwt_secret, "MOA_VAULT_KEYS": settings.vault_keys, "MOA_ASSET_ID_SECRET": settings.asset_id_secret}
    if settings.jwks_url is not None:
        del named["MOA_JWT_SECRET"]
    missing = [name for name, value in named.items() if value is None]
    if missing:
        raise Wrong(f"missing: {', '.join(missing)}; run `moa up` once, or set them")
    if settings.jwt_secret is not None and len(settings.jwt_secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise Wrong(f"MOA_JWT_SECRET is shorter than {MIN_SECRET_BYTES} bytes; choose a longer one")
    try:
        Vault(need(settings, "vault_keys"))
    except ValueError as exc:  # its words repeat no key
        raise Wrong(str(exc)) from exc
    return "all set"


async def _rules(settings: Settings) -> str:
    try:
        circuit_options(settings)
        batch_terms(settings)
    except ValueError as exc:
        raise Wrong(str(exc)) from exc
    return "circuits and batch can work with what is set"


async def _directory(settings: Settings) -> str:
    return f"{len(directory_of(settings).providers)} providers and a CA"


async def _postgres(settings: Settings) -> str:
    _known(settings.database_url, "MOA_DATABASE_URL")
    url = database_url(settings)
    connection = await asyncpg.connect(url)
    try:
        moment, version = await connection.fetchrow("SELECT clock_timestamp(), current_setting('server_version')") or (None, "")
        migrated = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    finally:
        await connection.close()
    _same_time(moment, "PostgreSQL")
    if not migrated:
        raise Wrong("the schema is missing: run `moa migrate`")
    return f"PostgreSQL {version} answers, its clock agrees with ours"


async def _valkey(settings: Settings) -> str:
    _known(settings.valkey_url, "MOA_VALKEY_URL")
    url = valkey_url(settings)
    async with Redis.from_url(url, socket_timeout=DEADLINE, socket_connect_timeout=DEADLINE) as client:
        seconds, micros = await client.time()
        server = await client.info("server")
        persistence = await client.info("persistence")
    _same_time(datetime.fromtimestamp(seconds + micros / 1e6, UTC), "Valkey")
    kept = "keeps its data" if persistence.get("aof_enabled") else "does not write its data to disk (appendonly no): it only costs latency"
    return f"Valkey {server.get('valkey_version') or server.get('redis_version')} answers, its clock agrees with ours, {kept}"


async def _channels(settings: Settings) -> str:
    urls = settings.notice_webhooks.get_secret_value() if settings.notice_webhooks else ""
    channels, faults = channels_of(urls, reach_of(settings))
    if faults:
        raise Wrong("; ".join(faults))
    return f"{len(channels)} webhooks hear the morning message and alerts" if channels else "none: they go to the log (MOA_NOTICE_WEBHOOKS)"


async def _leftovers(_settings: Settings) -> str:
    left = await asyncio.to_thread(abandoned_homes) if os.geteuid() == 0 else []
    if not left:
        return "no cluster without its data folder"
    home, data = left[0]
    others = f", like {len(left) - 1} more there (`belongs-to` names each one's)" if len(left) > 1 else ""
    return f"{home} was made for {data}, which does not point to it any more{others}; remove what you do not want back, to win room"


def _known(url: SecretStr | None, variable: str) -> None:
    if url is None:
        raise Wrong(f"not known: start `moa up`, or set {variable}")


def _same_time(theirs: datetime | None, engine: str) -> None:
    if theirs is None:
        raise Wrong(f"{engine} does not tell its time")
    apart = (theirs - SystemClock().now()).total_seconds()
    if abs(apart) > CLOCK_TOLERANCE:
        raise Wrong(f"{engine}'s clock is {apart:+.1f} s from ours; synchronise both machines (NTP)")


LOOKS: dict[str, Look] = {
    "machine": _machine,
    "data folder": _folder,
    "secrets": _secrets,
    "rules": _rules,
    "provider directory": _directory,
    "PostgreSQL": _postgres,
    "Valkey": _valkey,
    "operators' channels": _channels,
    "left behind": _leftovers,
}
