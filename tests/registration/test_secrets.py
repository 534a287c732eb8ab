"""After a whole registration, nothing secret lies in a log, an event, a queue or a column; not even where it is sealed, in the clear."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from redis.asyncio import Redis

from backend.engines import Engine
from backend.storage.schema import metadata
from backend.storage.vault import Vault
from tests.registration.house import ALL_SEVEN, BANK, BANK2, CARD, VAULT_KEYS, House, house_of_many_tests, token

PATIENCE = 60.0  # seconds: what a loaded machine cuts off was not on the wire, and no call here is to be cut off
USER_CI = base64.b64encode(bytes(range(100, 164))).decode()
CLAIMS = {"user_ci": USER_CI, "name": "Secretive Person", "phone_number": "+821087654321"}

TOKENS = {"access_token", "refresh_token", "signed_consent", "password", "client_secret"}
PERSON = {"user_ci", "username", "real_name", "phone_num"}
NUMBERS = {
    "account_num",
    "repay_account_num",
    "card_id",
    "card_num",
    "insu_num",
    "fob_id",
    "account_id",
    "sub_key",
    "mgmt_id",
    "telecom_num",
}


@pytest.fixture(scope="module")
async def whole_house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    """One that has time: eight institutions at once answer in one process with everything else."""
    deadlines = {"call_deadline": PATIENCE, "provider_deadline": PATIENCE}
    async with house_of_many_tests(postgres.url, valkey.url, migrated_template, "of_secrets", **deadlines) as house:
        yield house


def _found(body: Any) -> list[tuple[str, str]]:
    """Every field with a text, however deep."""
    if isinstance(body, dict):
        here = [(name, value) for name, value in body.items() if isinstance(value, str)]
        return here + [pair for value in body.values() for pair in _found(value)]
    return [pair for value in body for pair in _found(value)] if isinstance(body, list) else []


def secrets_in(bodies: list[bytearray]) -> dict[str, set[str]]:
    """What went over the wire under a secret field's name, by that name."""
    found: dict[str, set[str]] = {}
    for body in map(bytes, bodies):
        fields = _found(json.loads(body)) if body.startswith((b"{", b"[")) else parse_qsl(body.decode())
        for name, value in fields:
            if name in TOKENS | PERSON | NUMBERS and len(value) >= 8 and "*" not in value:
                found.setdefault(name, set()).add(value)
    return found


async def everything_in_valkey(redis: Redis) -> bytes:
    """Every key with its value."""
    seen = []
    for key in await redis.keys("*"):
        match await redis.type(key):
            case b"string":
                value: Any = await redis.get(key)
            case b"hash":
                value = await redis.hgetall(key)
            case b"list":
                value = await redis.lrange(key, 0, -1)
            case b"zset":
                value = await redis.zrange(key, 0, -1)
            case _:
                value = await redis.xrange(key)
        seen += [key, repr(value).encode()]
    return b"\n".join(seen)


async def every_row(house: House) -> bytes:
    """Every value of every table as it lies there."""
    rows = [row for table in metadata.sorted_tables for row in await house.execute(f"SELECT * FROM {table.name}")]
    values = [value for row in rows for value in row.values()]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


async def test_no_secret_lies_anywhere_in_the_clear(house: House) -> None:
    house.recorder.bodies = []
    level = logging.getLogger().level
    logging.getLogger().setLevel("DEBUG")
    await house.provider(BANK2, mode="http500")
    try:
        async with house.client("secretive", **CLAIMS) as client:
            following = await client.register(*ALL_SEVEN, BANK2, **{"Idempotency-Key": "key-1"})
            await following.ended("partial")
            await house.provider(CARD, mode="token_expired")
            await (await client.register(CARD, BANK)).ended("partial")
            shown = json.dumps([following.events, await client.assets(), await client.registration(following.id)], ensure_ascii=False)
            jwt_ = token("secretive", **CLAIMS)
            await client.http.get("/v1/assets", headers={"Authorization": f"Bearer {jwt_[:-4]}"})
            metrics = (await client.http.get("/metrics")).content
    finally:
        bodies, house.recorder.bodies = house.recorder.bodies, None
        logging.getLogger().setLevel(level)

    secrets = secrets_in(bodies or [])
    assert set(secrets) >= TOKENS | PERSON, "everything secret was on the wire"
    assert len(NUMBERS & set(secrets)) >= 7
    assert secrets["user_ci"] == secrets["username"] == {USER_CI}
    redis = Redis.from_url(str(house.settings.valkey_url.get_secret_value()))  # type: ignore[union-attr]
    places = {
        "logs": house.logs.getvalue().encode(),
        "valkey": await everything_in_valkey(redis),
        "rows": await every_row(house),
        "what clients saw": shown.encode(),
        "metrics": metrics,
    }
    assert b"secretive" not in metrics
    assert following.id.encode() not in metrics
    await redis.aclose()
    assert b"collect.failed" in places["logs"]
    for place, seen in places.items():
        assert len(seen) > 500, place
        for name, values in secrets.items():
            assert [value for value in values if value.encode() in seen] == [], f"{name} in {place}"
        assert jwt_[:-4].encode() not in seen


async def test_what_is_sealed_opens_for_its_row_and_for_no_other(house: House) -> None:
    async with house.client("sealed-1") as client:
        await (await client.register(BANK, CARD)).ended("completed")
    rows = await house.execute("SELECT * FROM links WHERE user_id = 'sealed-1' ORDER BY org_code")
    vault = Vault(VAULT_KEYS)
    tokens = [vault.open(row["access_token_sealed"], "links", "access", "sealed-1", row["org_code"]) for row in rows]
    assert len(set(tokens)) == 2
    assert all(token.count(b".") == 2 for token in tokens)
