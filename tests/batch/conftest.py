"""The stage of this room's tests that carry commands out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.batch.stage import Stage, a_stage
from tests.storage.given import empty


@pytest.fixture
async def stage(shared_url: str, valkey_url: str) -> AsyncIterator[Stage]:
    """Nobody is linked, and every provider behaves."""
    await empty(shared_url)
    async with a_stage(database_url=shared_url, valkey_url=valkey_url) as stage:
        yield stage
