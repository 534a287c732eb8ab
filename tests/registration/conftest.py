"""The stage of this room's tests: one whole system for all of them, and people who are new to it in each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from backend.engines import Engine
from tests.registration.house import Client, House, house_of_many_tests


@pytest.fixture(scope="module")  # a worker that outlived its tests would take the jobs of others
async def whole_house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    async with house_of_many_tests(postgres.url, valkey.url, migrated_template, "of_registrations") as house:
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
