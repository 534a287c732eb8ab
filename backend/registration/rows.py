"""Between the registration's values and its rows, in both directions. RULE: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from backend.events import ProviderStatus, RegistrationStatus, Signature, SignatureStatus
from backend.registration.model import Item, Registration, requested_signature

Values = dict[str, Any]


def restored(row: Mapping[Any, Any], items: Sequence[Mapping[Any, Any]]) -> Registration:
    """The registration that its rows hold; `items` in the order of choice."""
    return Registration(
        user_id=row["user_id"],
        id=row["id"],
        created_at=row["created_at"],
        sign_before=row["sign_before"],
        items=tuple(_item(item) for item in items),
        status=RegistrationStatus(row["status"]),
        run=row["run"],
        completed_as=RegistrationStatus(row["completed_as"]) if row["completed_as"] else None,
        signature=_signature(row),
        signature_run=row["signature_run"],
    )


def new_rows(registration: Registration, *, request_id: str) -> tuple[Values, list[Values]]:
    """The rows of a registration that is just accepted."""
    row = {
        "user_id": registration.user_id,
        "id": registration.id,
        "created_at": registration.created_at,
        "updated_at": registration.created_at,
        "sign_before": registration.sign_before,
        "request_id": request_id,
        **_state(registration),
    }
    items = [
        {
            "user_id": registration.user_id,
            "registration_id": registration.id,
            "org_code": item.org_code,
            "position": position,
            **_item_state(item, registration.created_at),
        }
        for position, item in enumerate(registration.items)
    ]
    return row, items


def changed_rows(before: Registration, after: Registration, now: datetime) -> tuple[Values, dict[str, Values]]:
    """What differs: columns of the registration, and whole items by org_code."""
    old = _state(before)
    columns = {name: value for name, value in _state(after).items() if value != old[name]}
    known = {item.org_code: item for item in before.items}
    items = {item.org_code: _item_state(item, now) for item in after.items if item != known[item.org_code]}
    return ({**columns, "updated_at": now} if columns else {}), items


def _state(registration: Registration) -> Values:
    return {
        "status": registration.status.value,
        "run": registration.run,
        "completed_as": registration.completed_as.value if registration.completed_as else None,
        "signature_status": registration.signature.status.value,
        "signature_run": registration.signature_run,
    }


def _item_state(item: Item, now: datetime) -> Values:
    return {
        "status": item.status.value,
        "run": item.run,
        "asset_ids": sorted(item.asset_ids),
        "error_code": item.error_code,
        "retry_at": item.retry_at,
        "updated_at": now,
    }


def _item(row: Mapping[Any, Any]) -> Item:
    return Item(
        org_code=row["org_code"],
        status=ProviderStatus(row["status"]),
        run=row["run"],
        asset_ids=frozenset(row["asset_ids"]),
        error_code=row["error_code"],
        retry_at=row["retry_at"],
    )


def _signature(row: Mapping[Any, Any]) -> Signature:
    status = SignatureStatus(row["signature_status"])
    if row["sign_web_url"] is None:
        return Signature(status)
    requested = requested_signature(
        web_url=row["sign_web_url"], ios_url=row["sign_ios_url"], aos_url=row["sign_aos_url"], expires_at=row["sign_expires_at"]
    )
    return Signature(status, requested.web_url, requested.ios_app_scheme_url, requested.aos_app_scheme_url, requested.expires_at)
