"""AsyncAPI 3.0: the feed's events, and the envelopes that the three transports put around them."""

from __future__ import annotations

from typing import Any

from backend.documents.schemas import (
    EPOCH,
    MOMENT,
    OFFSET,
    ORG_CODE,
    TEXT,
    Schema,
    event_data,
    listed,
    obj,
    operators_event_data,
    ref,
    schemas,
)
from backend.events import EventType, OperatorsEventType
from backend.realtime.protocol import CloseCode, ErrorCode, UnsubscribeCode

_INFO = """One ordered log per user, with `epoch` and `offset` (from 1, without holes), over WebSocket, SSE or poll on `GET /v1/events`.
Every transport delivers the same events in the same order. Requests: OpenAPI at `/openapi.json`.

Operators have a feed of the same kind at `/ops/events`, channel `ops`."""

_WEBSOCKET = """The Centrifuge client protocol in JSON; its official SDKs work unmodified. A frame holds one or more commands or replies,
one per line. `{}` is a ping, and `{}` answers it. Unknown fields are ignored.

To resume, subscribe with `recover`, `epoch` and `offset` of the last event. `recovered` false: history was lost, read the snapshots
again. What cannot be had within eight seconds of its frame is error 100 with `temporary`: ask again."""

_SSE = """With `Accept: text/event-stream`. Opens with `event: position` (`{epoch, offset, recovered}`); then `id: <epoch>:<offset>`,
`event: <type>`, `data: <the event>`. A comment each 15 seconds. Resume with `Last-Event-ID` or `?since=`."""

_POLL = """`?since=<epoch>:<offset>&wait=<0..30>`: what came after, as soon as something comes. Without `since`: the newest position and no
events."""

_OPERATORS = """For tokens of scope `ops`; the channel is `ops`, and all of them hear the same log. Transports, envelopes and codes are
those of a user's feed."""

_ABOUT_ONE_PROVIDER = ("provider.", "asset.", "link.", "breaker.")
_ABOUT_NO_REGISTRATION = ("asset.", "refresh.", "link.", "provider.status", "breaker.")


def _codes(codes: type[ErrorCode] | type[CloseCode] | type[UnsubscribeCode]) -> Schema:
    told = "\n".join(f"* `{code.value}`: {code.name.lower().replace('_', ' ')}" for code in codes)
    return {"type": "integer", "enum": [code.value for code in codes], "description": told}


def _event(kind: EventType | OperatorsEventType, data: Schema) -> Schema:
    members: Schema = {"type": {"const": kind.value}, "at": MOMENT}
    if not kind.value.startswith(_ABOUT_NO_REGISTRATION):
        members["registration_id"] = TEXT
    if kind.value.startswith(_ABOUT_ONE_PROVIDER):
        members["org_code"] = ORG_CODE
    return {"name": kind.value, "title": kind.value, "contentType": "application/json", "payload": obj({**members, "data": data})}


def _name(kind: EventType | OperatorsEventType) -> str:
    """`provider.assets` as the key of a message: providerAssets."""
    first, *rest = kind.value.split(".")
    return first + "".join(part.title().replace("_", "") for part in rest)


_ID = {"type": "integer", "minimum": 1, "description": "The reply carries the same"}
_PUBLICATION = obj({"offset": OFFSET, "data": ref("Event")})
_TOKEN_LIFE = {"expires": {"const": True}, "ttl": {"type": "integer", "description": "seconds until the token runs out"}}


def _commands() -> dict[str, Schema]:
    subscribe = obj(
        {"channel": {"enum": ["feed", "ops"]}},
        {"recover": {"type": "boolean"}, "epoch": EPOCH, "offset": OFFSET, "flag": {"type": "integer"}},
    )
    return {
        "connectCommand": obj(
            {"id": _ID, "connect": obj({}, {"token": {"type": "string", "description": "A JWT; or send `Authorization` at the upgrade"}})}
        ),
        "refreshCommand": obj({"id": _ID, "refresh": obj({"token": TEXT})}),
        "subscribeCommand": obj({"id": _ID, "subscribe": subscribe}),
        "unsubscribeCommand": obj({"id": _ID, "unsubscribe": obj({"channel": TEXT})}),
        "pong": {"type": "object", "maxProperties": 0},
    }


