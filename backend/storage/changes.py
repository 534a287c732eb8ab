"""A change of a registration as one statement: its state, what goes with it, and the facts that tell of it. A transaction by itself.

In: a `Change`, made from the registration as it was at one offset of its user's feed. Out: the facts with their offsets, or None, with
nothing written, when anything of this user has been told since: every change tells something, so the offset is the version. One round
trip instead of seven, which on a busy machine are seven waits for a core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from msgspec import Struct

from backend.events import Asset, Event
from backend.storage import assets, consents, links, registrations
from backend.storage.outbox import Entry, published, publishing
from backend.storage.statements import Connection, Statement, Values, json_row, statement


class Writes(Struct, frozen=True, kw_only=True):
    """What goes with a change into its statement. Of two rows with one key the later is written."""

    assets: tuple[Asset, ...] = ()
    links: tuple[Values, ...] = ()  # columns of `links`, with their new tokens
    read: tuple[Values, ...] = ()  # what was read to the end: org_code, consent_tx_id, search_timestamps
    asked: tuple[Values, ...] = ()  # columns of `consents` that the person is to sign
    signed: tuple[Values, ...] = ()  # org_code, signed_sealed, cert_tx_id
    registration: Values = {}  # columns beside the registration's state

    def __add__(self, other: Writes) -> Writes:
        """Both, in this order."""
        return Writes(
            assets=self.assets + other.assets,
            links=self.links + other.links,
            read=self.read + other.read,
            asked=self.asked + other.asked,
            signed=self.signed + other.signed,
            registration={**self.registration, **other.registration},
        )


class Change(Struct, frozen=True, kw_only=True):
    """What is to be written at once."""

    user_id: str
    registration_id: str
    since: int  # the user's offset at which the registration was read
    state: Values = {}  # columns of the registration that differ
    items: Sequence[Values] = ()  # of providers that differ
    writes: Writes = Writes()
    events: Sequence[Event] = ()


async def commit(connection: Connection, change: Change, now: datetime) -> list[Entry] | None:
    """The facts as the feed takes them. None: overtaken, and nothing was written."""
    columns = {**change.state, **change.writes.registration}
    if columns:
        columns["updated_at"] = now
    steps = {name: value for name, value in _values(change).items() if value}
    values = {**steps, **{f"new_{name}": value for name, value in columns.items()}}
    values |= {"registration_id": change.registration_id, "since": change.since}
    if change.events:
        telling = _telling(tuple(columns), tuple(steps))
        return await published(telling, connection, change.user_id, change.events, now, values) or None
    silent = _silent(tuple(columns), tuple(steps))
    return [] if await silent.value(connection, {**values, "user_id": change.user_id, "count": 0, "now": now}) is not None else None


# A user who was erased and came back may reach the same offset; the registration is not there then.
_NUMBERED = """numbered AS (
    UPDATE users SET feed_offset = feed_offset + :count WHERE user_id = :user_id AND feed_offset = :since
      AND EXISTS (SELECT FROM registrations r WHERE r.user_id = :user_id AND r.id = :registration_id)
    RETURNING feed_offset - :count AS before)"""
_STEPS = {  # by the name of what they write
    "items": registrations.ITEMS,
    "assets": assets.SAVED,
    "links": links.LINKED,
    "read": links.READ,
    "asked": consents.ASKED,
    "signed": consents.SIGNED,
}


def _values(change: Change) -> dict[str, Any]:
    """What each step takes; one that has nothing to take is left out of the statement."""
    writes = change.writes
    return {
        "items": list(change.items),
        "assets": assets.rows(writes.assets),
        "links": _last(json_row(each) for each in writes.links),
        "read": list(writes.read),
        "asked": [json_row(each) for each in writes.asked],
        "signed": [json_row(each) for each in writes.signed],
    }


def _last(rows: Iterable[Values]) -> list[Values]:
    return list({row["org_code"]: row for row in rows}.values())


@cache
def _telling(columns: tuple[str, ...], steps: tuple[str, ...]) -> Statement:
    return publishing(*_parts(columns, steps))


@cache
def _silent(columns: tuple[str, ...], steps: tuple[str, ...]) -> Statement:
    return statement(f"WITH {', '.join(_parts(columns, steps))} SELECT before FROM numbered")  # noqa: S608  # of constants


def _parts(columns: tuple[str, ...], steps: tuple[str, ...]) -> list[str]:
    state = [registrations.state(columns)] if columns else []
    return [_NUMBERED, *state, *(_STEPS[name] for name in steps)]
