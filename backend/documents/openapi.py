"""OpenAPI 3.1: every path, what it takes, what it answers, and with which codes it refuses."""

from __future__ import annotations

from typing import Any

from backend.documents.batch import BATCH, batch_schemas
from backend.documents.circuits import CIRCUITS, circuit_schemas
from backend.documents.operation import BODY_PROBLEMS, JSON, ORG_CODE_GIVEN, Answer, Operation, header, json_body, limit, parameter
from backend.documents.reports import REPORTS, report_schemas
from backend.documents.schemas import INDUSTRY, ref, schemas
from backend.documents.webhooks import DELIVERY, WEBHOOKS, webhook_schemas
from backend.errors import Problem

_INFO = """Connects all financial institutions of a person at once (MyData).

A registration is accepted in milliseconds; what follows arrives as events of the user's feed (`GET /v1/events`; AsyncAPI at
`/asyncapi.json`). Snapshot at a position + the events after it = a fresh snapshot.

Errors are problem documents (RFC 9457); programs look at `code`. A method that a path does not have is `405 method_not_allowed`, an unknown
path `404 not_found`; more than 64 KiB or 100 lines of request line and headers are `431 headers_too_large`. Amounts are decimal strings."""


FEED_POSITION = {"X-Feed-Position": header("`<epoch>:<offset>` of the user's feed, read before the data")}
LOCATION = {"Location": header("Path of the registration")}
REPLAYED = {"Idempotent-Replayed": header("`true`: the first answer to this key, byte for byte")}
ETAG = {"ETag": header("Of everything but `position`")}


_PAGE = parameter("page_token", "query", "`next_page_token` of the page before")
_ID = parameter("id", "path", "The registration's id", {"type": "string", "pattern": "^reg_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True)
_KEY = parameter(
    "Idempotency-Key",
    "header",
    "Same key and body within 24 hours: the first answer again",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
_SINCE = parameter("since", "query", "`<epoch>:<offset>`: what came after it. Absent: the newest position and no events")
_LAST = parameter("Last-Event-ID", "header", "The same for SSE; it goes before `since`")
_WAIT = parameter(
    "wait", "query", "Poll only: seconds to wait for something to come", {"type": "number", "minimum": 0, "maximum": 30, "default": 0}
)


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
_ACCEPTED = json_body("Accepted; the rest comes as events", "Registration", LOCATION)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        path="/v1/providers",
        method="get",
        name="listProviders",
        summary="What can be connected",
        tag="Providers",
        answers={200: json_body("The directory", "Providers")},
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
        answers={202: json_body("Accepted; the rest comes as events", "Registration", {**LOCATION, **REPLAYED})},
        problems=(
            *BODY_PROBLEMS,
            Problem.MALFORMED_REQUEST,
            Problem.UNKNOWN_PROVIDER,
            Problem.IDENTITY_REQUIRED,
            Problem.IDEMPOTENCY_CONFLICT,
        ),
    ),
    Operation(
        path="/v1/registrations",
        method="get",
        name="listRegistrations",
        summary="The user's registrations, newest first",
        tag="Registrations",
        parameters=(limit(20, 100), _PAGE),
        answers={200: json_body("One page", "Registrations", FEED_POSITION)},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/v1/registrations/{id}",
        method="get",
        name="getRegistration",
        summary="One registration as it is now",
        tag="Registrations",
        parameters=(_ID, parameter("If-None-Match", "header", "An `ETag` that is known, or `*`")),
        answers={
            200: json_body("The registration", "Registration", {**FEED_POSITION, **ETAG}),
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
            parameter("industry", "query", "Only of this industry", INDUSTRY),
            parameter("org_code", "query", "Only of this provider", ORG_CODE_GIVEN),
            limit(100, 500),
            _PAGE,
        ),
        answers={200: json_body("One page", "Assets", FEED_POSITION)},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/v1/links",
        method="get",
        name="listLinks",
        summary="Every provider that is or was linked",
        tag="Links",
        answers={200: json_body("All of them", "Links", FEED_POSITION)},
    ),
    Operation(
        path="/v1/links/{org_code}",
        method="delete",
        name="revokeLink",
        summary="End a link",
        description="Its assets are gone at once, `link.revoked` says so; the provider is told to forget the tokens.",
        tag="Links",
        parameters=(parameter("org_code", "path", "The provider", ORG_CODE_GIVEN, required=True),),
        answers={202: json_body("It has ended here; the provider is being told", "Link")},
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
        answers={202: json_body("Accepted; the rest comes as events", "Refresh", {"Location": header("Path of the refresh")})},
        problems=(*BODY_PROBLEMS, Problem.UNKNOWN_PROVIDER, Problem.NOTHING_TO_REFRESH),
    ),
    Operation(
        path="/v1/refresh/{id}",
        method="get",
        name="getRefresh",
        summary="One refresh as it is now",
        description="Kept for a week.",
        tag="Links",
        parameters=(
            parameter("id", "path", "The refresh's id", {"type": "string", "pattern": "^ref_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True),
        ),
        answers={200: json_body("The refresh", "Refresh", FEED_POSITION)},
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
    *CIRCUITS,
    *BATCH,
    *REPORTS,
    *WEBHOOKS,
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
        answers={200: json_body("It can", "Readiness"), 503: json_body("It cannot, and why", "Readiness")},
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
        parameters=(parameter("user", "query", "Whom it stands for", {"type": "string", "minLength": 1, "maxLength": 64}, required=True),),
        answers={200: json_body("A JWT of scope `user`", "DemoToken")},
        problems=(Problem.MALFORMED_REQUEST, Problem.NOT_FOUND),
    ),
)


def openapi(version: str) -> dict[str, Any]:
    """The document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.document()
    found = {**schemas(), **circuit_schemas(), **batch_schemas(), **report_schemas(), **webhook_schemas()}
    token = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Claims: `sub`, `exp`, `scope` with `user` or `ops`"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Moa", "version": version, "description": _INFO, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "webhooks": {"event": DELIVERY},
        "components": {"schemas": found, "securitySchemes": {"token": token}},
    }
