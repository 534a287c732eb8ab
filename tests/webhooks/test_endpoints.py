"""Webhooks over HTTP, for operators; and a whole registration that arrives at a receiver as the feed tells it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.engines import Engine
from backend.events import EventType
from backend.storage.sealed import EVERY_SEALED
from backend.storage.vault import Vault
from backend.webhooks.keeping import MOST_WEBHOOKS
from tests.registration.house import BANK, CARD, VAULT_KEYS, House, house_of_many_tests, serving, token

URL = "http://127.0.0.1:1/hook"


@pytest.fixture(scope="module")
async def whole_house(postgres: Engine, valkey: Engine, migrated_template: str) -> AsyncIterator[House]:
    async with house_of_many_tests(postgres.url, valkey.url, migrated_template, "of_webhook_endpoints") as house:
        yield house


@pytest.fixture
def house(whole_house: House) -> House:
    """What the test makes it log is in `logs`."""
    whole_house.logs = io.StringIO()
    whole_house.keep_logs()
    return whole_house


@pytest.fixture
async def ops(house: House) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token('operator', scope='user ops')}"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client
        for webhook in (await client.get("/v1/webhooks")).json()["webhooks"]:
            await client.delete(f"/v1/webhooks/{webhook['id']}")


async def test_a_webhook_is_made_listed_and_deleted_and_its_secret_is_shown_once(ops: httpx.AsyncClient) -> None:
    body = {"url": URL, "events": ["provider.completed", "provider.completed"], "description": "our backend"}
    made = await ops.post("/v1/webhooks", json=body)
    assert made.status_code == 201
    webhook = made.json()
    assert made.headers["location"] == f"/v1/webhooks/{webhook['id']}"
    assert made.headers["cache-control"] == "no-store"
    assert len(base64.b64decode(webhook.pop("secret").removeprefix("whsec_"))) == 32
    assert (webhook["url"], webhook["events"], webhook["description"], webhook["status"]) == (
        URL,
        ["provider.completed"],
        "our backend",
        "active",
    )
    assert webhook["deliveries"] == {"pending": 0, "failed": 0, "failures_in_a_row": 0}
    assert (await ops.get("/v1/webhooks")).json() == {"webhooks": [webhook]}
    assert (await ops.get(made.headers["location"])).json() == webhook
    deleted = await ops.delete(f"/v1/webhooks/{webhook['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await ops.get("/v1/webhooks")).json() == {"webhooks": []}
    assert (await ops.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 404
    assert (await ops.get(made.headers["location"])).status_code == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"url": "ftp://hooks.example"}, ["url"]),
        ({"url": "http://10.0.0.1/"}, ["url"]),
        ({"url": "http://hooks.example/"}, ["url"]),
        ({"url": URL, "events": []}, ["events"]),
        ({"url": "nowhere", "events": ["provider.completed", "bank.robbed"]}, ["url", "events[1]"]),
        ({"url": URL, "events": "provider.completed"}, ["events"]),
        ({"url": URL, "description": "x" * 201}, ["description"]),
        ({"url": URL, "description": "a\0b"}, ["description"]),
        ({"url": 7}, ["url"]),
        ({}, [""]),
        ({"url": URL, "secret": "mine"}, [""]),
    ],
)
async def test_what_cannot_be_a_webhook_is_refused_with_every_fault_and_not_stored(
    ops: httpx.AsyncClient, body: dict[str, Any], fields: list[str]
) -> None:
    refused = await ops.post("/v1/webhooks", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert [fault["field"] for fault in refused.json()["errors"]] == fields
    assert (await ops.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_webhooks_are_for_operators_only(house: House, ops: httpx.AsyncClient) -> None:
    made = (await ops.post("/v1/webhooks", json={"url": URL})).json()
    one = f"/v1/webhooks/{made['id']}"
    async with house.client() as anna:
        for method, path in [
            ("POST", "/v1/webhooks"),
            ("GET", "/v1/webhooks"),
            ("GET", one),
            ("DELETE", one),
            ("POST", one + "/secret"),
            ("POST", one + "/test"),
        ]:
            refused = await anna.http.request(method, path, json={"url": URL})
            assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
            assert (await house.http.request(method, house.url + path)).status_code == 401
    assert len((await ops.get("/v1/webhooks")).json()["webhooks"]) == 1


@pytest.mark.parametrize("webhook_id", ["wh_1", "wh_00000000000000000000000000", "x" * 500, "%00"])
async def test_a_webhook_that_is_not_there_is_not_found(ops: httpx.AsyncClient, webhook_id: str) -> None:
    one = f"/v1/webhooks/{webhook_id}"
    for answer in (await ops.get(one), await ops.delete(one), await ops.post(one + "/secret"), await ops.post(one + "/test")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_there_is_an_end_of_webhooks(ops: httpx.AsyncClient) -> None:
    answers = [(await ops.post("/v1/webhooks", json={"url": URL})).status_code for _ in range(MOST_WEBHOOKS + 1)]
    assert answers == [201] * MOST_WEBHOOKS + [422]


# --- arriving --------------------------------------------------------------------------------------------------------


class Backend:
    """An adopter's backend: checks each signature and keeps what is new to it."""

    def __init__(self) -> None:
        self.secret = ""
        self.seen: dict[str, dict[str, Any]] = {}

    async def receive(self, request: Request) -> Response:
        body, headers = await request.body(), request.headers
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        if wanted not in headers["webhook-signature"].split(" "):
            return Response(status_code=400)
        self.seen.setdefault(headers["webhook-id"], orjson.loads(body))
        return Response(status_code=204)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with serving(Starlette(routes=[Route("/hook", self.receive, methods=["POST"])])) as url:
            yield f"{url}/hook"

    def of(self, user_id: str) -> list[dict[str, Any]]:
        return [whole for whole in self.seen.values() if whole["user_id"] == user_id]


