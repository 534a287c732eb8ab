"""What the clients of a run did and heard, as frozen values: the one side of every comparison in `checkers.py`.

In: people record while they live. Out: `Evidence`, the history beside what the database, the feeds and the sandbox say at the end.
Times are Unix seconds of one machine, so that they compare with the sandbox's call log. Nothing here judges.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

JSON = dict[str, Any]
NO_ANSWER = 0  # as a status


class Asked(Struct, frozen=True, kw_only=True):
    """One request of a client, from its first byte to its last, or to the moment when nothing came any more."""

    user: str
    what: str  # "POST /v1/registrations"
    began: float
    ended: float
    patience: float  # seconds after which the client gives up
    status: int  # HTTP; `NO_ANSWER`: the connection was refused, cut, or too slow
    retry_after: bool = False  # whether the answer says when to come back
    problem: str = ""  # the code of a problem document
    key: str = ""  # Idempotency-Key
    registration_id: str = ""  # of a 202


class Began(Struct, frozen=True):
    """A client starts to follow: from a snapshot, at its position."""

    epoch: str
    offset: int
    registration: JSON
    assets: tuple[JSON, ...] = ()
    lost: bool = False  # whether the server has said before that history is gone


class Heard(Struct, frozen=True):
    """One event, as the transport brought it."""

    epoch: str
    offset: int
    event: JSON


class Tape(Struct, frozen=True, kw_only=True):
    """All that one client heard over one transport, cuts and reconnections included."""

    user: str
    transport: str
    entries: tuple[Began | Heard, ...]
    fresh: JSON | None = None  # the registration as it was read at the end; None: the client did not get so far


class Disturbance(Struct, frozen=True):
    """Something was done to the system. A kill begins and ends in the same moment."""

    name: str
    began: float
    ended: float


class Rows(Struct, frozen=True, kw_only=True):
    """What PostgreSQL holds, as plain values."""

    registrations: tuple[JSON, ...] = ()
    items: tuple[JSON, ...] = ()
    assets: tuple[JSON, ...] = ()
    links: tuple[JSON, ...] = ()
    users: tuple[JSON, ...] = ()
    outbox: int = 0  # facts that no feed has been told


class Log(Struct, frozen=True):
    """What one user's feed holds at the end: the newest position and the events before it."""

    epoch: str
    top: int
    events: tuple[tuple[int, JSON], ...]


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything that is judged."""

    asked: tuple[Asked, ...] = ()
    tapes: tuple[Tape, ...] = ()
    rows: Rows = Rows()
    feeds: Mapping[str, Log] = {}  # by user
    calls: tuple[JSON, ...] = ()  # the sandbox's call log
    needs: Mapping[tuple[str, str], Mapping[str, int]] = {}  # (user, org_code) -> api_code -> calls of one undisturbed collection
    again: Mapping[tuple[str, str], frozenset[str]] = {}  # (user, org_code) -> ids of the assets that an undisturbed collection finds
    ill: bool = False  # whether an institution was made ill, so that providers may fail
    disturbances: tuple[Disturbance, ...] = ()
    deserters: tuple[tuple[str, int], ...] = ()
    tracebacks: tuple[str, ...] = ()
    recovered_by: float = 0.0  # the moment by which everything had to have ended


@dataclass
class History:
    """Where people and scenarios write while they are at it."""

    asked: list[Asked] = field(default_factory=list)
    tapes: list[Tape] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)

    def accepted(self) -> Sequence[tuple[str, str]]:
        """(user, registration id) of every 202, each once."""
        return list(dict.fromkeys((one.user, one.registration_id) for one in self.asked if one.registration_id))

    @contextmanager
    def disturbing(self, name: str) -> Iterator[None]:
        """Whatever the block does to the system goes down under this name."""
        began = time.time()
        try:
            yield
        finally:
            self.disturbed(name, began, time.time())

    def disturbed(self, name: str, began: float, ended: float | None = None) -> None:
        """Something was done from one moment to another, or (None) at once."""
        self.disturbances.append(Disturbance(name, began, began if ended is None else ended))
