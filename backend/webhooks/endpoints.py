"""The HTTP side of webhooks, for operators: make, list, look at, another secret, test, delete.

In: requests with a token of scope `ops`. Out: JSON. A secret is in the answer that makes it and in no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.clock import iso
from backend.errors import Problem, Refused
from backend.events import EventType, to_json
from backend.identity import TokenVerifier, identify
from backend.storage.operators import Operator
from backend.web import json_answer, read_json, request_id
from backend.webhooks.addresses import Reach, fault_of
from backend.webhooks.keeping import Keeping, Webhook
from backend.webhooks.signing import secret_text

PATH = "/v1/webhooks"
UNREADABLE = "secret_unreadable"  # as the last failure: nothing is sent until it has another secret

_ID = re.compile(r"wh_[0-9A-HJKMNP-TV-Z]{26}")  # wh_ + ULID


class NewWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/webhooks`."""

    url: str
    events: Annotated[list[str], Meta(max_length=100)] | None = None
    description: Annotated[str, Meta(max_length=200)] = ""


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    keeping: Keeping
    reach: Reach
    max_body: int  # bytes

    def routes(self) -> list[Route]:
        one = PATH + "/{id}"
        return [
            Route(PATH, self.add, methods=["POST"]),
            Route(PATH, self.listing, methods=["GET"]),
            Route(one, self.webhook, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/secret", self.renew_secret, methods=["POST"]),
            Route(one + "/test", self.test, methods=["POST"]),
        ]

    async def add(self, request: Request) -> Response:
        operator = await self._operator(request)
        body = await read_json(request, NewWebhook, limit=self.max_body)
        check(body, self.reach)
        events = tuple(dict.fromkeys(body.events)) if body.events is not None else None
        made = await self.keeping.add(body.url, events, body.description, by=operator)
        shown = {**view(made, (0, 0)), "secret": secret_text(made.keys[0])}
        return json_answer(to_json(shown), status=201, headers={"Location": f"{PATH}/{made.id}", "Cache-Control": "no-store"})

    async def listing(self, request: Request) -> Response:
        await self._operator(request)
        counts = await self.keeping.counted()
        shown = [view(webhook, counts.get(webhook.id, (0, 0))) for webhook in await self.keeping.listed()]
        return json_answer(to_json({"webhooks": shown}))

    async def webhook(self, request: Request) -> Response:
        await self._operator(request)
        webhook_id = _webhook_id(request)
        counts = await self.keeping.counted()
        found = next((webhook for webhook in await self.keeping.listed() if webhook.id == webhook_id), None)
        if found is None:
            raise Refused(Problem.NOT_FOUND)
        return json_answer(to_json(view(found, counts.get(webhook_id, (0, 0)))))

    async def renew_secret(self, request: Request) -> Response:
        operator = await self._operator(request)
        key = await self.keeping.renew_secret(_webhook_id(request), by=operator)
        return json_answer(to_json({"secret": secret_text(key)}), headers={"Cache-Control": "no-store"})

    async def test(self, request: Request) -> Response:
        operator = await self._operator(request)
        await self.keeping.test(_webhook_id(request), by=operator)
        return Response(status_code=202)

    async def delete(self, request: Request) -> Response:
        operator = await self._operator(request)
        await self.keeping.delete(_webhook_id(request), by=operator)
        return Response(status_code=204)

    async def _operator(self, request: Request) -> Operator:
        return Operator((await identify(request, self.verifier, scope="ops")).user_id, request_id(request))


def check(body: NewWebhook, reach: Reach) -> None:
    """Raises `Refused` with every fault at once."""
    faults = []
    if (message := fault_of(body.url, reach)) is not None:
        faults.append({"field": "url", "message": message})
    if body.events is not None and not body.events:
        faults.append({"field": "events", "message": "name at least one, or leave it out for all"})
    for place, event in enumerate(body.events or ()):
        if event not in set(EventType):
            faults.append({"field": f"events[{place}]", "message": "unknown event type"})
    if "\0" in body.description:
        faults.append({"field": "description", "message": "text is needed"})
    if faults:
        raise Refused(Problem.VALIDATION_FAILED, errors=tuple(faults))


def view(webhook: Webhook, counts: tuple[int, int]) -> dict[str, Any]:
    """A webhook as operators see it; what never happened is left out."""
    pending, failed = counts
    failure = webhook.last_failure if webhook.keys else UNREADABLE
    moments = {
        "rests_until": webhook.rests_until,
        "last_delivered_at": webhook.last_delivered_at,
        "last_failed_at": webhook.last_failed_at,
    }
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "status": webhook.status,
        "created_at": iso(webhook.created_at),
        "deliveries": {
            "pending": pending,
            "failed": failed,
            "failures_in_a_row": webhook.failures,
            **{name: iso(moment) for name, moment in moments.items() if moment is not None},
            **({"last_failure": failure} if failure is not None else {}),
        },
    }


def _webhook_id(request: Request) -> str:
    webhook_id = str(request.path_params["id"])
    if not _ID.fullmatch(webhook_id):
        raise Refused(Problem.NOT_FOUND)
    return webhook_id
