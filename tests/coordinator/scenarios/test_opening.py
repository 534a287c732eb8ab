"""When a circuit opens: windows, rates, minimum, failures in a row, each at its boundary. One node's word is enough here (`quorum=1`)."""

from __future__ import annotations

from tests.coordinator.scenarios.play import play


def test_a_circuit_that_nobody_spoke_of_is_closed() -> None:
    play("""
        0s    time passes            -> closed untried, mode auto, epoch 0, not told, rate unknown, never expires, no wait
    """)


def test_below_the_minimum_the_rate_is_unknown_and_at_it_the_rate_decides() -> None:
    play("""
        size=10 minimum_calls=4 quorum=1 in_a_row=0
        0s    a: F F F               -> closed, rate unknown, slow unknown, not told
        1s    a: F                   -> open failure_rate, rate 100%, epoch 1, wait 5s, told
    """)


def test_a_success_can_be_the_call_that_trips() -> None:
    play("""
        size=10 minimum_calls=4 quorum=1 in_a_row=0
        0s    a: F F .               -> closed, rate unknown
        1s    a: .                   -> open failure_rate, rate 50%
    """)


def test_exactly_the_threshold_opens_and_one_call_less_does_not() -> None:
    play("""
        size=100 minimum_calls=100 quorum=1
        0s    a: .*51 F*49           -> closed, rate 49%
        1s    a: F                   -> open failure_rate, rate 50%    # the oldest success has left
    """)


def test_other_thresholds_hold_as_well() -> None:
    play("""
        size=20 minimum_calls=20 quorum=1 failure_rate=25
        0s    a: .*16 F*4            -> closed, rate 20%
        1s    a: F                   -> open failure_rate, rate 25%
    """)


def test_a_minimum_larger_than_a_count_window_means_a_full_window() -> None:
    play("""
        size=5 minimum_calls=100 quorum=1 in_a_row=0
        0s    a: F F F F             -> closed, rate unknown
        1s    a: F                   -> open failure_rate
    """)


def test_a_count_window_holds_the_last_calls_only_and_no_age_ends_them() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s     a: F .                -> closed, calls 2
        3000s  a: . . .              -> closed, calls 4, rate 0%
        3001s  a: F                  -> closed, calls 4, rate 25%
        3002s  a: F                  -> open, calls 4, rate 50%
    """)


def test_a_time_window_holds_the_second_under_way_and_those_before_it() -> None:
    play("""
        window=time size=10 minimum_calls=2 quorum=1 in_a_row=0
        0.999s   a: F                -> closed, calls 1
        9.999s   time passes         -> calls 1
        10s      time passes         -> calls 0, rate unknown
        10.5s    a: F                -> closed, calls 1
        19.9s    a: F                -> open failure_rate, calls 2
    """)


def test_the_minimum_of_a_time_window_may_be_any_number() -> None:
    play("""
        window=time size=2 minimum_calls=50 quorum=1 in_a_row=0
        0s    a: F*49                -> closed, rate unknown
        1.9s  a: F                   -> open, calls 50
    """)


def test_a_call_that_is_reported_late_stands_where_it_ended() -> None:
    play("""
        window=time size=5 minimum_calls=2 quorum=1 in_a_row=0
        10s   a: F F 5s ago          -> closed, calls 0, rate unknown
        11s   a: F F 4.9s ago        -> closed, calls 0, rate unknown
        12s   a: F F 4s ago          -> open, calls 2
    """)


def test_ignored_calls_say_nothing() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F I I I I         -> closed, calls 2, rate unknown
        1s    a: . I .               -> open, calls 4, rate 50%
    """)


def test_slow_calls_have_a_rate_of_their_own() -> None:
    play("""
        size=10 minimum_calls=10 quorum=1 slow_rate=60
        0s    a: S*5 .*5             -> closed, slow 50%, rate 0%
        1s    a: . S S S S           -> closed, slow 40%
        2s    a: S S                 -> open slow_rate, slow 60%
    """)


def test_by_default_nothing_opens_by_slowness_but_if_every_call_is_slow() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: . S S S             -> closed, slow 75%
        1s    a: S                   -> open slow_rate, slow 100%
    """)


def test_slow_and_failed_calls_are_not_added_up() -> None:
    play("""
        size=10 minimum_calls=10 quorum=1 slow_rate=50
        0s    a: S*4 F*4 . .         -> closed, slow 40%, rate 40%
    """)


def test_a_report_is_judged_as_a_whole() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F . . . .       -> closed, rate 0%
    """)


# --- little traffic ------------------------------------------------------------------------------------------------------------------


def test_a_rarely_called_institution_opens_by_failures_in_a_row() -> None:
    play("""
        quorum=1 in_a_row=3 horizon_ms=600000
        0s    a: F                   -> closed, in a row 1
        200s  a: F                   -> closed, in a row 2, rate unknown
        400s  a: F                   -> open failures_in_a_row, in a row 3, rate unknown
    """)


def test_any_answer_breaks_the_row_whichever_node_had_it() -> None:
    play("""
        quorum=1 in_a_row=3
        0s    a: F F                 -> in a row 2
        1s    b: S                   -> in a row 0
        2s    a: F F                 -> closed, in a row 2
        3s    b: F                   -> open failures_in_a_row
    """)


def test_an_ignored_call_does_not_break_the_row() -> None:
    play("""
        quorum=1 in_a_row=3
        0s    a: F F                 -> in a row 2
        1s    a: I F                 -> open failures_in_a_row
    """)


def test_the_row_must_lie_within_the_horizon() -> None:
    play("""
        quorum=1 in_a_row=3 horizon_ms=60000
        0s      a: F F               -> in a row 2
        60s     a: F                 -> closed, in a row 1
        60.1s   a: F                 -> closed, in a row 2
        119.9s  a: F                 -> open failures_in_a_row, in a row 3
    """)


def test_failures_in_a_row_mean_nothing_once_a_rate_is_known() -> None:
    play("""
        size=100 minimum_calls=10 quorum=1 in_a_row=3
        0s    a: .*20                -> closed
        1s    a: F F F F F           -> closed, rate 20%
    """)


def test_the_rule_for_little_traffic_can_be_switched_off() -> None:
    play("""
        quorum=1 in_a_row=0
        0s    a: F*99                -> closed, rate unknown
    """)


def test_an_answer_between_two_failures_counts_where_it_ended_not_where_it_was_heard() -> None:
    play("""
        quorum=1 in_a_row=3
        0s    a: F                   -> in a row 1
        10s   a: F F                 -> open failures_in_a_row
        20s   a new leader           -> open
    """)
    play("""
        quorum=1 in_a_row=3
        0s    a: F                   -> in a row 1
        10s   b: . 5s ago            -> in a row 0
        11s   a: F F                 -> closed, in a row 2
    """)


# --- metrics only --------------------------------------------------------------------------------------------------------------------


def test_metrics_only_counts_and_never_acts() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 acts=no
        0s    a: F F F F             -> closed, rate 100%, epoch 0, not told
        1s    a: R60                 -> closed, not told
        2s    says forced_open "fire"    -> open fire, told
        3s    says auto "out"        -> open forced_mode_ended
        4s    time passes            -> closed metrics_only, told, ramp 0s
    """)