async def test_a_whole_registration_arrives_in_order_as_the_feed_tells_it(house: House, ops: httpx.AsyncClient) -> None:
    backend = Backend()
    async with backend.listening() as url, house.client() as anna:
        backend.secret = (await ops.post("/v1/webhooks", json={"url": url})).json()["secret"]
        following = await anna.register(BANK, CARD)
        await following.ended("completed")
        async with asyncio.timeout(20):
            while not any(whole["event"]["type"] == "registration.completed" for whole in backend.of(anna.sub)):
                await asyncio.sleep(0.02)
        arrived = backend.of(anna.sub)
        assert [whole["offset"] for whole in arrived] == list(range(1, len(arrived) + 1))
        heard = [{name: value for name, value in event.items() if name != "offset"} for event in following.events]
        assert [whole["event"] for whole in arrived] == heard
        state = (await ops.get("/v1/webhooks")).json()["webhooks"][0]["deliveries"]
        assert state["failed"] == state["failures_in_a_row"] == 0
        assert "last_delivered_at" in state


async def test_a_test_arrives_and_a_new_secret_is_taken_over(house: House, ops: httpx.AsyncClient) -> None:
    backend = Backend()
    async with backend.listening() as url:
        made = (await ops.post("/v1/webhooks", json={"url": url, "events": [EventType.SIGNATURE_DENIED]})).json()
        renewed = await ops.post(f"/v1/webhooks/{made['id']}/secret")
        assert (renewed.status_code, renewed.headers["cache-control"]) == (200, "no-store")
        assert renewed.json()["secret"] != made["secret"]
        for secret in (renewed.json()["secret"], made["secret"]):
            backend.secret, before = secret, len(backend.seen)
            assert (await ops.post(f"/v1/webhooks/{made['id']}/test")).status_code == 202
            async with asyncio.timeout(10):
                while len(backend.seen) == before:
                    await asyncio.sleep(0.02)
        assert [whole["event"]["type"] for whole in backend.of("operator")] == ["webhook.test"] * 2
        assert all("offset" not in whole for whole in backend.of("operator"))


async def test_no_secret_and_no_url_of_a_webhook_is_in_a_log(house: House, ops: httpx.AsyncClient) -> None:
    backend = Backend()
    async with backend.listening() as url:
        made = (await ops.post("/v1/webhooks", json={"url": f"{url}?key=very-private"})).json()
        backend.secret = made["secret"]
        await ops.post(f"/v1/webhooks/{made['id']}/test")
        async with asyncio.timeout(10):
            while not backend.seen or "webhook.attempt" not in house.logs.getvalue():
                await asyncio.sleep(0.02)
    assert made["secret"] not in house.logs.getvalue()
    assert "very-private" not in house.logs.getvalue()


async def test_every_room_seals_under_the_names_that_the_rotation_knows(house: House, ops: httpx.AsyncClient) -> None:
    made = (await ops.post("/v1/webhooks", json={"url": URL})).json()
    await ops.post(f"/v1/webhooks/{made['id']}/secret")
    async with house.client() as anna:
        await (await anna.register(BANK, CARD)).ended("completed")
        await house.provider(CARD, mode="http500")
        await anna.http.delete(f"/v1/links/{CARD}")
    vault = Vault(VAULT_KEYS)
    for each in EVERY_SEALED:
        rows = await house.execute(f"SELECT * FROM {each.table.name} WHERE {each.column} IS NOT NULL")
        assert rows, f"nothing in {each.column}"
        assert all(vault.open(row[each.column], *each.row(*(row[name] for name in each.key))) for row in rows)


async def test_what_operators_do_to_webhooks_is_noted_with_their_name_and_request(ops: httpx.AsyncClient, house: House) -> None:
    made = (await ops.post("/v1/webhooks", json={"url": URL})).json()
    one = f"/v1/webhooks/{made['id']}"
    await ops.post(f"{one}/test", headers={"X-Request-Id": "req_of_the_test"})
    await ops.post(f"{one}/secret")
    assert (await ops.delete(one)).status_code == 204
    assert (await ops.delete(one)).status_code == 404  # nothing was done
    rows = await house.execute(f"SELECT who, action, org_code, request_id FROM operator_actions WHERE reason = '{made['id']}' ORDER BY id")
    assert [tuple(row)[:3] for row in rows] == [
        ("operator", f"webhook.{deed}", "") for deed in ("added", "tested", "secret_renewed", "deleted")
    ]
    assert rows[1]["request_id"] == "req_of_the_test"
