"""What one registration looks like to whoever follows it: the contract's fold, with the moment at which each thing was heard. RULE: pure.

In: the accepted registration, then events, or a fresh snapshot when history was lost; times are seconds on a monotonic clock. Out: a
frozen `Progress`. Events of other registrations and types that are not known change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

ENDED = frozenset({"completed", "failed", "deferred", "cancelled"})  # of a provider; a deferred one goes on later, by itself
OVER = frozenset({"completed", "partial", "failed", "expired", "denied", "cancelled"})  # of a registration


class Event(Struct, frozen=True):
    """EVENT of the contract, as a client reads it: unknown types and fields are no fault."""

    type: str
    at: str = ""
    registration_id: str = ""
    org_code: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Amount(Struct, frozen=True):
    amount: str
    currency: str


class Shown(Struct, frozen=True):
    """An asset, as far as it is shown."""

    id: str
    org_code: str
    kind: str
    name: str
    number_masked: str = ""
    balance: Amount | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Trouble(Struct, frozen=True):
    code: str
    title: str
    detail: str = ""


class Position(Struct, frozen=True):
    epoch: str
    offset: int


class Signature(Struct, frozen=True):
    status: str
    web_url: str = ""


class Row(Struct, frozen=True, kw_only=True):
    """One chosen provider. Moments are None until they come."""

    org_code: str
    name: str
    industry: str
    status: str
    assets: int = 0
    error: Trouble | None = None
    first_asset: float | None = None
    ended: float | None = None


class Snapshot(Struct, frozen=True):
    """The registration as the API answers."""

    id: str
    status: str
    signature: Signature
    providers: tuple[Row, ...]
    position: Position


class Progress(Struct, frozen=True, kw_only=True):
    """Everything that is known now."""

    id: str
    status: str
    signature: Signature
    rows: Mapping[str, Row]
    assets: Mapping[str, Shown] = msgspec.field(default_factory=dict)  # by id
    asked: float  # when the request was sent
    accepted: float  # when its answer was there
    signed: float | None = None
    over: float | None = None

    @property
    def first_asset(self) -> Row | None:
        """The provider whose first asset came first."""
        shown = [row for row in self.rows.values() if row.first_asset is not None]
        return min(shown, key=lambda row: row.first_asset or 0.0, default=None)


def begun(snapshot: Snapshot, *, asked: float, accepted: float) -> Progress:
    """Right after the answer of `POST /v1/registrations`."""
    rows = {row.org_code: row for row in snapshot.providers}
    return Progress(id=snapshot.id, status=snapshot.status, signature=snapshot.signature, rows=rows, asked=asked, accepted=accepted)


def reread(before: Progress, snapshot: Snapshot, assets: Iterable[Shown], now: float) -> Progress:
    """History was lost: what the snapshots say counts, with the moments that are known."""
    rows = {row.org_code: _moments(before.rows.get(row.org_code, row), row, now) for row in snapshot.providers}
    shown = {asset.id: asset for asset in assets if asset.org_code in rows}
    signed = before.signed or (now if snapshot.signature.status == "completed" else None)
    over = before.over or (now if snapshot.status in OVER else None)
    return replace(before, status=snapshot.status, signature=snapshot.signature, rows=rows, assets=shown, signed=signed, over=over)


def _moments(known: Row, row: Row, now: float) -> Row:
    first = known.first_asset or (now if row.assets else None)
    return replace(row, first_asset=first, ended=known.ended or (now if row.status in ENDED else None))


def heard(progress: Progress, event: Event, now: float) -> Progress:
    """After one event, which was heard at `now`."""
    if event.registration_id != progress.id:
        return progress
    match event.type:
        case "signature.requested":
            return replace(progress, signature=msgspec.convert(event.data, Signature))
        case "signature.completed":
            return replace(progress, status="collecting", signed=now, signature=replace(progress.signature, status="completed"))
        case "signature.denied" | "signature.expired":
            return replace(progress, signature=replace(progress.signature, status=event.type.removeprefix("signature.")))
        case "registration.completed":
            return _over(progress, str(event.data.get("status", "")), now)
        case "registration.retried":
            return _retried(progress, event)
    row = progress.rows.get(event.org_code)
    return progress if row is None else _about(progress, row, event, now)


def _about(progress: Progress, row: Row, event: Event, now: float) -> Progress:
    match event.type:
        case "provider.connecting":
            return _with(progress, replace(row, status="connecting", error=None))
        case "provider.assets":
            told = {asset.id: asset for asset in msgspec.convert(event.data.get("assets", []), list[Shown])}
            assets = {**progress.assets, **told}
            count = sum(asset.org_code == row.org_code for asset in assets.values())
            row = replace(row, status="collecting", assets=count, first_asset=row.first_asset or now)
            return replace(_with(progress, row), assets=assets)
        case "provider.failed":
            return _with(progress, _ended(replace(row, error=msgspec.convert(event.data.get("error"), Trouble | None)), event, now))
        case "provider.completed" | "provider.deferred":
            return _with(progress, _ended(row, event, now))
    return progress


def _ended(row: Row, event: Event, now: float) -> Row:
    return replace(row, status=event.type.removeprefix("provider."), ended=now)


def _over(progress: Progress, status: str, now: float) -> Progress:
    rows = dict(progress.rows)
    if status == "cancelled":
        rows = {code: row if row.status in ENDED - {"deferred"} else replace(row, status=status) for code, row in rows.items()}
    return replace(progress, status=status, rows=rows, over=now)


def _retried(progress: Progress, event: Event) -> Progress:
    again = set(event.data.get("providers", ()))
    rows = {code: replace(row, status="waiting", error=None, ended=None) if code in again else row for code, row in progress.rows.items()}
    return replace(progress, status=str(event.data.get("status", "")), rows=rows, over=None)


def _with(progress: Progress, row: Row) -> Progress:
    return replace(progress, rows={**progress.rows, row.org_code: row})
