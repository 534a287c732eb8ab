"""What a client does with an event, written from the contract's table alone: it knows nothing of our model.

In: a registration's JSON and an EVENT's JSON. Out: the registration's JSON after it. A client that begins in the middle must also know
which assets are counted already (`GET /v1/assets` tells it), since `assets` counts distinct ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

JSON = dict[str, Any]

FINISHED = {"completed", "failed", "cancelled"}


class Client:
    """One client: the registration as it shows it, and the assets that it has seen of each provider."""

    def __init__(self, registration: JSON, assets: Iterable[JSON] = ()) -> None:
        self.registration = {name: deepcopy(value) for name, value in registration.items() if name != "position"}
        self.seen: dict[str, set[str]] = {}
        for asset in assets:
            self.seen.setdefault(asset["org_code"], set()).add(asset["id"])

    def hear(self, event: JSON) -> None:
        """Takes in one event; those of other registrations change nothing."""
        if event.get("registration_id") == self.registration["id"]:
            _FOLDS[event["type"]](self, event)

    def provider(self, event: JSON) -> JSON:
        return next(provider for provider in self.registration["providers"] if provider["org_code"] == event["org_code"])

    def to(self, event: JSON, status: str, error: JSON | None = None) -> JSON:
        """The provider of the event, which has this status from now on."""
        provider = self.provider(event)
        provider.update(status=status, error=error)
        return provider


def _nothing(client: Client, event: JSON) -> None:
    pass


def _signature_requested(client: Client, event: JSON) -> None:
    client.registration["signature"] = dict(event["data"])


def _signature_completed(client: Client, event: JSON) -> None:
    client.registration["signature"]["status"] = "completed"
    client.registration["status"] = "collecting"


def _signature_denied(client: Client, event: JSON) -> None:
    client.registration["signature"]["status"] = "denied"


def _signature_expired(client: Client, event: JSON) -> None:
    client.registration["signature"]["status"] = "expired"


def _connecting(client: Client, event: JSON) -> None:
    client.to(event, "connecting")


def _assets(client: Client, event: JSON) -> None:
    seen = client.seen.setdefault(event["org_code"], set())
    seen |= {asset["id"] for asset in event["data"]["assets"]}
    client.to(event, "collecting")["assets"] = len(seen)


def _completed(client: Client, event: JSON) -> None:
    client.to(event, "completed")["assets"] = event["data"]["assets"]


def _failed(client: Client, event: JSON) -> None:
    client.to(event, "failed", event["data"]["error"])


def _deferred(client: Client, event: JSON) -> None:
    client.to(event, "deferred")


def _retried(client: Client, event: JSON) -> None:
    client.registration["status"] = event["data"]["status"]
    for provider in client.registration["providers"]:
        if provider["org_code"] in event["data"]["providers"]:
            provider.update(status="waiting", error=None)


def _ended(client: Client, event: JSON) -> None:
    client.registration["status"] = event["data"]["status"]
    if event["data"]["status"] == "cancelled":
        for provider in client.registration["providers"]:
            if provider["status"] not in FINISHED:
                provider["status"] = "cancelled"


_FOLDS: Mapping[str, Callable[[Client, JSON], None]] = {
    "registration.accepted": _nothing,
    "signature.requested": _signature_requested,
    "signature.completed": _signature_completed,
    "signature.denied": _signature_denied,
    "signature.expired": _signature_expired,
    "provider.connecting": _connecting,
    "provider.assets": _assets,
    "provider.completed": _completed,
    "provider.failed": _failed,
    "provider.deferred": _deferred,
    "registration.retried": _retried,
    "registration.completed": _ended,
}
