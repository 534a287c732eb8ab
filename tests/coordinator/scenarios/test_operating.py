"""What operators and institutions say: forced modes, planned maintenance."""

from __future__ import annotations

from tests.coordinator.scenarios.play import play

# --- forced modes --------------------------------------------------------------------------------------------------------------------


def test_a_circuit_that_is_forced_open_stays_so_until_an_operator_says_otherwise() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    says forced_open "contract ended" -> open contract ended, mode forced_open, epoch 1, told, no wait, never expires
        1s    a: . . . . .           -> open, not told
        99s   a asks                 -> open, no probe
        999s  time passes            -> open, mode forced_open, epoch 1, not told
    """)


def test_a_circuit_that_is_forced_closed_stays_so_whatever_happens() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    says forced_closed "we know" -> closed we know, mode forced_closed, epoch 1, ramp 0s, told
        1s    a: F F F F             -> closed, calls 0, not told
        2s    a: R60                 -> closed, not told
    """)


def test_results_of_forced_modes_are_dropped() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F                 -> closed, calls 2
        1s    says forced_closed "we know" -> closed, epoch 1, calls 0
        2s    a: F F F F             -> closed, calls 0
        3s    says auto "done"       -> closed forced_mode_ended, mode auto, epoch 2, told
        4s    a: F F F F @1          -> closed, calls 0          # began while it was forced
        5s    a: F F F F             -> open failure_rate
    """)


def test_after_forced_open_a_probe_looks_at_once() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    says forced_open "move"  -> open
        60s   says auto "moved"      -> open forced_mode_ended, mode auto, wait 0s, expires 30s, told
        60s   a asks                 -> half_open
        61s   a: . .                 -> closed recovered, ramp 5s
    """)
    play("""
        size=4 minimum_calls=4 quorum=1 others_first_ms=0
        0s    says forced_open "move"  -> open
        60s   says auto "moved"      -> open
        60s   a asks                 -> half_open
        61s   a: F                   -> open probe_failed, wait 5s
        66s   a asks                 -> half_open
        67s   a: F                   -> open probe_failed, wait 10s
        70s   says forced_open "move on" -> open
        71s   says auto "moved"      -> open
        71s   a asks                 -> half_open
        72s   a: F                   -> open probe_failed, wait 5s      # the waits begin anew
    """)


def test_an_open_circuit_can_be_forced_closed_and_a_half_open_one_loses_its_probe() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open
        5s    a asks                 -> half_open, probe a
        6s    says forced_closed "it is well" -> closed it is well, no probe, told
        7s    a: F F                 -> closed
        8s    says auto ""           -> closed forced_mode_ended
    """)


def test_a_probe_that_may_still_be_under_way_is_waited_for() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open
        5s    a asks                 -> half_open, probe a, wait 3s
        6s    says forced_open "stop"  -> open, no probe
        7s    says auto ""           -> open forced_mode_ended
        7s    b asks                 -> open, no probe
        8s    b asks                 -> half_open, probe b
    """)


def test_forced_modes_follow_each_other() -> None:
    play("""
        0s    says forced_open "a"   -> open a, epoch 1, told
        1s    says forced_open "a"   -> open a, epoch 1, not told
        2s    says forced_open "b"   -> open b, epoch 2, told
        3s    says forced_closed "b" -> closed b, mode forced_closed, epoch 3, told
        4s    says forced_open "c"   -> open c, mode forced_open, epoch 4, told
    """)


def test_auto_says_nothing_to_a_circuit_that_decides_itself() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    says auto "why not"    -> closed untried, epoch 0, not told
        0s    a: F F F F             -> open failure_rate, epoch 1
        1s    says auto "close it"   -> open failure_rate, epoch 1, not told
    """)


def test_an_operators_words_are_no_reason_of_ours() -> None:
    play("""
        0s    says forced_closed "recovered" -> closed recovered, ramp 0s
    """)


def test_forced_modes_outlive_their_leader() -> None:
    play("""
        0s    says forced_open "stop"   -> open stop
        1s    a new leader           -> open stop, mode forced_open, never expires
        9s    time passes            -> open stop, mode forced_open, epoch 1, not told
    """)


def test_a_forced_mode_is_said_again_to_nodes_with_a_larger_epoch() -> None:
    play("""
        0s    says forced_closed "stop"  -> closed, epoch 1
        1s    a: . @9                -> closed stop, mode forced_closed, epoch 10, told
    """)


# --- maintenance ---------------------------------------------------------------------------------------------------------------------


def test_maintenance_opens_at_one_word_with_its_own_reason_and_end() -> None:
    play("""
        0s    b: .                   -> closed
        1s    a: R600                -> open maintenance, wait 600s, expires 630s, epoch 1, told
        600s  a asks                 -> open maintenance
        601s  a asks                 -> half_open
        602s  a: . .                 -> closed recovered
    """)


def test_maintenance_without_an_end_is_looked_at_after_a_minute() -> None:
    play("""
        maintenance_ms=60000
        0s    a: R0                  -> open maintenance, wait 60s
    """)


def test_no_maintenance_is_believed_for_longer_than_an_hour() -> None:
    play("""
        0s    a: R36000              -> open maintenance, wait 3600s
    """)


def test_maintenance_that_goes_on_is_no_failed_probe() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: R60                 -> open maintenance, wait 60s
        60s   a asks                 -> half_open
        61s   a: R30                 -> open maintenance, wait 30s, told
        91s   a asks                 -> half_open
        92s   a: F                   -> open probe_failed, wait 5s
    """)


def test_maintenance_keeps_the_count_of_failures_before_it() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open, wait 5s
        5s    a asks                 -> half_open
        6s    a: R60                 -> open maintenance, wait 60s
        66s   a asks                 -> half_open
        67s   a: F                   -> open probe_failed, wait 10s
    """)


def test_late_words_of_maintenance_are_not_heard() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1
        0s    a: F F F F             -> open failure_rate, epoch 1
        1s    b: R600 @0             -> open failure_rate, wait 4s, not told
        5s    a asks                 -> half_open
        6s    a: R600 @0             -> half_open
        7s    a: . .                 -> closed, epoch 3
        8s    b: R600 @0             -> closed, not told
    """)


def test_a_maintenance_outlives_its_leader() -> None:
    play("""
        0s    a: R600                -> open maintenance, wait 600s
        10s   a new leader           -> open maintenance, wait 590s
    """)
