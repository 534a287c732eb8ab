"""Registrations as clients see them. RULE: pure; the directory gives the names."""

from __future__ import annotations

import hashlib

from backend.clock import iso
from backend.errors import ITEM_ERRORS, Trouble
from backend.events import ItemError, Position, ProviderStatus, to_json
from backend.providers.directory import Directory
from backend.registration.model import Item, ItemView, Registration, RegistrationView

_NOWHERE = Position("", 0)


def registration_view(registration: Registration, directory: Directory, position: Position) -> RegistrationView:
    """The contract's object. `position` must have been read before `registration`."""
    return RegistrationView(
        id=registration.id,
        status=registration.status,
        created_at=iso(registration.created_at),
        signature=registration.signature,
        providers=tuple(_item_view(item, directory) for item in registration.items),
        position=position,
    )


def etag(registration: Registration, directory: Directory) -> str:
    """A strong entity tag of everything but the position, which moves with every other event of the user."""
    body = to_json(registration_view(registration, directory, _NOWHERE))
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _item_view(item: Item, directory: Directory) -> ItemView:
    provider = directory.provider(item.org_code)  # None: it left the directory after this registration
    return ItemView(
        org_code=item.org_code,
        name=provider.name if provider else item.org_code,
        industry=provider.industry.value if provider else "",
        status=item.status,
        assets=len(item.asset_ids),
        error=_error(item),
    )


def _error(item: Item) -> ItemError | None:
    if item.status is not ProviderStatus.FAILED or item.error_code is None:
        return None
    return ITEM_ERRORS[Trouble(item.error_code)]
