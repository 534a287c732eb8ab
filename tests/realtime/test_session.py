"""The conversation as a rule: time and answers are arguments."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.events import Position
from backend.realtime.feed import Slice
from backend.realtime.protocol import CloseCode
from backend.realtime.session import (
    Action,
    Attach,
    Close,
    Closed,
    Connected,
    Connecting,
    Detach,
    Rejection,
    Send,
    Session,
    Subscribed,
    Verified,
    Verify,
)

ANNA = Verified("anna", 3600.0)
TOP = Position("e", 3)


def new() -> Session:
    return Session(channel="feed", client="c1", version="1", now=0.0)


def line(**command: Any) -> bytes:
    return orjson.dumps(command)


def connected() -> Session:
    session = new()
    assert session.received(line(id=1, connect={"token": "t"})) == [Verify("t", joining=True)]
    session.verified(ANNA, 0.0)
    return session


def subscribed() -> Session:
    session = connected()
    assert session.received(line(id=2, subscribe={"channel": "feed"})) == [Attach(None)]
    session.attached(Slice(TOP, True))
    return session


def frames(actions: list[Action]) -> list[dict[str, Any]]:
    return [orjson.loads(action.frame) for action in actions if isinstance(action, Send)]


def test_each_step_gives_the_next_type() -> None:
    assert isinstance(new().state, Connecting)
    assert type(connected().state) is Connected
    assert type(subscribed().state) is Subscribed


def test_what_follows_a_question_waits_for_its_answer() -> None:
    session = new()
    frame = b"\n".join(
        [line(id=1, connect={"token": "t"}), line(id=2, subscribe={"channel": "feed"}), line(id=3, unsubscribe={"channel": "feed"})]
    )
    assert session.received(frame) == [Verify("t", joining=True)]
    (welcome, attach) = session.verified(ANNA, 0.0)
    assert isinstance(welcome, Send)
    assert attach == Attach(None)
    assert [type(action) for action in session.attached(Slice(TOP, True))] == [Send, Detach, Send]


def test_no_connect_in_time_is_stale() -> None:
    session = new()
    assert session.wake_at == 10.0
    assert session.elapsed(9.9) == []
    assert session.elapsed(10.0) == [Close(CloseCode.STALE)]
    assert isinstance(session.state, Closed)
    assert session.wake_at is None


def test_pings_go_out_each_25_seconds_while_pongs_come_back() -> None:
    session = connected()
    for now in (25.0, 50.0, 75.0):
        assert session.wake_at == now
        assert frames(session.elapsed(now)) == [{}]
        assert session.wake_at == now + 10
        assert session.received(b"{}") == []


def test_a_pong_that_does_not_come_closes() -> None:
    session = connected()
    session.elapsed(25.0)
    assert session.elapsed(34.9) == []
    assert session.elapsed(35.0) == [Close(CloseCode.NO_PONG)]


def test_other_commands_are_no_pong() -> None:
    session = connected()
    session.elapsed(25.0)
    session.received(line(id=9, publish={}))
    assert session.elapsed(35.0) == [Close(CloseCode.NO_PONG)]


def test_a_stall_of_our_own_kills_nobody() -> None:
    session = connected()
    session.elapsed(25.0)
    assert session.elapsed(39.0) == [], "the pong may lie unread in the socket"
    session.received(b"{}")
    assert session.elapsed(40.0) == []
    session.elapsed(50.0)
    session.elapsed(70.0)
    assert session.elapsed(71.0) == [Close(CloseCode.NO_PONG)], "but silence after it does"


def test_a_token_runs_out_a_little_after_its_end() -> None:
    session = new()
    session.received(line(id=1, connect={"token": "t"}))
    (reply,) = frames(session.verified(Verified("anna", 5.9), 0.0))
    assert reply["connect"]["ttl"] == 5
    assert session.wake_at == pytest.approx(7.9)
    assert session.elapsed(7.8) == []
    assert session.elapsed(7.91) == [Close(CloseCode.EXPIRED)]


def test_a_refresh_moves_the_end() -> None:
    session = new()
    session.received(line(id=1, connect={"token": "t"}))
    session.verified(Verified("anna", 5.0), 0.0)
    assert session.received(line(id=2, refresh={"token": "u"})) == [Verify("u", joining=False)]
    assert frames(session.verified(Verified("anna", 20.0), 4.0)) == [{"id": 2, "refresh": {"expires": True, "ttl": 20}}]
    assert session.elapsed(20.0) == []
    assert session.elapsed(26.0)[-1] == Close(CloseCode.EXPIRED)


@pytest.mark.parametrize(
    ("rejection", "code"), [(Rejection.EXPIRED, 109), (Rejection.FORBIDDEN, 103), (Rejection.CROWDED, 111), (Rejection.UNAVAILABLE, 100)]
)
def test_a_rejection_is_an_error_and_another_try_is_possible(rejection: Rejection, code: int) -> None:
    session = new()
    session.received(line(id=1, connect={"token": "t"}))
    (reply,) = frames(session.verified(rejection, 0.0))
    assert reply["error"]["code"] == code
    assert session.received(line(id=2, connect={"token": "t"})) == [Verify("t", joining=True)]


def test_what_is_lost_ends_the_subscription_once() -> None:
    session = subscribed()
    assert [frame["push"]["unsubscribe"]["code"] for frame in frames(session.lost())] == [2500]
    assert type(session.state) is Connected
    assert session.lost() == []


def test_an_unrecovered_subscription_that_must_not_be_is_taken_back() -> None:
    session = connected()
    asked = Position("old", 2)
    assert session.received(line(id=2, subscribe={"channel": "feed", "recover": True, "epoch": "old", "offset": 2, "flag": 2})) == [
        Attach(asked)
    ]
    detach, error = session.attached(Slice(TOP, False))
    assert detach == Detach()
    assert frames([error])[0]["error"]["code"] == 112
    assert type(session.state) is Connected


def test_answers_that_come_after_the_end_are_ignored() -> None:
    session = new()
    session.received(line(id=1, connect={"token": "t"}))
    session.elapsed(10.0)
    assert session.verified(ANNA, 11.0) == []
    assert session.attached(Slice(TOP, True)) == []
    assert session.received(line(id=1, connect={"token": "t"})) == []


def test_no_token_is_ever_printed() -> None:
    assert "secret" not in repr(Verify("secret", joining=True))


COMMANDS = st.sampled_from(
    [
        {},
        {"id": 1, "connect": {"token": "t"}},
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "feed"}},
        {"id": 3, "subscribe": {"channel": "feed", "recover": True, "epoch": "e", "offset": 1, "flag": 2}},
        {"id": 4, "subscribe": {"channel": "other"}},
        {"id": 5, "unsubscribe": {"channel": "feed"}},
        {"id": 6, "refresh": {"token": "t"}},
        {"id": 7, "rpc": {}},
        {"subscribe": {"channel": "feed"}},
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("say"), st.lists(COMMANDS, min_size=1, max_size=4)),
    st.tuples(st.just("bytes"), st.binary(max_size=20)),
    st.tuples(st.just("wait"), st.floats(0, 40)),
    st.tuples(st.just("lose"), st.none()),
)
ANSWERS = st.sampled_from([ANNA, Verified("ben", 1.0), *Rejection])
SLICES = st.sampled_from([None, Slice(TOP, True, ((2, b"{}"), (3, b"{}"))), Slice(TOP, False)])


class Shell:
    """Carries out what a session says, and notices when it contradicts itself."""

    def __init__(self, data: st.DataObject) -> None:
        self.session = new()
        self.data = data
        self.now = 0.0
        self.closed = False
        self.hearing = False

    def step(self, what: str, value: Any) -> None:
        match what:
            case "say":
                self.do(self.session.received(b"\n".join(line(**command) for command in value)))
            case "bytes":
                self.do(self.session.received(value))
            case "wait":
                self.now += value
                self.do(self.session.elapsed(self.now))
            case _:
                self.hearing = False
                self.do(self.session.lost())

    def do(self, actions: list[Action]) -> None:
        for place, action in enumerate(actions, 1):
            assert not self.closed, "nothing follows a close"
            if isinstance(action, Verify | Attach):
                assert place == len(actions), "a question is the last thing said"
            self.act(action)

    def act(self, action: Action) -> None:
        match action:
            case Close():
                self.closed, self.hearing = True, False
            case Send(frame=frame):
                assert isinstance(orjson.loads(frame), dict)
            case Verify():
                self.do(self.session.verified(self.data.draw(ANSWERS), self.now))
            case Attach():
                assert not self.hearing, "attached twice"
                found = self.data.draw(SLICES)
                self.hearing = found is not None
                self.do(self.session.attached(found))
            case Detach():
                assert self.hearing
                self.hearing = False


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=12), st.data())
def test_whatever_is_said_the_session_answers_and_falls_silent_at_its_end(steps: list[tuple[str, Any]], data: st.DataObject) -> None:
    shell = Shell(data)
    for step in steps:
        shell.step(*step)
    assert shell.closed == isinstance(shell.session.state, Closed)
    assert (shell.session.wake_at is None) == shell.closed
    assert shell.hearing == isinstance(shell.session.state, Subscribed)
