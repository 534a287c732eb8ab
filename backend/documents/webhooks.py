"""OpenAPI of webhooks: schemas, operations, and what a webhook receives."""

from __future__ import annotations

from functools import partial

from backend.documents.operation import BODY_PROBLEMS, JSON, Answer, Operation, header, json_body, parameter
from backend.documents.schemas import COUNT, MOMENT, OFFSET, TEXT, Schema, listed, obj, ref
from backend.errors import Problem
from backend.events import EventType

_ID = parameter("id", "path", "The webhook's id", {"type": "string", "pattern": "^wh_[0-9A-HJKMNP-TV-Z]{26}$"}, required=True)

DELIVERY: Schema = {
    "post": {
        "operationId": "receiveEvent",
        "summary": "What a webhook receives",
        "description": "Signed as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`. At least once: remember `webhook-id`. "
        "In order per user, but for an event that was refused for ten minutes. 2xx takes it, 410 ends the webhook, anything else is "
        "tried again for three days.",
        "parameters": [
            parameter("webhook-id", "header", "The same at every attempt", required=True),
            parameter("webhook-timestamp", "header", "Unix seconds of this attempt; refuse what is older than five minutes", required=True),
            parameter("webhook-signature", "header", "`v1,<base64>`, or two of them with a space between", required=True),
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": ref("Delivery")}}},
        "responses": {"2XX": {"description": "Taken"}, "410": {"description": "Send nothing more"}},
    }
}


def webhook_schemas() -> dict[str, Schema]:
    """By public name."""
    moments = dict.fromkeys(("rests_until", "last_delivered_at", "last_failed_at"), MOMENT)
    types: Schema = {"type": ["array", "null"], "items": {"type": "string"}, "description": "null: every type, those to come too"}
    webhook = {
        "id": TEXT,
        "url": TEXT,
        "events": types,
        "description": TEXT,
        "status": {"type": "string", "enum": ["active", "disabled"], "description": "disabled: it answered 410"},
        "created_at": MOMENT,
        "deliveries": obj(
            {"pending": COUNT, "failed": COUNT, "failures_in_a_row": COUNT},
            {**moments, "last_failure": TEXT},
            "Counts end at 10,000. `rests_until`: it failed too often in a row; then one delivery tries",
        ),
    }
    secret: Schema = {"secret": {"type": "string", "description": "`whsec_` and base64; shown once"}}
    return {
        "NewWebhook": obj(
            {"url": {"type": "string", "format": "uri", "maxLength": 2000}},
            {
                "events": {"type": ["array", "null"], "items": {"type": "string", "enum": list(EventType)}, "minItems": 1, "maxItems": 100},
                "description": {"type": "string", "maxLength": 200},
            },
        ),
        "Webhook": obj(webhook),
        "MadeWebhook": obj({**webhook, **secret}),
        "Webhooks": obj({"webhooks": listed(ref("Webhook"))}),
        "WebhookSecret": obj(secret),
        "Delivery": obj(
            {"id": TEXT, "user_id": TEXT, "event": ref("Event")},
            {"offset": {**OFFSET, "minimum": 1, "description": "The event's place in the user's feed"}},
        ),
    }


_operation = partial(Operation, tag="Webhooks", scope="ops")

WEBHOOKS: tuple[Operation, ...] = (
    _operation(
        path="/v1/webhooks",
        method="post",
        name="addWebhook",
        summary="Have events sent to a backend of yours",
        description="The answer holds the secret, which is never shown again.",
        body="NewWebhook",
        answers={201: json_body("Made; what is committed from now on is sent", "MadeWebhook", {"Location": header("Path of the webhook")})},
        problems=BODY_PROBLEMS,
    ),
    _operation(
        path="/v1/webhooks",
        method="get",
        name="listWebhooks",
        summary="All webhooks with the state of their deliveries",
        answers={200: json_body("All of them, oldest first", "Webhooks")},
    ),
    _operation(
        path="/v1/webhooks/{id}",
        method="get",
        name="getWebhook",
        summary="One webhook with the state of its deliveries",
        answers={200: json_body("The webhook", "Webhook")},
        parameters=(_ID,),
        problems=(Problem.NOT_FOUND,),
    ),
    _operation(
        path="/v1/webhooks/{id}",
        method="delete",
        name="deleteWebhook",
        summary="Send nothing more",
        answers={204: Answer(description="What is on its way may still arrive")},
        parameters=(_ID,),
        problems=(Problem.NOT_FOUND,),
    ),
    _operation(
        path="/v1/webhooks/{id}/secret",
        method="post",
        name="renewWebhookSecret",
        summary="Another secret",
        description="For 24 hours deliveries carry two signatures, by the new and by the old one.",
        answers={200: json_body("The new secret, shown once", "WebhookSecret")},
        parameters=(_ID,),
        problems=(Problem.NOT_FOUND,),
    ),
    _operation(
        path="/v1/webhooks/{id}/test",
        method="post",
        name="testWebhook",
        summary="Send a `webhook.test`",
        answers={202: Answer(description="It is sent like any other, without `offset`")},
        parameters=(_ID,),
        problems=(Problem.NOT_FOUND,),
    ),
)
