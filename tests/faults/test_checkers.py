"""The judges are examined: a whole run is clean, and each way in which a promise can be broken is found by its checker."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import checkers
from tests.faults.checkers import CHECKERS, judged
from tests.faults.history import JSON, NO_ANSWER, Asked, Began, Disturbance, Evidence, Heard, Log, Rows, Tape

USER, BANK, ID, EPOCH, NEXT_EPOCH = "anna", "A1MOABK001", "reg_1", "e1", "e2"
ASSET = {"id": "ast_1", "org_code": BANK}


def event(kind: str, **more: Any) -> JSON:
    return {"type": kind, "at": "2026-11-22T01:02:03.004Z", "registration_id": ID, "data": {}, **more}


EVENTS = (
    event("registration.accepted"),
    event("signature.requested", data={"status": "requested"}),
    event("signature.completed"),
    event("provider.connecting", org_code=BANK),
    event("provider.assets", org_code=BANK, data={"assets": [ASSET]}),
    event("provider.completed", org_code=BANK, data={"assets": 1}),
    event("registration.completed", data={"status": "completed"}),
)


def registration(status: str, provider: str, assets: int, signature: str) -> JSON:
    one = {"org_code": BANK, "status": provider, "assets": assets, "error": None}
    return {"id": ID, "status": status, "signature": {"status": signature}, "providers": [one]}


ACCEPTED, FRESH = registration("signing", "waiting", 0, "pending"), registration("completed", "completed", 1, "completed")
HEARD = tuple(Heard(EPOCH, offset, one) for offset, one in enumerate(EVENTS, 1))


def tape(transport: str, *entries: Began | Heard, fresh: JSON | None = FRESH) -> Tape:
    return Tape(user=USER, transport=transport, entries=entries or (Began(EPOCH, 0, deepcopy(ACCEPTED)), *HEARD), fresh=fresh)


def asked(status: int = 202, **more: Any) -> Asked:
    begins = {"registration_id": ID} if status == 202 else {}
    given = {"user": USER, "what": "POST /v1/registrations", "began": 1.0, "ended": 1.1, "patience": 10.0, "key": "k", **begins, **more}
    return Asked(status=status, **given)


def call(at: float, code: str | None = None, **more: Any) -> JSON:
    path = f"/{BANK}/v1/bank/accounts" if code else f"/{BANK}/oauth/2.0/token"
    return {
        "at": at,
        "org_code": BANK,
        "user": USER,
        "path": path,
        "status": 200,
        "ms": 100.0,
        **({"api_code": code} if code else {}),
        **more,
    }


ASSET_ROW = {"user_id": USER, "id": "ast_1", "org_code": BANK, "kind": "deposit", "name": "통장", "number_masked": "***1"}
ITEM_ROW = {"user_id": USER, "registration_id": ID, "org_code": BANK, "status": "completed", "asset_ids": ["ast_1"], "updated_at": 2.0}
ROWS = Rows(
    registrations=({"user_id": USER, "id": ID, "status": "completed", "updated_at": 2.0},),
    items=(ITEM_ROW,),
    assets=(ASSET_ROW,),
    links=({"user_id": USER, "org_code": BANK, "status": "active"},),
    users=({"user_id": USER, "feed_offset": 7},),
)
WHOLE = Evidence(
    asked=(asked(), asked(200, key="", what="GET /v1/events")),
    tapes=(tape("poll"), tape("sse"), tape("websocket")),
    rows=ROWS,
    feeds={USER: Log(EPOCH, 7, tuple(enumerate(EVENTS, 1)))},
    calls=(call(1.2), call(1.4, "BA01"), call(1.6, "BA03")),
    needs={(USER, BANK): {"token": 1, "BA01": 1, "BA03": 1}},
    again={(USER, BANK): frozenset({"ast_1"})},
    recovered_by=40.0,
)
KILL = Disturbance("worker killed", 1.5, 1.5)
SICK = Disturbance(checkers.SICK_WAY, 1.5, 1.7)
TWICE = (call(1.2), call(1.4, "BA01"), call(2.2), call(2.4, "BA01"), call(2.6, "BA03"))


def but(**changed: Any) -> Evidence:
    return msgspec.structs.replace(WHOLE, **changed)


def rows(**changed: Any) -> Evidence:
    return but(rows=msgspec.structs.replace(ROWS, **changed))


def heard(*offsets: int, epoch: str = EPOCH) -> tuple[Heard, ...]:
    return tuple(Heard(epoch, offset, EVENTS[offset - 1]) for offset in offsets)


BEGAN = Began(EPOCH, 0, ACCEPTED)
BROKEN: dict[str, tuple[Callable[[Evidence], Any], Evidence]] = {
    "an accepted registration that is not there": (checkers.nothing_accepted_is_lost, rows(registrations=())),
    "a registration that never ended": (
        checkers.nothing_accepted_is_lost,
        rows(registrations=({**ROWS.registrations[0], "status": "collecting"},)),
    ),
    "a provider that never ended": (checkers.nothing_accepted_is_lost, rows(items=({**ITEM_ROW, "status": "connecting"},))),
    "a provider that waits in a registration that was signed": (
        checkers.nothing_accepted_is_lost,
        rows(items=({**ITEM_ROW, "status": "waiting"},)),
    ),
    "two answers to one key": (checkers.one_registration_per_key, but(asked=(asked(), asked(registration_id="reg_2")))),
    "a second registration that nobody was told of": (
        checkers.one_registration_per_key,
        rows(registrations=(*ROWS.registrations, {**ROWS.registrations[0], "id": "reg_2"})),
    ),
    "one asset under two ids": (checkers.no_asset_twice, rows(assets=(ASSET_ROW, {**ASSET_ROW, "id": "ast_2"}))),
    "an asset that is counted twice": (checkers.no_asset_twice, rows(items=({**ITEM_ROW, "asset_ids": ["ast_1", "ast_1"]},))),
    "an asset that was told and not stored": (checkers.no_asset_twice, rows(assets=())),
    "an asset that only a calm collection finds": (checkers.nothing_is_missing, but(again={(USER, BANK): frozenset({"ast_1", "ast_2"})})),
    "a provider that fails though nobody is ill": (
        checkers.nobody_fails_without_a_reason,
        rows(items=({**ITEM_ROW, "status": "failed"},)),
    ),
    "a fact in the outbox": (checkers.no_fact_is_left_behind, rows(outbox=1)),
    "a feed that lost its end": (checkers.no_fact_is_left_behind, but(feeds={USER: Log(EPOCH, 6, tuple(enumerate(EVENTS[:6], 1)))})),
    "a gap": (checkers.events_have_no_gap_and_no_double, but(tapes=(tape("sse", BEGAN, *heard(1, 2, 4, 5, 6, 7)),))),
    "a double": (checkers.events_have_no_gap_and_no_double, but(tapes=(tape("sse", BEGAN, *heard(1, 2, 2, 3, 4, 5, 6, 7)),))),
    "two events in the wrong order": (checkers.events_have_no_gap_and_no_double, but(tapes=(tape("sse", BEGAN, *heard(1, 3, 2, 4)),))),
    "another epoch without a word": (
        checkers.events_have_no_gap_and_no_double,
        but(tapes=(tape("poll", BEGAN, *heard(1, 2), *heard(3, 4, 5, 6, 7, epoch=NEXT_EPOCH)),)),
    ),
    "history that is lost without force": (
        checkers.history_is_lost_only_by_force,
        but(tapes=(tape("poll", BEGAN, *heard(1), Began(NEXT_EPOCH, 7, FRESH, (ASSET,), lost=True)),)),
    ),
    "two transports that disagree": (
        checkers.every_transport_tells_the_same,
        but(
            tapes=(
                tape("poll"),
                tape("sse", BEGAN, *HEARD[:6], Heard(EPOCH, 7, event("registration.completed", data={"status": "partial"}))),
            )
        ),
    ),
    "a feed that disagrees with what was pushed": (
        checkers.every_transport_tells_the_same,
        but(feeds={USER: Log(EPOCH, 7, ((1, event("signature.denied")), *enumerate(EVENTS[1:], 2)))}),
    ),
    "a client that hears no end": (checkers.everybody_hears_the_end, but(tapes=(tape("sse", BEGAN, *heard(1, 2), fresh=None),))),
    "a fold that is no snapshot": (checkers.the_law_holds, but(tapes=(tape("sse", BEGAN, *heard(1, 2, 3, 4, 5, 6)),))),
    "a provider before the signature": (
        checkers.signature_comes_first,
        but(feeds={USER: Log(EPOCH, 7, ((1, EVENTS[0]), (2, EVENTS[3]), *enumerate(EVENTS[2:], 3)))}),
    ),
    "two links of one provider": (checkers.no_two_live_tokens, rows(links=ROWS.links * 2)),
    "two tokens at once": (
        checkers.no_two_live_tokens,
        but(calls=(call(1.2), call(1.25), *WHOLE.calls[1:]), disturbances=(KILL,)),
    ),
    "a token that nobody needed": (checkers.no_two_live_tokens, but(calls=TWICE)),
    "calls that nobody needed": (checkers.calls_stay_within_need, but(calls=(*WHOLE.calls, call(1.9, "BA03")))),
    "calls that a kill before them does not excuse": (
        checkers.calls_stay_within_need,
        but(calls=TWICE, disturbances=(Disturbance("worker killed", 0.5, 0.5),)),
    ),
    "a third run after one kill": (
        checkers.calls_stay_within_need,
        but(calls=(*TWICE, call(3.0, "BA01")), disturbances=(KILL,)),
    ),
    "more sends than a sick way explains": (
        checkers.calls_stay_within_need,
        but(calls=(*WHOLE.calls, *[call(1.6, "BA01")] * (checkers.SENDS + 1)), disturbances=(SICK,)),
    ),
    "a 500": (checkers.answers_are_honest, but(asked=(asked(500),))),
    "a 503 without a word when to come back": (checkers.answers_are_honest, but(asked=(asked(503),))),
    "a request that hangs": (checkers.answers_are_honest, but(asked=(asked(NO_ANSWER, ended=11.0),))),
    "an answer that comes too late": (checkers.answers_are_honest, but(asked=(asked(ended=11.5),))),
    "a connection that is cut without a reason": (checkers.silence_has_a_reason, but(asked=(asked(NO_ANSWER),))),
    "a process that ends by itself": (checkers.nobody_gives_up, but(deserters=(("worker-1", 1),))),
    "a traceback": (checkers.nobody_gives_up, but(tracebacks=("api-1: Traceback (most recent call last)",))),
    "an end that comes too late": (checkers.it_heals_in_time, but(recovered_by=1.5)),
}


def test_a_whole_run_is_clean() -> None:
    assert judged(WHOLE) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    checker, evidence = BROKEN[name]
    assert list(checker(evidence)), f"{checker.__name__} did not see it"
    assert judged(evidence)


def test_sends_whose_answers_were_lost_on_a_sick_way_are_no_runs() -> None:
    lost = (call(1.6, "BA01"),) * (checkers.SENDS - 1)
    assert judged(but(calls=(*WHOLE.calls, *lost), disturbances=(SICK,))) == []
    assert judged(but(calls=(*WHOLE.calls, *lost), disturbances=(KILL,)))


def test_every_checker_is_shown_a_broken_run() -> None:
    assert {checker for checker, _ in BROKEN.values()} == set(CHECKERS)


def test_a_kill_excuses_one_more_run_of_what_was_under_way() -> None:
    assert judged(but(calls=TWICE, disturbances=(KILL,))) == []


def test_after_a_wipe_a_client_may_begin_again_from_a_snapshot() -> None:
    again = tape("poll", BEGAN, *heard(1, 2), Began(NEXT_EPOCH, 7, FRESH, (ASSET,), lost=True))
    assert judged(but(tapes=(again,), disturbances=(Disturbance("valkey wiped", 1.5, 1.5),))) == []


def test_a_cut_is_excused_while_an_api_is_killed() -> None:
    assert judged(but(asked=(*WHOLE.asked, asked(NO_ANSWER)), disturbances=(Disturbance("api killed", 1.05, 1.05),))) == []


@given(st.permutations(range(len(HEARD))), st.integers(0, len(HEARD)))
def test_only_the_whole_log_in_its_order_passes(order: list[int], length: int) -> None:
    """Whatever is left out, doubled or exchanged on a tape is found by some checker."""
    entries = (BEGAN, *(HEARD[place] for place in order[:length]))
    well = order[:length] == list(range(len(HEARD)))
    assert (judged(but(tapes=(tape("sse", *entries),))) == []) == well
