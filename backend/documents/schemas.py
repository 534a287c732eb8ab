"""JSON Schemas of everything that crosses the API, for both documents: generated from the types, written by hand where there is none."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from backend.coordinator.breakers import Breaker
from backend.coordinator.endpoints import NewMode
from backend.errors import ITEM_ERRORS, PROBLEMS, UserAction
from backend.events import Asset, Availability, EventType, Industry, ItemError, OperatorsEventType
from backend.links.endpoints import NewRefresh
from backend.links.refreshes import RefreshView
from backend.links.unlinking import LinkView
from backend.registration.endpoints import NewRegistration
from backend.registration.model import MAX_PROVIDERS, RegistrationView

Schema = dict[str, Any]

_PUBLIC_NAMES = {
    "RegistrationView": "Registration",
    "ItemView": "RegistrationProvider",
    "RefreshView": "Refresh",
    "RefreshItem": "RefreshProvider",
    "LinkView": "Link",
    "NewMode": "NewBreakerMode",
    "Scope": "BreakerScope",
    "Mode": "BreakerMode",
}
_MOMENTS = (
    ("Registration", "created_at"),
    ("Refresh", "created_at"),
    ("Link", "consent_expires_at"),
    ("Signature", "expires_at"),
    ("Asset", "as_of"),
    ("Breaker", "since"),
    ("Breaker", "retry_at"),
)
_DESCRIPTIONS = {
    "Registration": "One act of connecting providers. `position` was read before the rest: follow the feed from there and miss nothing.",
    "RegistrationProvider": "A chosen provider in a registration.",
    "NewRegistration": "What to connect.",
    "Refresh": "Linked providers that are read again. `completed` when each of them has ended, however it did.",
    "RefreshProvider": "A provider in a refresh.",
    "Link": "One user at one provider, with its consent. `consent_expires_at`: not good any more from then on.",
    "NewRefresh": "What to read again; without `providers`, and without a body: everything that is linked.",
    "Breaker": "One scope of one institution. `mode` is what was set, `state` what is in force, a moment later. `epoch` grows with "
    "each decision. `retry_at`: when a probe looks. `failure_rate` (percent) and `calls`: in the sample of the leading coordinator. "
    "`left_out`: nodes whose calls fail where the others' succeed; they are no witnesses.",
    "NewBreakerMode": "For every scope of the institution. It stands until another word, whatever goes down meanwhile.",
    "BreakerScope": "What a circuit tells apart within one institution.",
    "BreakerMode": "`auto`: the coordinator decides.",
    "CircuitState": "Half-open lets through one probe in the whole fleet.",
    "Industry": "The seven industries; the values are the path segments of the MyData standard.",
    "ItemError": "Why a provider failed, in words for the person. `title` is Korean, `detail` English.",
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(required: Schema, optional: Schema | None = None, description: str = "") -> Schema:
    """An object schema; the members of `required` must be there."""
    found: Schema = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return {"description": description, **found} if description else found


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
MOMENT: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds"}
ORG_CODE: Schema = {"type": "string", "description": "Organisation code of the provider", "examples": ["A1MOABK001"]}
OFFSET: Schema = {"type": "integer", "minimum": 0, "description": "Numbers the events of an epoch from 1 without holes"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
DAY: Schema = {"type": "string", "format": "date"}
INDUSTRY: Schema = {"type": "string", "enum": [industry.value for industry in Industry]}
EPOCH: Schema = {"type": "string", "description": "Changes when the log was lost; offsets of different epochs do not compare"}


@cache
def schemas() -> dict[str, Schema]:
    """Every schema by its public name."""
    _, found = msgspec.json.schema_components(
        [RegistrationView, RefreshView, LinkView, Asset, ItemError, NewRegistration, NewRefresh, Breaker, NewMode],
        ref_template="#/components/schemas/{name}",
        schema_hook=_any,
    )
    text = msgspec.json.encode(found).decode()
    for ours, public in _PUBLIC_NAMES.items():
        text = text.replace(f'"{ours}"', f'"{public}"').replace(f'/{ours}"', f'/{public}"')
    named: dict[str, Schema] = msgspec.json.decode(text)
    for name, description in _DESCRIPTIONS.items():
        named[name]["description"] = description
    for name, member in _MOMENTS:
        named[name]["properties"][member] = MOMENT
    named["Link"]["properties"]["status"] = {"type": "string", "enum": ["active", "consent_expired", "revoked"]}
    named["Link"]["properties"]["last_refreshed_at"] = {**MOMENT, "type": ["string", "null"]}
    for schema in named.values():
        if "enum" in schema:
            schema["type"] = "string"
    named["RegistrationProvider"]["properties"]["error"] = {"anyOf": [ref("ItemError"), {"type": "null"}]}
    named["ItemError"]["properties"]["code"] = _codes({code.value: error.detail for code, error in ITEM_ERRORS.items()})
    named["ItemError"]["properties"]["user_action"] = {"type": "string", "enum": [action.value for action in UserAction]}
    named["NewRegistration"]["properties"]["providers"] |= {"minItems": 1, "maxItems": MAX_PROVIDERS, "uniqueItems": True}
    return {**named, **_written()}


def _any(kind: type) -> Schema:
    """The one member that is typed `object` is replaced below."""
    if kind is not object:
        raise NotImplementedError
    return {"type": ["object", "null"]}


def _codes(told: dict[str, str]) -> Schema:
    table = "\n".join(f"* `{code}`: {words}" for code, words in told.items())
    return {"type": "string", "enum": list(told), "description": f"Stable. New ones may come.\n\n{table}"}


def _written() -> dict[str, Schema]:
    event = obj(
        {
            "type": {"type": "string", "description": "New types may come: ignore what you do not know."},
            "at": MOMENT,
            "data": {"type": "object"},
        },
        {"registration_id": TEXT, "org_code": ORG_CODE},
    )
    return {
        "Problem": _problem(),
        "Provider": obj(
            {
                "org_code": ORG_CODE,
                "name": TEXT,
                "industry": INDUSTRY,
                "status": _STATUS,
            }
        ),
        "Providers": obj({"providers": listed(ref("Provider"))}),
        "Registrations": obj({"registrations": listed(ref("Registration"))}, {"next_page_token": TEXT}),
        "Links": obj({"links": listed(ref("Link"))}),
        "Assets": obj({"assets": listed(ref("Asset"))}, {"next_page_token": TEXT}),
        "Readiness": obj({"ready": FLAG, "reasons": {"type": "object", "additionalProperties": TEXT}}),
        "DemoToken": obj({"token": TEXT, "expires_in": {"type": "integer", "description": "seconds"}}),
        "Event": event,
        "Polled": obj(
            {
                "epoch": EPOCH,
                "offset": OFFSET,
                "recovered": {**FLAG, "description": "false: history was lost; read the snapshots again"},
                "events": listed({"allOf": [obj({"offset": OFFSET}), ref("Event")]}),
            }
        ),
    }


_STATUS: Schema = {"type": "string", "enum": [status.value for status in Availability]}


def _problem() -> Schema:
    codes = {code.value: f"{kind.status} {kind.title}. {kind.detail}" for code, kind in PROBLEMS.items()}
    fault = obj({"field": TEXT, "message": TEXT})
    members = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do about it"},
        "code": _codes(codes),
        "request_id": TEXT,
    }
    return obj(members, {"errors": listed(fault)}, "RFC 9457. `code` is what programs look at.")


def event_data() -> dict[EventType, Schema]:
    """What `data` of each event type holds."""
    assets = obj({"assets": {**listed(ref("Asset")), "description": "whole assets; replace by id"}})
    nothing: Schema = {"type": "object", "maxProperties": 0}
    status = {"type": "string", "enum": schemas()["RegistrationStatus"]["enum"]}
    deferred = obj({"reason": TEXT}, {"retry_at": MOMENT})
    retried = obj({"status": {"type": "string", "enum": ["signing", "collecting"]}, "providers": listed(ORG_CODE)})
    special: dict[EventType, Schema] = {
        EventType.SIGNATURE_REQUESTED: ref("Signature"),
        EventType.PROVIDER_ASSETS: assets,
        EventType.PROVIDER_COMPLETED: obj({"assets": COUNT}),
        EventType.PROVIDER_FAILED: obj({"error": ref("ItemError")}),
        EventType.PROVIDER_DEFERRED: deferred,
        EventType.PROVIDER_STATUS: obj({"status": _STATUS}, {"retry_at": MOMENT}, "Of a provider that the user is linked to"),
        EventType.REGISTRATION_RETRIED: retried,
        EventType.ASSET_REFRESHED: assets,
        **dict.fromkeys((EventType.LINK_EXPIRING, EventType.LINK_EXPIRED, EventType.LINK_REVOKED), _link_end()),
        EventType.REFRESH_COMPLETED: obj({"refresh_id": TEXT, "providers": listed(ref("RefreshProvider"))}),
        EventType.REGISTRATION_COMPLETED: obj(
            {"status": status}, {"error": ref("ItemError")}, "`error`: our own fault ended it before the signature"
        ),
    }
    return {kind: special.get(kind, nothing) for kind in EventType}


def operators_event_data() -> dict[OperatorsEventType, Schema]:
    """What `data` of each event type of the operators' feed holds."""
    members = {"scope": ref("BreakerScope"), "state": ref("CircuitState"), "mode": ref("BreakerMode")}
    told = obj({**members, "reason": TEXT, "epoch": {"type": "integer"}}, {}, "How the circuit stands since `at`")
    return dict.fromkeys(OperatorsEventType, told)


def _link_end() -> Schema:
    return obj(
        {"org_code": ORG_CODE},
        {"consent_expires_at": MOMENT, "error": ref("ItemError")},
        "`error`: what the person must do. `link.revoked` without it: the person revoked the link here, and its assets are gone",
    )
