"""Whose word counts: quorum, nodes that are alone or bad, late epochs, reports that come twice, leaders that are new."""

from __future__ import annotations

from tests.coordinator.scenarios.play import play

# --- quorum --------------------------------------------------------------------------------------------------------------------------


def test_one_node_is_enough_when_it_is_the_only_one() -> None:
    play("""
        size=4 minimum_calls=4 quorum=3
        0s    a: F F F F             -> open failure_rate, alive 1
    """)


def test_of_two_nodes_both_must_have_met_it() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2
        0s    b: I                   -> alive 1
        1s    a: F F F F             -> closed, rate 100%, alive 2, not told
        2s    b: F                   -> open failure_rate, told
    """)


def test_a_quorum_of_three_is_not_reached_by_two_of_three() -> None:
    play("""
        size=4 minimum_calls=4 quorum=3
        0s    c: I                   -> alive 1
        1s    a b: F F               -> closed, rate 100%, alive 3
        2s    c: F                   -> open failure_rate
    """)


def test_a_quorum_is_no_more_than_are_alive() -> None:
    play("""
        size=4 minimum_calls=4 quorum=3 alive_ms=30000 alone_after_ms=never
        0s     c: I                  -> alive 1
        1s     a b: F F              -> closed, alive 3
        29.9s  a b: F                -> closed, alive 3
        30s    a: F                  -> open failure_rate, alive 2         # c was last heard 30 s ago
    """)


def test_nodes_that_call_others_are_alive_too() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2
        0s    b at X: .              -> closed
        1s    a: F F F F             -> closed, alive 2
    """)


def test_witnesses_of_slowness_are_those_that_met_slowness() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 slow_rate=50
        0s    b: .                   -> closed
        1s    a: S S S               -> closed, slow 75%
        2s    b: S                   -> open slow_rate
    """)


def test_failures_in_a_row_need_the_quorum_as_well() -> None:
    play("""
        quorum=2 in_a_row=3
        0s    b: I                   -> closed
        1s    a: F F F               -> closed, in a row 3
        2s    b: F                   -> open failures_in_a_row
    """)


# --- alone ---------------------------------------------------------------------------------------------------------------------------


def test_who_calls_alone_is_believed_after_a_while() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=10000
        0s     b at X: .             -> alive 1
        1s     a: F F F F            -> closed, alive 2
        10.9s  a: F                  -> closed, not told
        11s    time passes           -> open failure_rate, told
    """)


def test_nobody_is_believed_alone_if_that_is_switched_off() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=never
        0s     b at X: .             -> alive 1
        1s     a: F F F F            -> closed
        25s    a: F                  -> closed, alive 2
    """)


def test_nobody_is_believed_alone_while_others_are_answered() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=10000
        0s     b: .                  -> closed
        1s     a: F F F F            -> closed, alive 2
        9s     b: .                  -> closed, rate 75%
        9s     a: F                  -> closed
        19s    a: F                  -> closed, rate 75%           # b's answer is 10 s old: the doubt begins here
        20s    b at X: .             -> closed
        28.9s  a: F                  -> closed
        29s    a: F                  -> open failure_rate
    """)


def test_a_new_leader_doubts_for_itself() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=10000 warm_up_ms=2000
        0s     b at X: .             -> alive 1
        1s     a: F F F F            -> closed
        9s     a new leader          -> closed
        9s     b at X: .             -> closed
        12s    a: F F F F            -> closed
        21.9s  time passes           -> closed
        22s    time passes           -> open failure_rate
    """)


def test_the_doubt_ends_with_its_reason() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=10000
        0s     b at X: .             -> closed
        1s     a: F F F F            -> closed
        5s     a: . . .              -> closed, rate 25%
        10s    a: F F F              -> closed, rate 75%
        11.5s  time passes           -> closed
        20s    time passes           -> open
    """)


# --- bad nodes -----------------------------------------------------------------------------------------------------------------------


