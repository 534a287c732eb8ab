"""The documents say what the API does: no path, no code, no event is missing from them or only in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from starlette.routing import BaseRoute, Mount, Route

from backend.app import create_app
from backend.coordinator.chronicle import event_of
from backend.documents import asyncapi, openapi
from backend.documents.openapi import OPERATIONS
from backend.errors import ITEM_ERRORS, PROBLEMS, Problem, Refused, Trouble
from backend.events import (
    Asset,
    AssetKind,
    AssetRefreshed,
    AssetsCollected,
    Availability,
    Balance,
    EventType,
    Fact,
    Industry,
    LinkExpired,
    LinkExpiring,
    LinkFact,
    LinkRevoked,
    OperatorsEventType,
    Position,
    ProviderCompleted,
    ProviderConnecting,
    ProviderDeferred,
    ProviderFailed,
    ProviderStatusChanged,
    RefreshCompleted,
    RefreshItem,
    RefreshStatus,
    RegistrationAccepted,
    RegistrationCompleted,
    RegistrationRetried,
    RegistrationStatus,
    SignatureCompleted,
    SignatureDenied,
    SignatureExpired,
    SignatureRequested,
)
from backend.realtime.protocol import CloseCode, ErrorCode, error, publication, push, subscribed
from backend.registration.model import requested_signature
from backend.settings import load_settings
from backend.storage.decisions import Change
from backend.web import problem_answer

PAGES = {"/", "/ops", "/openapi.json", "/asyncapi.json"}
NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
WHO = {"registration_id": "reg_01J00000000000000000000000", "at": NOW}
ORG = "A1MOABK001"
ASSET = Asset(
    "ast_1", ORG, Industry.BANK, AssetKind.DEPOSIT, "통장", "****1234", "active", Balance(Decimal("12.30"), "KRW"), "2026", {"a": "1"}
)
FACTS: tuple[Fact | LinkFact, ...] = (
    RegistrationAccepted(**WHO),
    SignatureRequested(signature=requested_signature(web_url="https://ca", ios_url="a:", aos_url="b:", expires_at=NOW), **WHO),
    SignatureCompleted(**WHO),
    SignatureDenied(**WHO),
    SignatureExpired(**WHO),
    ProviderConnecting(org_code=ORG, **WHO),
    AssetsCollected(org_code=ORG, assets=(ASSET,), **WHO),
    ProviderCompleted(org_code=ORG, assets=1, **WHO),
    ProviderFailed(org_code=ORG, error=ITEM_ERRORS[Trouble.TIMEOUT], **WHO),
    ProviderDeferred(org_code=ORG, reason="provider_resting", retry_at=NOW, **WHO),
    RegistrationRetried(status=RegistrationStatus.COLLECTING, providers=(ORG,), **WHO),
    RegistrationCompleted(status=RegistrationStatus.PARTIAL, **WHO),
    LinkExpiring(at=NOW, org_code=ORG, consent_expires_at=NOW),
    LinkExpired(at=NOW, org_code=ORG, consent_expires_at=NOW, error=ITEM_ERRORS[Trouble.CONSENT_REQUIRED]),
    ProviderStatusChanged(at=NOW, org_code=ORG, status=Availability.RESTING, retry_at=NOW),
    LinkRevoked(at=NOW, org_code=ORG, consent_expires_at=NOW),
    AssetRefreshed(at=NOW, org_code=ORG, assets=(ASSET,)),
    RefreshCompleted(
        at=NOW,
        refresh_id="ref_01J00000000000000000000000",
        providers=(RefreshItem(ORG, RefreshStatus.FAILED, ITEM_ERRORS[Trouble.TIMEOUT]), RefreshItem(ORG, RefreshStatus.COMPLETED)),
    ),
)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(json.dumps(openapi("1.2.3")))


@pytest.fixture(scope="module")
def events() -> dict[str, Any]:
    return json.loads(json.dumps(asyncapi("1.2.3")))


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[BaseRoute]:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        tmp_path,
        database_url="postgresql://nobody@127.0.0.1:1/none",
        valkey_url="redis://127.0.0.1:1",
        jwt_secret="s" * 40,
        vault_keys="k1:" + "A" * 43 + "=",
        asset_id_secret="s" * 40,
    )
    return create_app(settings, mint=lambda _user, _seconds: "").routes


def test_every_route_is_described_and_every_description_has_a_route(routes: list[BaseRoute]) -> None:
    served = {
        (route.path, method.lower())
        for route in routes
        if isinstance(route, Route) and route.path not in PAGES
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(operation.path, operation.method) for operation in OPERATIONS} == served
    assert {route.path for route in routes if isinstance(route, Route)} >= PAGES
    assert "/demo" in {route.path for route in routes if isinstance(route, Mount)}


def test_every_code_is_told_and_every_told_code_exists(described: dict[str, Any]) -> None:
    told = described["components"]["schemas"]
    assert told["Problem"]["properties"]["code"]["enum"] == [problem.value for problem in PROBLEMS]
    assert set(told["ItemError"]["properties"]["code"]["enum"]) == {trouble.value for trouble in Trouble}
    somewhere = {problem for operation in OPERATIONS for problem in operation.problems}
    everywhere = {Problem.METHOD_NOT_ALLOWED, Problem.HEADERS_TOO_LARGE}  # told in the introduction
    usual = {code for response in described["paths"]["/v1/assets"]["get"]["responses"].values() for code in _codes_of(response)}
    assert {problem.value for problem in somewhere | everywhere} | usual == {problem.value for problem in Problem}


def _codes_of(response: dict[str, Any]) -> list[str]:
    schema = response.get("content", {}).get("application/problem+json", {}).get("schema", {})
    return [code for part in schema.get("allOf", ()) for code in part.get("properties", {}).get("code", {}).get("enum", ())]


def test_each_code_stands_under_its_own_status(described: dict[str, Any]) -> None:
    for methods in described["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                assert all(PROBLEMS[Problem(code)].status == int(status) for code in _codes_of(response))


@pytest.mark.parametrize("name", ["described", "events"])
def test_every_reference_leads_somewhere(name: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(name)
    found = list(_references(document))
    assert len(found) > 20
    for reference in found:
        here = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_a_tool_reads_every_operation(described: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(described)
    assert len([result.ok() for result in schema.get_all_operations()]) == len(OPERATIONS)


def test_every_event_is_as_its_message_says(events: dict[str, Any]) -> None:
    messages = {message["name"]: message["payload"] for message in events["components"]["messages"].values()}
    assert {fact.TYPE for fact in FACTS} == set(EventType)
    for fact in FACTS:
        _valid(events, messages[fact.TYPE], fact.event().encode())
        _valid(events, {"$ref": "#/components/schemas/Event"}, fact.event().encode())


def test_every_event_of_the_operators_is_as_its_message_says(events: dict[str, Any]) -> None:
    messages = {message["name"]: message["payload"] for message in events["components"]["messages"].values()}
    states = [("auto", "closed"), ("auto", "open"), ("auto", "half_open"), ("forced_open", "open")]
    changes = [Change(at=NOW, org_code=ORG, scope="read", state=state, mode=mode, reason="failure_rate", epoch=7) for mode, state in states]
    told = [event_of(change) for change in changes]
    assert {event.type for event in told} == set(OperatorsEventType)
    for event in told:
        _valid(events, messages[event.type.value], event.encode())
        _valid(events, {"$ref": "#/components/schemas/Event"}, event.encode())
    assert len(events["channels"]["operators"]["messages"]) == len(OperatorsEventType)


def test_frames_of_the_socket_are_as_their_messages_say(events: dict[str, Any]) -> None:
    payloads = {name: message["payload"] for name, message in events["components"]["messages"].items()}
    entry = (3, FACTS[0].event().encode())
    reply = subscribed(2, Position("x", 2), was_recovering=True, recovered=True, entries=[entry])
    _valid(events, payloads["subscribeReply"], reply)
    _valid(events, payloads["publication"], push(b"feed", entry))
    _valid(events, payloads["errorReply"], error(3, ErrorCode.TOO_MANY_REQUESTS))
    assert json.loads(publication(entry))["offset"] == 3


def test_every_close_code_is_told(events: dict[str, Any]) -> None:
    told = events["channels"]["websocket"]["description"]
    assert all(f"`{code.value}`" in told for code in CloseCode)


def test_a_problem_document_is_as_its_schema_says(described: dict[str, Any]) -> None:
    for problem in Problem:
        answer = problem_answer(Refused(problem, errors=({"field": "a", "message": "b"},)), "req_1")
        _valid(described, {"$ref": "#/components/schemas/Problem"}, bytes(answer.body))


def test_what_is_not_an_event_does_not_pass(events: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        _valid(events, events["components"]["messages"]["providerFailed"]["payload"], FACTS[0].event().encode())


def _valid(document: dict[str, Any], schema: dict[str, Any], body: bytes) -> None:
    """Raises `ValidationError`. The schema may point into the document."""
    jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]}).validate(json.loads(body))


def test_no_operator_is_shown_a_persons_data(described: dict[str, Any]) -> None:
    """Who reads a person's data must be noted (docs/operations.md): nobody can, so that there is nothing to note."""

    def named(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(named, node))
        if not isinstance(node, dict):
            return set()
        own = {str(node["$ref"]).rpartition("/")[2]} if "$ref" in node else set()
        return own.union(*map(named, node.values()))

    schemas, personal = described["components"]["schemas"], {"Asset", "Registration", "Link", "Refresh", "Registrations", "Assets", "Links"}
    assert "Asset" in schemas
    for operation in (each for each in OPERATIONS if each.scope == "ops" and each.path != "/ops/events"):  # its events are pinned elsewhere
        shown = named(described["paths"][operation.path][operation.method]["responses"])
        while more := set().union(*(named(schemas[name]) for name in shown if name in schemas)) - shown:
            shown |= more
        assert shown & personal == set(), operation.path
