"""A clock that is moved by hand, and a receiver that answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from backend.storage.database import Database
from tests.webhooks.given import World


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    world = World(database)
    yield world
    await world.close()
