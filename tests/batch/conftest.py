"""The stage of this room's tests that carry commands out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from backend.engines import Engine
from backend.storage.database import Database
from tests.batch.stage import Stage, a_stage
from tests.storage.given import copied, empty


@pytest.fixture(scope="package")
async def sending_url(postgres: Engine, migrated_template: str) -> AsyncIterator[str]:
    async with copied(postgres.url, migrated_template, "of_sending") as url:
        yield url


@pytest.fixture
async def stage(sending_url: str, valkey_url: str) -> AsyncIterator[Stage]:
    """Nobody is linked, and every provider behaves."""
    await empty(sending_url)
    async with a_stage(database_url=sending_url, valkey_url=valkey_url) as stage:
        yield stage


@pytest.fixture
async def database(sending_url: str) -> AsyncIterator[Database]:
    """PostgreSQL with every table, and nobody in it."""
    await empty(sending_url)
    database = Database(sending_url, pool=8)
    yield database
    await database.close()
