"""What every app does, whatever its client: it remembers what it was given, checks that each event follows the last, and folds them.

In: what a client says (a position to go on from, an event, a snapshot that the app read). Out: `faults` (gaps, doubles, wrong order), the
events, and the view that a person would see. An app never asks its client again for what it was given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.registration import client_fold

JSON = dict[str, Any]
Place = tuple[str, int]  # epoch, offset


@dataclass
class Snapshot:
    """What the API says now, and the position that was read before."""

    place: Place
    registrations: list[JSON]
    assets: list[JSON]

    def view(self) -> View:
        """What it shows."""
        return folded(self, [])


@dataclass
class View:
    """What a person sees: registrations by id, assets by institution and id."""

    registrations: dict[str, JSON]
    assets: dict[tuple[str, str], JSON]

    def shows_what(self, fresh: View) -> bool:
        """Whether `fresh` shows the same. Registrations that began after its snapshot are none of this view."""
        return self.assets == fresh.assets and self.registrations == {
            name: registration for name, registration in fresh.registrations.items() if name in self.registrations
        }


@dataclass
class App:
    """One app of one person."""

    name: str
    get_token: Callable[[], Awaitable[str]]
    place: Place | None = None  # after the last event; None: nobody has told it yet
    began: Place | None = None  # where the events of `heard` begin
    heard: list[tuple[str, int, JSON]] = field(default_factory=list)
    snapshot: Snapshot | None = None
    losses: int = 0  # how often it was told that events are gone
    stale: bool = False  # it was told so, and has read no snapshot since
    attaches: int = 0
    connecting: list[int] = field(default_factory=list)
    disconnected: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def attached(self, place: Place, *, recovered: bool) -> None:
        """The client goes on from `place`."""
        self.attaches += 1
        if self.place is None or self.place[0] == "":
            self.began = place
        elif not recovered:
            self.losses += 1
            self.stale = True
        elif place != self.place:
            self.faults.append(f"{self.name} was at {self.place} and goes on from {place}")
        self.place = place

    def event(self, offset: int, event: JSON) -> None:
        """The client hands an event on."""
        if self.place is None or offset != self.place[1] + 1:
            self.faults.append(f"{self.name} was at {self.place} and got {offset}")
        epoch = self.place[0] if self.place else ""
        self.place = (epoch, offset)
        self.heard.append((epoch, offset, event))

    def read(self, snapshot: Snapshot, *, goes_on: bool) -> None:
        """The app has read a snapshot. `goes_on`: the client asked for it, and will go on from its position."""
        self.snapshot, self.stale = snapshot, False
        if goes_on:
            self.losses += self.attaches > 0
            self.place = snapshot.place
            if not self.attaches:  # a client that was cut off before it could subscribe may ask again
                self.began = snapshot.place

    def view(self) -> View:
        """The last snapshot and what came after it."""
        assert self.snapshot is not None
        return folded(self.snapshot, [event for epoch, offset, event in self.heard if is_after(self.snapshot.place, epoch, offset)])


def is_after(place: Place, epoch: str, offset: int) -> bool:
    return epoch == place[0] and offset > place[1]


def folded(snapshot: Snapshot, events: list[JSON]) -> View:
    """A snapshot with later events, as the contract's table says. Registrations that it does not know are left out."""
    clients = [client_fold.Client(registration, snapshot.assets) for registration in snapshot.registrations]
    assets = {(asset["org_code"], asset["id"]): asset for asset in snapshot.assets}
    for event in events:
        for client in clients:
            client.hear(event)
        for asset in event["data"].get("assets", ()) if event["type"] == "provider.assets" else ():
            assets[asset["org_code"], asset["id"]] = asset
    return View({client.registration["id"]: client.registration for client in clients}, assets)
