"""OpenAPI 3.1: every path, what it takes, what it answers, and with which codes it refuses."""

from __future__ import annotations

from typing import Any

from backend.documents.batch import BATCH, batch_schemas
from backend.documents.operation import JSON, Answer, Operation
from backend.documents.operation import header as _header
from backend.documents.operation import json_body as _json
from backend.documents.operation import parameter as _parameter
from backend.documents.reports import REPORTS, report_schemas
from backend.documents.schemas import ORG_CODE, Schema, ref, schemas
from backend.errors import Problem
from backend.events import Industry

_BODY = (Problem.MALFORMED_JSON, Problem.BODY_TOO_SLOW, Problem.BODY_TOO_LARGE, Problem.UNSUPPORTED_MEDIA_TYPE, Problem.VALIDATION_FAILED)

_INFO = """Connects all financial institutions of a person at once (MyData).

A registration is accepted in milliseconds; what follows arrives as events of the user's feed (`GET /v1/events`; AsyncAPI at
`/asyncapi.json`). Snapshot at a position + the events after it = a fresh snapshot.

Errors are problem documents (RFC 9457); programs look at `code`. A method that a path does not have is `405 method_not_allowed`, an unknown
path `404 not_found`; more than 64 KiB or 100 lines of request line and headers are `431 headers_too_large`. Amounts are decimal strings."""


FEED_POSITION = {"X-Feed-Position": _header("`<epoch>:<offset>` of the user's feed, read before the data")}
LOCATION = {"Location": _header("Path of the registration")}
REPLAYED = {"Idempotent-Replayed": _header("`true`: the first answer to this key, byte for byte")}
ETAG = {"ETag": _header("Of everything but `position`")}


