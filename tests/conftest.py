"""The engines that every test may use: real PostgreSQL and real Valkey, started once per session, clean for each test."""

from __future__ import annotations

import itertools
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
import structlog
from hypothesis import settings

from backend.engines import Engine, erase_postgres, start_postgres, start_valkey
from backend.storage.database import Database
from tests.running import Running, running_system

pytest.register_assert_rewrite("tests.registration.play")  # before any room imports it

NUMBERS = itertools.count(1)


def pytest_configure() -> None:
    """A session that is told to end (`timeout` does) stops its engines like one that is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


settings.register_profile("moa", deadline=None)  # a busy machine is no fault of the example
settings.load_profile("moa")


@pytest.fixture(scope="session", autouse=True)
def _no_logger_remembers() -> Iterator[None]:
    """Whoever configures the logs, a fixture that outlives a test too, as each process of ours does: no logger keeps that for ever."""
    with pytest.MonkeyPatch.context() as patch:
        configure = structlog.configure
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield


@pytest.fixture(autouse=True)
def _logs_for_this_test_only(_no_logger_remembers: None) -> Iterator[None]:
    """A test that configures the logs leaves the next one's alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def engines_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="moa-tests-"))
    yield folder
    erase_postgres(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey(engines_folder: Path) -> Iterator[Engine]:
    engine = start_valkey(engines_folder)
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def postgres(engines_folder: Path) -> Iterator[Engine]:
    engine = start_postgres(engines_folder)
    yield engine
    engine.stop()


@pytest.fixture
def valkey_url(valkey: Engine) -> str:
    """An empty Valkey at a Unix socket."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture(scope="session")
async def migrated_template(postgres: Engine) -> str:
    """The name of a database with the newest schema and no rows; migrated once, copied for each test."""
    from backend.storage.migrations import migrate  # noqa: PLC0415  # only tests that want tables need it

    await _run(postgres, "CREATE DATABASE migrated")
    await migrate(_url(postgres, "migrated"))
    return "migrated"


@pytest.fixture
async def database_url(postgres: Engine, migrated_template: str) -> AsyncIterator[str]:
    """A fresh database with the newest schema."""
    async for url in _database(postgres, migrated_template):
        yield url


@pytest.fixture(scope="session")
async def shared_url(postgres: Engine, migrated_template: str) -> AsyncIterator[str]:
    """One database for many tests: whoever uses it empties it before."""
    from tests.storage.given import copied  # noqa: PLC0415  # only tests that want tables need it

    async with copied(postgres.url, migrated_template, "shared") as url:
        yield url


@pytest.fixture
async def database(shared_url: str) -> AsyncIterator[Database]:
    """PostgreSQL with every table, and nobody in it."""
    from tests.storage.given import empty  # noqa: PLC0415  # only tests that want tables need it

    await empty(shared_url)
    database = Database(shared_url, pool=8)
    yield database
    await database.close()


@pytest.fixture
async def empty_database_url(postgres: Engine) -> AsyncIterator[str]:
    """A fresh database without any table."""
    async for url in _database(postgres, "template1"):
        yield url


async def _database(postgres: Engine, template: str) -> AsyncIterator[str]:
    name = f"test_{next(NUMBERS)}"
    await _run(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _url(postgres, name)
    await _run(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def _url(postgres: Engine, database: str) -> str:
    return urlsplit(postgres.url)._replace(path=f"/{database}").geturl()


async def _run(postgres: Engine, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """A whole system with its sandbox, for tests that use it as a client does. Whoever steers the sandbox resets it."""
    with running_system() as system:
        yield system