def test_a_single_bad_node_opens_nothing_and_is_flagged() -> None:
    play("""
        size=40 minimum_calls=20 quorum=1 node_calls=10
        0s    b c: .*10              -> closed, nobody bad
        1s    a: F*20                -> closed, bad a, rate 0%, calls 20, not told
    """)


def test_a_node_is_not_judged_by_less_calls_than_are_asked_for() -> None:
    play("""
        size=40 minimum_calls=10 quorum=2 node_calls=10
        0s    b: .*10                -> closed
        1s    a: F*9                 -> closed, nobody bad, calls 19
        2s    a: F                   -> closed, bad a, calls 10, rate 0%
    """)
    play("""
        size=40 minimum_calls=10 quorum=2 node_calls=10
        0s    b: .*9                 -> closed
        1s    a: F*10                -> closed, nobody bad, calls 19, rate 52.6316%     # nobody but a met failures: no quorum
    """)


def test_exactly_half_is_not_most() -> None:
    play("""
        size=40 minimum_calls=10 quorum=1 failure_rate=60
        0s    b: .*10                -> closed
        1s    a: F*10 .*10           -> closed, nobody bad
        2s    a: F                   -> closed, bad a
    """)


def test_a_node_whose_failures_others_share_is_not_bad() -> None:
    play("""
        size=100 minimum_calls=40 quorum=2 others_failing=10
        0s    b: .*17 F*3            -> closed
        1s    a: F*20                -> open failure_rate, nobody bad
    """)
    play("""
        size=100 minimum_calls=40 quorum=2 others_failing=10
        0s    b: .*18 F*2            -> closed
        1s    a: F*20                -> closed, bad a
    """)


def test_half_of_the_nodes_are_not_bad_nodes() -> None:
    play("""
        size=100 minimum_calls=40 quorum=2 in_a_row=0
        0s    a b: F*5               -> closed
        1s    c d: .*10              -> closed, nobody bad
        2s    a b: F*5               -> open failure_rate, nobody bad
    """)


def test_without_the_bad_node_the_others_still_open() -> None:
    play("""
        window=time size=30 minimum_calls=10 quorum=2
        0s    b c: .*10              -> closed
        1s    a: F*10                -> closed, bad a
        20s   b c: F*20              -> open failure_rate
    """)


def test_a_quorum_does_not_wait_for_a_bad_node() -> None:
    play("""
        window=time size=10 minimum_calls=10 quorum=2 bad_at=1
        0s    b: .*10                -> closed
        1s    a: F*10                -> closed, bad a everywhere, alive 1
        2s    b at X: F*10           -> open failure_rate, alive 1
    """)


def test_a_node_that_is_bad_at_several_institutions_is_no_witness_anywhere() -> None:
    play("""
        window=time size=10 minimum_calls=10 quorum=1 bad_at=2
        0s    b: .*10                -> closed
        0s    b at X: .*10           -> closed
        1s    a: F*10                -> closed, bad a
        2s    a at Y: F*10           -> open failure_rate       # at one only, so far: it is believed elsewhere
        3s    a at X: F*10           -> closed, bad a everywhere
        4s    a at Z: F*10           -> closed, calls 0
    """)


def test_a_node_that_is_well_again_is_a_witness_again() -> None:
    play("""
        window=time size=5 minimum_calls=10 quorum=1
        0s    b: .*10                -> closed
        1s    a: F*10                -> closed, bad a
        7s    a b: .*10              -> closed, nobody bad, calls 20
    """)


def test_a_bad_node_breaks_no_row_and_makes_none() -> None:
    play("""
        window=time size=10 minimum_calls=50 quorum=1 in_a_row=3 bad_at=1
        0s    b: .*40                -> closed
        1s    a: F*10                -> closed, bad a, in a row 0
        2s    b: F F                 -> closed, in a row 2
        3s    a: .                   -> in a row 2, bad a
        4s    b: F                   -> open failures_in_a_row
    """)


# --- late and double -----------------------------------------------------------------------------------------------------------------


