"""The stage of this room: the whole system, an API whose port may be moved under its clients, Node with the official client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
import redis

from backend.engines import Engine
from tests.clients import node as javascript
from tests.clients.node import Node
from tests.realtime.conftest import api, api_with, stage
from tests.registration.house import House, a_house
from tests.storage.given import copied

__all__ = ["api", "api_with", "stage"]


@pytest.fixture(scope="session")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the official JavaScript client."""
    folder = tmp_path_factory.mktemp("js")
    await anyio.to_thread.run_sync(javascript.install, folder)
    return folder


@pytest.fixture
async def node(installed: Path) -> AsyncIterator[Node]:
    async with javascript.running(installed) as node:
        yield node


@pytest.fixture(scope="module")  # a worker that outlived its tests would take the jobs of others
async def whole_house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    async with (
        copied(postgres.url, migrated_template, "of_clients") as url,
        # Here the clients' endless coming and going shares one core with the work: nothing of that is a provider's fault.
        a_house(database_url=url, valkey_url=valkey.url, call_deadline=20.0, provider_deadline=60.0) as house,
    ):
        yield house
    root.handlers[:], root.level = before


@pytest.fixture
async def house(whole_house: House) -> AsyncIterator[House]:
    """Everything runs, and every institution takes its time."""
    await whole_house.reset()
    yield whole_house
    await whole_house.reset()
