"""Between the registration's values and its rows, in both directions. RULE: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from backend.events import ProviderStatus, RegistrationStatus, Signature, SignatureStatus
from backend.registration.model import Item, Registration, requested_signature

Values = dict[str, Any]


class Columns(Protocol):
    """A row, read by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


def restored(row: Columns) -> Registration:
    """The registration that its row holds, with its `items` in the order of choice."""
    return Registration(
        user_id=row["user_id"],
        id=row["id"],
        created_at=row["created_at"],
        sign_before=row["sign_before"],
        items=tuple(_item(item) for item in row["items"]),
        status=RegistrationStatus(row["status"]),
        run=row["run"],
        completed_as=RegistrationStatus(row["completed_as"]) if row["completed_as"] else None,
        signature=_signature(row),
        signature_run=row["signature_run"],
    )


def new_row(registration: Registration, *, request_id: str) -> Values:
    """The row of a registration that is just accepted; its items wait."""
    return {
        "created_at": registration.created_at,
        "sign_before": registration.sign_before,
        "request_id": request_id,
        "user_id": registration.user_id,
        "id": registration.id,
        **_state(registration),
    }


def changed_rows(before: Registration, after: Registration) -> tuple[Values, list[Values]]:
    """The registration's state, empty if it is the same, and the items that differ."""
    was, state = _state(before), _state(after)
    known = {item.org_code: item for item in before.items}
    items = [_item_state(item) for item in after.items if item != known[item.org_code]]
    return state if state != was else {}, items


def _state(registration: Registration) -> Values:
    return {
        "status": registration.status.value,
        "run": registration.run,
        "completed_as": registration.completed_as.value if registration.completed_as else None,
        "signature_status": registration.signature.status.value,
        "signature_run": registration.signature_run,
    }


def _item_state(item: Item) -> Values:
    return {
        "org_code": item.org_code,
        "status": item.status.value,
        "run": item.run,
        "asset_ids": sorted(item.asset_ids),
        "error_code": item.error_code,
        "retry_at": item.retry_at.isoformat() if item.retry_at else None,
    }


def _item(columns: Sequence[Any]) -> Item:
    """`columns` as `storage.registrations.ITEM` orders them."""
    org_code, status, run, asset_ids, error_code, retry_at = columns
    return Item(
        org_code=org_code,
        status=ProviderStatus(status),
        run=run,
        asset_ids=frozenset(asset_ids),
        error_code=error_code,
        retry_at=datetime.fromisoformat(retry_at) if retry_at else None,
    )


def _signature(row: Columns) -> Signature:
    status = SignatureStatus(row["signature_status"])
    if row["sign_web_url"] is None:
        return Signature(status)
    requested = requested_signature(
        web_url=row["sign_web_url"], ios_url=row["sign_ios_url"], aos_url=row["sign_aos_url"], expires_at=row["sign_expires_at"]
    )
    return Signature(status, requested.web_url, requested.ios_app_scheme_url, requested.aos_app_scheme_url, requested.expires_at)
