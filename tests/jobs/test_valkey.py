"""Every wait for Valkey ends, whatever kind of address it has."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.exceptions import RedisError

from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect, engine_errors


@pytest.mark.parametrize("url", ["redis://localhost:6379/2", "rediss://user:word@localhost/1", "unix:///run/valkey.sock?db=1"])
def test_every_kind_of_address_gets_every_bound(url: str) -> None:
    pool = connect(url, timeout=3.0, pool=7).connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    assert (pool.max_connections, pool.timeout) == (7, 3.0)
    assert pool.connection_kwargs["socket_timeout"] == pool.connection_kwargs["socket_connect_timeout"] == 3.0
    assert pool.connection_kwargs["health_check_interval"] > 0
    pool.make_connection()  # takes every option


def test_over_tcp_a_silent_peer_is_noticed() -> None:
    assert connect("redis://localhost", timeout=1, pool=1).connection_pool.connection_kwargs["socket_keepalive"]


def test_over_tls_the_name_is_checked() -> None:
    connection = connect("rediss://localhost", timeout=1, pool=1).connection_pool.make_connection()
    assert isinstance(connection, SSLConnection)
    assert connection.check_hostname


def test_another_kind_of_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        connect("http://user:word@localhost", timeout=1, pool=1)
    assert "word" not in str(caught.value)


async def test_a_frozen_server_does_not_hold_its_caller(engines_folder: Path) -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(never_answer, f"{engines_folder}/frozen.sock"):
        redis = connect(f"unix://{engines_folder}/frozen.sock", timeout=0.1, pool=1)
        start = time.monotonic()
        with pytest.raises(EngineUnavailable), engine_errors():
            await redis.ping()
        assert time.monotonic() - start < 1.0
        await redis.aclose()


async def test_the_wait_for_a_connection_ends_too(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=0.1, pool=1)
    held = await redis.connection_pool.get_connection()
    with pytest.raises(EngineUnavailable), engine_errors():
        await redis.ping()
    await redis.connection_pool.release(held)
    assert await redis.ping()
    await redis.aclose()


async def test_what_valkey_refuses_is_an_engine_that_is_unavailable(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=1, pool=1)
    with pytest.raises(EngineUnavailable) as caught, engine_errors():
        await redis.execute_command("EVAL", "return redis.error_reply('MISCONF the disk is full')", 0)
    assert isinstance(caught.value.__cause__, RedisError)
    await redis.aclose()


async def test_who_is_no_primary_any_more_is_left_for_whoever_has_its_address_now(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=5, pool=1)
    first = await redis.client_id()
    await redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(EngineUnavailable), engine_errors():
            await redis.set("key", "value")
        assert await redis.client_id() != first
        second = await redis.client_id()
        script = redis.register_script("return redis.call('SET', KEYS[1], 'value')")
        with pytest.raises(EngineUnavailable), engine_errors():
            await script(["key"])
        assert await redis.client_id() != second
    finally:
        await redis.replicaof("NO", "ONE")
    await redis.aclose()


async def test_a_client_that_was_closed_stays_closed_whoever_comes_late(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=1, pool=2)
    held = await redis.connection_pool.get_connection()
    coming = asyncio.create_task(redis.ping())
    await asyncio.sleep(0)  # it is about to connect
    await redis.aclose()
    with pytest.raises(EngineUnavailable), engine_errors():
        await coming
    with pytest.raises(EngineUnavailable), engine_errors():
        await held.send_command("PING")
    with pytest.raises(EngineUnavailable), engine_errors():
        await redis.ping()
    assert not held.is_connected
