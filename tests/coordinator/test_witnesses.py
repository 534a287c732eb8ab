"""Reports count once, nodes come and go, and a bad node is one that others contradict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.coordinator.options import Options
from backend.coordinator.windows import Share
from backend.coordinator.witnesses import REMEMBERED, Roster, bad_everywhere, bad_here
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit


@given(st.lists(st.integers(1, 50), max_size=120))
def test_each_number_counts_once_in_whatever_order(numbers: list[int]) -> None:
    roster = Roster()
    assert sum(roster.counts("a", number, 0.0) for number in numbers) == len(set(numbers))


def test_numbers_of_two_nodes_are_apart() -> None:
    roster = Roster()
    assert [roster.counts(node, 1, 0.0) for node in ("a", "b", "a")] == [True, True, False]


def test_what_is_too_old_to_be_remembered_counts_as_seen() -> None:
    roster = Roster()
    for number in range(2, 5 * REMEMBERED):
        assert roster.counts("a", number, 0.0)
    newest = 5 * REMEMBERED - 1
    assert not roster.counts("a", 1, 0.0)
    assert not any(roster.counts("a", number, 0.0) for number in range(newest - REMEMBERED, newest + 1))
    assert len(roster._nodes["a"].numbers) <= 2 * REMEMBERED + 1


def test_a_node_is_alive_for_a_while_after_it_was_heard() -> None:
    roster = Roster()
    roster.counts("a", 1, 100.0)
    roster.counts("b", 1, 200.0)
    assert roster.alive(since=100.0) == {"b"}
    assert roster.alive(since=99.0) == {"a", "b"}
    roster.counts("a", 2, 50.0)  # a late report makes nobody younger
    assert roster.alive(since=99.0) == {"a", "b"}


def test_nodes_that_were_silent_for_long_are_forgotten() -> None:
    roster = Roster()
    roster.counts("a", 1, 100.0)
    roster.forget(100.0)
    assert roster.alive(since=0.0) == {"a"}
    roster.forget(100.1)
    assert not roster._nodes


def test_several_nodes_may_be_bad_as_long_as_nearly_all_else_is_well() -> None:
    shares = {"a": Share(10, 0, 10), "b": Share(10, 0, 10), "c": Share(200, 0, 1)}
    assert bad_here(shares, Options(node_calls=10, others_failing=10)) == {"a", "b"}
    assert bad_here(shares | {"c": Share(50, 0, 0)}, Options(node_calls=10, others_failing=10)) == frozenset()


def test_slow_calls_are_not_failures() -> None:
    assert bad_here({"a": Share(10, 10, 0), "b": Share(10, 0, 0)}, Options(node_calls=10)) == frozenset()


def test_scopes_of_one_institution_are_one_institution() -> None:
    read, token, other = Circuit("A", Scope.READ), Circuit("A", Scope.TOKEN), Circuit("B", Scope.READ)
    assert bad_everywhere({read: {"n"}, token: {"n"}}, Options(bad_at=2)) == frozenset()
    assert bad_everywhere({read: {"n"}, token: {"n"}, other: {"n", "m"}}, Options(bad_at=2)) == {"n"}
