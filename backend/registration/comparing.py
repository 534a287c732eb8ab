"""What a reading says that was not known: assets that changed, and assets that have gone. RULE: pure.

In: what was read, what is stored, the kinds of which every list was told whole. Out: the assets to write and to tell. One that looks as it
did costs nothing, however often it is read: a provider that keeps no timestamps is read in full each time. One that no list names any
more is told once, as closed and without a balance, and stays: a person may want to look at what they had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec.structs import replace

from backend.clock import iso
from backend.events import Asset, AssetKind
from backend.providers.payloads import Status


def news(read: Iterable[Asset], stored: Mapping[str, Asset], whole: frozenset[AssetKind], now: datetime) -> tuple[Asset, ...]:
    """What to write and to tell. `stored`: by id, all of the provider that was read to its end."""
    by_id = {asset.id: asset for asset in read}
    changed = (asset for asset in by_id.values() if not _is_same(asset, stored.get(asset.id)))
    return (*changed, *gone(by_id.keys(), stored, whole, now))


def gone(named: Iterable[str], stored: Mapping[str, Asset], whole: frozenset[AssetKind], now: datetime) -> tuple[Asset, ...]:
    """What is stored as open, and not among the ids that were `named`, as it is from now on."""
    names = frozenset(named)
    return tuple(
        replace(asset, status=Status.CLOSED, balance=None, as_of=iso(now))
        for asset in stored.values()
        if asset.id not in names and asset.kind in whole and asset.status != Status.CLOSED
    )


def _is_same(read: Asset, stored: Asset | None) -> bool:
    """But for when it was read."""
    return stored is not None and replace(read, as_of=stored.as_of) == stored
