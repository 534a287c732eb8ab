"""PostgreSQL with every table, and nobody in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from backend.engines import Engine
from backend.storage.database import Database
from tests.storage.given import copied, empty


@pytest.fixture(scope="package")
async def shared_url(postgres: Engine, migrated_template: str) -> AsyncIterator[str]:
    async with copied(postgres.url, migrated_template, "of_batch") as url:
        yield url


@pytest.fixture
async def database(shared_url: str) -> AsyncIterator[Database]:
    await empty(shared_url)
    database = Database(shared_url, pool=8)
    yield database
    await database.close()