def _limit(default: int, most: int) -> Schema:
    return _parameter("limit", "query", "How many at most", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


_PAGE = _parameter("page_token", "query", "`next_page_token` of the page before")
_ID = _parameter("id", "path", "The registration's id", {"type": "string", "pattern": "^reg_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True)
_KEY = _parameter(
    "Idempotency-Key",
    "header",
    "Same key and body within 24 hours: the first answer again",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
_SINCE = _parameter("since", "query", "`<epoch>:<offset>`: what came after it. Absent: the newest position and no events")
_LAST = _parameter("Last-Event-ID", "header", "The same for SSE; it goes before `since`")
_WAIT = _parameter(
    "wait", "query", "Poll only: seconds to wait for something to come", {"type": "number", "minimum": 0, "maximum": 30, "default": 0}
)


_POLLED = _json("Poll", "Polled", FEED_POSITION)
_EVENTS = {
    101: Answer(description="With an upgrade: a WebSocket that speaks the Centrifuge client protocol in JSON"),
    200: Answer(
        description="SSE with `Accept: text/event-stream`, else a poll",
        content={JSON: ref("Polled"), "text/event-stream": {"type": "string"}},
    ),
}
_FEED = {
    "tag": "Feed",
    "answers": _EVENTS,
    "parameters": (_SINCE, _LAST, _WAIT),
    "problems": (Problem.MALFORMED_REQUEST, Problem.SHUTTING_DOWN),
}
_WEBHOOKS = {
    "tag": "Webhooks",
    "scope": "ops",
    "parameters": (
        _parameter("id", "path", "The webhook's id", {"type": "string", "pattern": "^wh_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True),
    ),
    "problems": (Problem.NOT_FOUND,),
}
_DELIVERY = {
    "post": {
        "operationId": "receiveEvent",
        "summary": "What a webhook receives",
        "description": "Signed as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`. At least once: remember `webhook-id`. "
        "In order per user, but for an event that was refused for ten minutes. 2xx takes it, 410 ends the webhook, anything else is "
        "tried again for three days.",
        "parameters": [
            _parameter("webhook-id", "header", "The same at every attempt", required=True),
            _parameter(
                "webhook-timestamp", "header", "Unix seconds of this attempt; refuse what is older than five minutes", required=True
            ),
            _parameter("webhook-signature", "header", "`v1,<base64>`, or two of them with a space between", required=True),
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": ref("Delivery")}}},
        "responses": {"2XX": {"description": "Taken"}, "410": {"description": "Send nothing more"}},
    }
}
_ACCEPTED = _json("Accepted; the rest comes as events", "Registration", LOCATION)
_ORG_CODE = {**ORG_CODE, "pattern": "^[A-Za-z0-9]{10}$"}
_INDUSTRY = {"type": "string", "enum": [industry.value for industry in Industry]}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        path="/v1/providers",
        method="get",
        name="listProviders",
        summary="What can be connected",
        tag="Providers",
        answers={200: _json("The directory", "Providers")},
    ),
    Operation(
        path="/v1/registrations",
        method="post",
        name="beginRegistration",
        summary="Connect providers",
        description="Commits, answers, and does everything else in the background.",
        tag="Registrations",
        parameters=(_KEY,),
        body="NewRegistration",
        answers={202: _json("Accepted; the rest comes as events", "Registration", {**LOCATION, **REPLAYED})},
        problems=(*_BODY, Problem.MALFORMED_REQUEST, Problem.UNKNOWN_PROVIDER, Problem.IDENTITY_REQUIRED, Problem.IDEMPOTENCY_CONFLICT),
    ),
    Operation(
        path="/v1/registrations",
        method="get",
        name="listRegistrations",
        summary="The user's registrations, newest first",
        tag="Registrations",
        parameters=(_limit(20, 100), _PAGE),
        answers={200: _json("One page", "Registrations", FEED_POSITION)},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/v1/registrations/{id}",
        method="get",
        name="getRegistration",
        summary="One registration as it is now",
        tag="Registrations",
        parameters=(_ID, _parameter("If-None-Match", "header", "An `ETag` that is known, or `*`")),
        answers={
            200: _json("The registration", "Registration", {**FEED_POSITION, **ETAG}),
            304: Answer(description="Not changed", headers={**FEED_POSITION, **ETAG}),
        },
        problems=(Problem.NOT_FOUND,),
    ),
    Operation(
        path="/v1/registrations/{id}",
        method="delete",
        name="cancelRegistration",
        summary="Cancel what has not finished",
        tag="Registrations",
        parameters=(_ID,),
        answers={202: _ACCEPTED},
        problems=(Problem.NOT_FOUND, Problem.NOTHING_TO_CANCEL),
    ),
    Operation(
        path="/v1/registrations/{id}/retry",
        method="post",
        name="retryRegistration",
        summary="Begin the failed providers again",
        description="Asks for another signature only if one of them has neither a link nor an unexpired signed consent.",
        tag="Registrations",
        parameters=(_ID,),
        answers={202: _ACCEPTED},
        problems=(Problem.NOT_FOUND, Problem.NOTHING_TO_RETRY),
    ),
    Operation(
        path="/v1/assets",
        method="get",
        name="listAssets",
        summary="Everything that the user has",
        tag="Assets",
        parameters=(
            _parameter("industry", "query", "Only of this industry", _INDUSTRY),
            _parameter("org_code", "query", "Only of this provider", _ORG_CODE),
            _limit(100, 500),
            _PAGE,
        ),
        answers={200: _json("One page", "Assets", FEED_POSITION)},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/v1/links",
        method="get",
        name="listLinks",
        summary="Every provider that is or was linked",
        tag="Links",
        answers={200: _json("All of them", "Links", FEED_POSITION)},
    ),
    Operation(
        path="/v1/links/{org_code}",
        method="delete",
        name="revokeLink",
        summary="End a link",
        description="Its assets are gone at once, `link.revoked` says so; the provider is told to forget the tokens.",
        tag="Links",
        parameters=(_parameter("org_code", "path", "The provider", _ORG_CODE, required=True),),
        answers={202: _json("It has ended here; the provider is being told", "Link")},
        problems=(Problem.NOT_FOUND,),
    ),
    Operation(
        path="/v1/me",
        method="delete",
        name="forgetMe",
        summary="Erase everything of this user",
        description="Rows and feed (another epoch) are gone; the providers are told to forget the tokens; the history of consents stays. "
        "What an operator did stays too, with their `sub`.",
        tag="Links",
        answers={202: Answer(description="Erased here; the providers are being told")},
    ),
    Operation(
        path="/v1/refresh",
        method="post",
        name="beginRefresh",
        summary="Read linked providers again, now",
        description="All that are linked, or those named. `asset.refreshed` tells what changed, `refresh.completed` the end. An asset that "
        "its provider lists no more is told once, as `closed` and without a balance. While the same providers are being read, the answer "
        "is the refresh that is under way.",
        tag="Links",
        body="NewRefresh",
        answers={202: _json("Accepted; the rest comes as events", "Refresh", {"Location": _header("Path of the refresh")})},
        problems=(*_BODY, Problem.UNKNOWN_PROVIDER, Problem.NOTHING_TO_REFRESH),
    ),
    Operation(
        path="/v1/refresh/{id}",
        method="get",
        name="getRefresh",
        summary="One refresh as it is now",
        description="Kept for a week.",
        tag="Links",
        parameters=(
            _parameter("id", "path", "The refresh's id", {"type": "string", "pattern": "^ref_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True),
        ),
        answers={200: _json("The refresh", "Refresh", FEED_POSITION)},
        problems=(Problem.NOT_FOUND,),
    ),
    Operation(path="/v1/events", method="get", name="followFeed", summary="The user's feed: WebSocket, SSE or poll", **_FEED),  # type: ignore[arg-type]
    Operation(
        path="/ops/events",
        method="get",
        name="followOperatorsFeed",
        summary="The operators' feed, by the same three transports",
        scope="ops",
        **_FEED,  # type: ignore[arg-type]
    ),
    Operation(
        path="/ops/breakers",
        method="get",
        name="listBreakers",
        summary="Every circuit: what is in force, and what was set",
        tag="Circuits",
        scope="ops",
        answers={200: _json("All of them, in the order of the directory", "Breakers")},
    ),
    Operation(
        path="/ops/breakers/{org_code}",
        method="put",
        name="setBreakerMode",
        summary="Force an institution's circuits, or leave them to the coordinator",
        description="Answers when it is committed, with who said so; nodes follow within a moment.",
        tag="Circuits",
        scope="ops",
        parameters=(_parameter("org_code", "path", "The institution", _ORG_CODE, required=True),),
        body="NewBreakerMode",
        answers={200: _json("It stands until another word", "SetBreakerMode")},
        problems=(*_BODY, Problem.NOT_FOUND),
    ),
    Operation(
        path="/ops/breakers/history",
        method="get",
        name="listBreakerHistory",
        summary="What operators did about circuits, and what was decided",
        description="Actions are kept for ever, decisions for 30 days. `limit` goes for each.",
        tag="Circuits",
        scope="ops",
        parameters=(_parameter("org_code", "query", "Only of this institution", _ORG_CODE), _limit(100, 1000)),
        answers={200: _json("The newest first", "BreakerHistory")},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    *BATCH,
    *REPORTS,
    Operation(
        path="/v1/webhooks",
        method="post",
        name="addWebhook",
        summary="Have events sent to a backend of yours",
        description="The answer holds the secret, which is never shown again.",
        body="NewWebhook",
        answers={201: _json("Made; what is committed from now on is sent", "MadeWebhook", {"Location": _header("Path of the webhook")})},
        **{**_WEBHOOKS, "parameters": (), "problems": _BODY},  # type: ignore[arg-type]
    ),
    Operation(
        path="/v1/webhooks",
        method="get",
        name="listWebhooks",
        summary="All webhooks with the state of their deliveries",
        answers={200: _json("All of them, oldest first", "Webhooks")},
        **{**_WEBHOOKS, "parameters": (), "problems": ()},  # type: ignore[arg-type]
    ),
    Operation(
        path="/v1/webhooks/{id}",
        method="get",
        name="getWebhook",
        summary="One webhook with the state of its deliveries",
        answers={200: _json("The webhook", "Webhook")},
        **_WEBHOOKS,  # type: ignore[arg-type]
    ),
    Operation(
        path="/v1/webhooks/{id}",
        method="delete",
        name="deleteWebhook",
        summary="Send nothing more",
        answers={204: Answer(description="What is on its way may still arrive")},
        **_WEBHOOKS,  # type: ignore[arg-type]
    ),
    Operation(
        path="/v1/webhooks/{id}/secret",
        method="post",
        name="renewWebhookSecret",
        summary="Another secret",
        description="For 24 hours deliveries carry two signatures, by the new and by the old one.",
        answers={200: _json("The new secret, shown once", "WebhookSecret")},
        **_WEBHOOKS,  # type: ignore[arg-type]
    ),
    Operation(
        path="/v1/webhooks/{id}/test",
        method="post",
        name="testWebhook",
        summary="Send a `webhook.test`",
        answers={202: Answer(description="It is sent like any other, without `offset`")},
        **_WEBHOOKS,  # type: ignore[arg-type]
    ),
    Operation(
        path="/healthz",
        method="get",
        name="getHealth",
        summary="This process runs",
        tag="Operations",
        scope=None,
        answers={200: Answer(description="It does", content={"text/plain": {"type": "string"}})},
    ),
    Operation(
        path="/readyz",
        method="get",
        name="getReadiness",
        summary="Whether this process can take requests",
        tag="Operations",
        scope=None,
        answers={200: _json("It can", "Readiness"), 503: _json("It cannot, and why", "Readiness")},
    ),
    Operation(
        path="/metrics",
        method="get",
        name="getMetrics",
        summary="Metrics of this process in the Prometheus text format",
        description="Public to whoever reaches this port: let no proxy lead here from outside. No label names a person.",
        tag="Operations",
        scope=None,
        answers={200: Answer(description="All of them", content={"text/plain": {"type": "string"}})},
    ),
    Operation(
        path="/metrics/all",
        method="get",
        name="getMetricsOfAll",
        summary="Metrics of every process that `moa up` keeps, each line with its `process`",
        description="At most a second old. A process that does not answer is `moa_process_up` 0. Without `moa up`: this process alone.",
        tag="Operations",
        scope=None,
        answers={200: Answer(description="All of them", content={"text/plain": {"type": "string"}})},
    ),
    Operation(
        path="/demo/token",
        method="get",
        name="getDemoToken",
        summary="A development token for the demo page",
        description="Only in development, for a client on the same machine; elsewhere there is no such path.",
        tag="Development",
        scope=None,
        parameters=(_parameter("user", "query", "Whom it stands for", {"type": "string", "minLength": 1, "maxLength": 64}, required=True),),
        answers={200: _json("A JWT of scope `user`", "DemoToken")},
        problems=(Problem.MALFORMED_REQUEST, Problem.NOT_FOUND),
    ),
)


def openapi(version: str) -> dict[str, Any]:
    """The document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.document()
    token = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Claims: `sub`, `exp`, `scope` with `user` or `ops`"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Moa", "version": version, "description": _INFO, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "webhooks": {"event": _DELIVERY},
        "components": {"schemas": {**schemas(), **batch_schemas(), **report_schemas()}, "securitySchemes": {"token": token}},
    }