def _replies() -> dict[str, Schema]:
    connected = obj({"client": TEXT, "version": TEXT, "ping": {"const": 25}, "pong": {"const": True}, **_TOKEN_LIFE})
    flag = {"type": "boolean"}
    subscribed = obj(
        {
            "recoverable": {"const": True},
            "positioned": {"const": True},
            "epoch": EPOCH,
            "offset": {**OFFSET, "description": "When recovered, the one that was asked from; else the top"},
            "was_recovering": flag,
            "recovered": flag,
            "publications": listed(_PUBLICATION),
        }
    )
    error = obj({"code": _codes(ErrorCode), "message": TEXT}, {"temporary": {"const": True}})
    ended = obj({"code": _codes(UnsubscribeCode), "reason": TEXT})
    return {
        "connectReply": obj({"id": _ID, "connect": connected}),
        "refreshReply": obj({"id": _ID, "refresh": obj(_TOKEN_LIFE)}),
        "subscribeReply": obj({"id": _ID, "subscribe": subscribed}),
        "unsubscribeReply": obj({"id": _ID, "unsubscribe": obj({})}),
        "errorReply": obj({"id": _ID, "error": error}),
        "publication": obj({"push": obj({"channel": TEXT, "pub": _PUBLICATION})}),
        "unsubscribed": obj({"push": obj({"channel": TEXT, "unsubscribe": ended})}),
        "ping": {"type": "object", "maxProperties": 0},
    }


def _envelopes() -> dict[str, Schema]:
    position = obj({"epoch": EPOCH, "offset": OFFSET, "recovered": {"type": "boolean"}})
    return {"position": position, "polled": ref("Polled")}


def _messages() -> dict[str, Schema]:
    events = {_name(kind): _event(kind, data) for kind, data in event_data().items()}
    of_operators = {_name(kind): _event(kind, data) for kind, data in operators_event_data().items()}
    others = {**_commands(), **_replies(), **_envelopes()}
    return {
        **events,
        **of_operators,
        **{name: {"name": name, "contentType": "application/json", "payload": payload} for name, payload in others.items()},
    }


def _channel(description: str, names: list[str], bindings: Schema, *servers: str, address: str = "/v1/events") -> Schema:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": f"#/servers/{server}"} for server in servers],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": bindings,
    }


def _operation(action: str, channel: str, names: list[str], summary: str) -> Schema:
    messages = [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary, "messages": messages}


def asyncapi(version: str) -> dict[str, Any]:
    """The document, from the server's side: it sends events and replies, it receives commands."""
    events, of_operators = [_name(kind) for kind in EventType], [_name(kind) for kind in OperatorsEventType]
    commands, replies = list(_commands()), list(_replies())
    closes = f"{_WEBSOCKET}\n\nCloses (come back by yourself below 3500):\n\n{_codes(CloseCode)['description']}"
    host = {
        "host": "{host}",
        "variables": {"host": {"default": "127.0.0.1:8000"}},
        "security": [{"$ref": "#/components/securitySchemes/token"}],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Moa feed", "version": version, "description": _INFO},
        "defaultContentType": "application/json",
        "servers": {"websocket": {**host, "protocol": "ws"}, "http": {**host, "protocol": "http"}},
        "channels": {
            "websocket": _channel(closes, [*commands, *replies, *events], {"ws": {"method": "GET"}}, "websocket"),
            "sse": _channel(_SSE, ["position", *events], {"http": {}}, "http"),
            "poll": _channel(_POLL, ["polled", *events], {"http": {}}, "http"),
            "operators": _channel(
                _OPERATORS, of_operators, {"ws": {"method": "GET"}, "http": {}}, "websocket", "http", address="/ops/events"
            ),
        },
        "operations": {
            "hearCommands": _operation("receive", "websocket", commands, "What a client asks"),
            "answerCommands": _operation("send", "websocket", replies, "Replies, pushes and pings; a publication's `data` is an event"),
            "pushEvents": _operation("send", "websocket", events, "The events inside publications"),
            "streamEvents": _operation("send", "sse", ["position", *events], "The position, then every event"),
            "answerPolls": _operation("send", "poll", ["polled", *events], "What came after `since`"),
            "tellOperators": _operation("send", "operators", of_operators, "The events of the operators' feed, by whichever transport"),
        },
        "components": {
            "messages": _messages(),
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
