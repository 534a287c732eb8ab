"""The law of the feed: a snapshot at a position, with the events after it, is a fresh snapshot. For any sequence of requests.

Rows are folded by us, snapshots by a client that knows the contract only (`client_fold.py`). One client begins at every position.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.errors import Trouble
from backend.events import Fact, Position, ProviderStatus, RegistrationStatus, to_json
from backend.providers.directory import BUILT_IN, load_directory
from backend.registration.decisions import (
    Cancel,
    Complete,
    Connect,
    Defer,
    Fail,
    RecordAssets,
    RecordDenial,
    RecordExpiry,
    RecordSignatureRequest,
    RecordSigned,
    RecordSigningFailure,
    Request,
    Retry,
    decide,
)
from backend.registration.model import Registration, evolve
from backend.registration.rows import changed_rows, new_row, restored
from backend.registration.views import registration_view
from backend.storage.registrations import ITEM
from tests.registration.client_fold import Client
from tests.registration.play import NOON, SIGNATURE, TTL, A, B, C, asset, new, told

DIRECTORY = load_directory(BUILT_IN)
ENDED = {ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.CANCELLED, ProviderStatus.DEFERRED}
NOBODY_SIGNED = {RegistrationStatus.DENIED, RegistrationStatus.EXPIRED, RegistrationStatus.FAILED}

org_codes = st.sampled_from([A, B, C])
runs = st.sampled_from(["now", "now", "now", "now", "before", "after"])
asset_names = st.lists(st.sampled_from("wxyz"), max_size=3, unique=True)


def _run(registration: Registration, which: str, org_code: str | None = None) -> int:
    now = registration.run if org_code is None else registration.item(org_code).run
    return now + {"before": -1, "now": 0, "after": 1}[which]


@st.composite
def requests(draw: st.DrawFn, registration: Registration) -> Request:
    """Anything that anybody may ask for, mostly of the run that is on."""
    of_signature, which = _run(registration, draw(runs)), draw(runs)
    org_code = draw(st.sampled_from([item.org_code for item in registration.items]))
    run = _run(registration, which, org_code)
    moment = NOON + timedelta(seconds=draw(st.integers(0, 600)))
    signature: list[Any] = [RecordSignatureRequest(of_signature, SIGNATURE), RecordSigned(of_signature), RecordSigned(of_signature)]
    provider: list[Any] = [
        Connect(org_code, run, answered=draw(st.booleans())),
        RecordAssets(org_code, run, tuple(asset(name, org_code) for name in draw(asset_names))),
        Complete(org_code, run),
        Fail(org_code, run, draw(st.sampled_from(Trouble))),
        Defer(org_code, run, Trouble.RESTING, moment),
    ]
    seldom: list[Any] = [
        RecordDenial(of_signature),
        RecordExpiry(of_signature),
        RecordSigningFailure(of_signature),
        Cancel(),
        Retry(frozenset(draw(st.sets(org_codes)))),
        Retry(frozenset()),
    ]
    return draw(st.sampled_from(signature * 2 + provider * 3 + seldom))


class World:
    """The rows, and a client that followed from each position on."""

    def __init__(self, registration: Registration) -> None:
        self.row = new_row(registration, request_id="req_1")
        self.row |= dict.fromkeys(("sign_web_url", "sign_ios_url", "sign_aos_url", "sign_expires_at"))
        self.items = {item.org_code: [item.org_code, "waiting", item.run, [], None, None] for item in registration.items}
        self.history: list[Fact] = []
        self.clients = [self.client()]

    @property
    def registration(self) -> Registration:
        return restored({**self.row, "items": list(self.items.values())})

    def snapshot(self) -> dict[str, Any]:
        view = orjson.loads(to_json(registration_view(self.registration, DIRECTORY, Position("e", 0))))
        del view["position"]
        return view

    def client(self) -> Client:
        """One that reads the registration and the assets now."""
        ids = ((item.org_code, each) for item in self.registration.items for each in item.asset_ids)
        return Client(self.snapshot(), [{"org_code": org_code, "id": each} for org_code, each in ids])

    def meet(self, request: Request, seconds: int) -> tuple[Registration, tuple[Fact, ...], Registration]:
        """What the shell does with a request: decide, write what changed, tell."""
        before, now = self.registration, NOON + timedelta(seconds=seconds)
        facts = decide(before, request, now)
        after = evolve(before, facts)
        state, items = changed_rows(before, after)
        self.row |= state
        if isinstance(request, RecordSignatureRequest) and facts:
            expires = {"sign_expires_at": NOON + TTL}
            self.row |= {"sign_web_url": "https://ca/w", "sign_ios_url": "ca://i", "sign_aos_url": "ca://a", **expires}
        for values in items:
            self.items[values["org_code"]] = [values[name] for name in ITEM]
        self.history += facts
        for fact in facts:
            event = orjson.loads(fact.event().encode())
            for client in self.clients:
                client.hear(event)
        self.clients.append(self.client())
        return before, facts, after


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), chosen=st.lists(org_codes, min_size=1, max_size=3, unique=True))
def test_every_client_sees_what_the_rows_hold(data: st.DataObject, chosen: list[str]) -> None:
    world, seconds = World(new(*chosen)), 0
    if data.draw(st.booleans()):  # most roads lie behind the signature
        world.meet(RecordSignatureRequest(1, SIGNATURE), 0)
        world.meet(RecordSigned(1), 0)
    for _ in range(data.draw(st.integers(1, 30))):
        seconds += data.draw(st.sampled_from([0, 1, 60]))
        _, facts, after = world.meet(data.draw(requests(world.registration)), seconds)
        assert world.registration == after, "the rows are the fold of the facts"
        fresh = world.snapshot()
        for client in world.clients:
            assert client.registration == fresh
        if facts and told(facts[-1]).startswith("registration.completed"):
            _check_the_end(after)
    _check_announcements(world.history)
    _check_signatures_come_first(world.history, chosen)


def _check_the_end(registration: Registration) -> None:
    """Once ended, every provider has ended or is deferred; those that nobody signed for still wait."""
    waiting = {ProviderStatus.WAITING} if registration.status in NOBODY_SIGNED else set()
    going_on = {item.status for item in registration.items if item.run < registration.run}  # deferred once, and back before the others
    assert {item.status for item in registration.items} <= ENDED | waiting | (going_on if waiting else set())


def _check_announcements(history: list[Fact]) -> None:
    """`registration.completed` comes once for each value in a run."""
    announced: list[str] = []
    for line in map(told, history):
        if line.startswith("registration.retried"):
            announced = []
        elif line.startswith("registration.completed"):
            assert line not in announced
            announced.append(line)


def _check_signatures_come_first(history: list[Fact], chosen: list[str]) -> None:
    """No provider is heard of before the signature of its run is completed, or the retry said that none is needed."""
    unsigned = set(chosen)
    for fact in history:
        line = told(fact)
        if line.startswith("registration.retried signing"):
            unsigned |= set(fact.providers)  # type: ignore[attr-defined]
        elif line == "signature.completed":
            unsigned = set()
        assert getattr(fact, "org_code", None) not in unsigned