def test_calls_that_began_before_the_circuit_closed_do_not_count() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open, epoch 1
        5s    a asks                 -> half_open, epoch 2
        6s    a: . .                 -> closed recovered, epoch 3, calls 0
        7s    b: F F F F @0          -> closed, calls 0, not told
        8s    b: F F F F @2          -> closed, calls 0
        9s    b: F F F F @3          -> open failure_rate
    """)


def test_late_failures_and_successes_change_nothing_while_it_is_open() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open, epoch 1
        1s    b: . . . . @0          -> open, epoch 1, not told
        5s    a asks                 -> half_open, epoch 2
        6s    a: . . . . @0          -> half_open, not told         # the probing node's own old calls
        7s    a: F F F F @1          -> half_open, not told
    """)


def test_a_report_that_comes_twice_counts_once() -> None:
    play("""
        size=10 minimum_calls=10 quorum=1 in_a_row=0
        0s    a: F*6                 -> calls 6
        1s    again                  -> calls 6, not told
        2s    again                  -> calls 6
    """)


def test_a_larger_epoch_than_is_known_is_overtaken() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: . @57               -> closed untried, epoch 58, told, calls 1
        1s    a: .                   -> epoch 58, not told
    """)


# --- a new leader --------------------------------------------------------------------------------------------------------------------


def test_a_new_leader_closes_nothing_that_is_open() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open failure_rate, wait 5s, epoch 1
        2s    a new leader           -> open failure_rate, wait 3s, epoch 1
        3s    time passes            -> open, not told
        4s    b: . . . . @0          -> open
        5s    b asks                 -> half_open, epoch 2
    """)


def test_a_new_leader_opens_nothing_before_it_has_listened() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 warm_up_ms=2000
        0s    a: . . . .             -> closed
        1s    a new leader           -> closed, calls 0
        1.5s  a: F F F F             -> closed, rate 100%, not told
        2.9s  b: F                   -> closed, rate 100%
        3s    b: F                   -> open failure_rate
    """)


def test_what_a_new_leader_hears_first_may_be_the_worse_half() -> None:
    play("""
        size=20 minimum_calls=4 quorum=1 warm_up_ms=2000
        0s    a new leader           -> closed
        0.1s  a: F F F F             -> closed, rate 100%
        0.2s  a b: .*8               -> closed, rate 20%
        2s    a: F                   -> closed
    """)


def test_rows_of_failures_wait_for_the_warm_up_too() -> None:
    play("""
        quorum=1 in_a_row=3 warm_up_ms=2000
        0s    a new leader           -> closed
        1s    a: F F F               -> closed, in a row 3
        2s    a: F                   -> open failures_in_a_row
    """)


def test_the_minimum_holds_after_the_warm_up_as_before() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 in_a_row=0 warm_up_ms=2000
        0s    a: F F F               -> closed, calls 3
        1s    a new leader           -> closed, calls 0
        9s    a: F F F               -> closed, rate unknown
        10s   a: F                   -> open
    """)


def test_closing_starts_no_other_warm_up() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 warm_up_ms=2000
        0s    a new leader           -> closed
        3s    a: F F F F             -> open
        8s    a asks                 -> half_open
        8.1s  a: . .                 -> closed
        8.2s  a: F F F F             -> open failure_rate
    """)


def test_a_probe_survives_its_leader() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open
        5s    a asks                 -> half_open, probe a
        6s    a new leader           -> half_open, probe a, wait 2s
        6s    b asks                 -> half_open, probe a
        7s    a: . .                 -> closed recovered
    """)


def test_a_new_leader_counts_on_with_the_waits() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 others_first_ms=0
        0s    a: F F F F             -> open, wait 5s
        5s    a asks                 -> half_open
        5s    a: F                   -> open, wait 10s
        6s    a new leader           -> open, wait 9s
        15s   a asks                 -> half_open
        15s   a: F                   -> open, wait 20s
    """)


def test_a_leader_without_a_store_is_taught_by_the_nodes() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open, epoch 1
        1s    a new leader knows nothing -> closed untried, epoch 0
        40s   a: . @1                -> closed, epoch 2, told      # its OPEN has expired, so it calls again
    """)
