"""The stage of this room's tests: one whole system for all of them, and people who are new to it in each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from backend.engines import Engine
from tests.registration.house import Client, House, a_house
from tests.storage.given import copied


@pytest.fixture(scope="module")  # a worker that outlived its tests would take the jobs of others
async def whole_house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    with pytest.MonkeyPatch.context() as patch:  # the house outlives a test, its logs do not
        for module in ("app", "services"):
            patch.setattr(f"backend.{module}.configure_logs", lambda *_, **__: None)
        database = copied(postgres.url, migrated_template, "of_registrations")
        async with database as url, a_house(database_url=url, valkey_url=valkey.url) as house:
            yield house


@pytest.fixture
async def house(whole_house: House) -> AsyncIterator[House]:
    """Everything runs, and every institution behaves."""
    await whole_house.reset()
    whole_house.keep_logs()
    yield whole_house
    await whole_house.reset()


@pytest.fixture
async def anna(house: House) -> AsyncIterator[Client]:
    """Somebody whom the system does not know yet."""
    async with house.client() as client:
        yield client


@pytest.fixture
async def berta(house: House) -> AsyncIterator[Client]:
    """Somebody else."""
    async with house.client() as client:
        yield client
