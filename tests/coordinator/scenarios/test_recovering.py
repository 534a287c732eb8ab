"""How a circuit closes again: waits and how they grow, the one probe and its lease, the round, the ramp."""

from __future__ import annotations

from tests.coordinator.scenarios.play import play

OPENED = """
        size=4 minimum_calls=4 quorum=1 others_first_ms=0
        0s     a: F F F F            -> open failure_rate, wait 5s, epoch 1
"""


def test_nobody_probes_before_the_wait_is_over() -> None:
    play(f"""{OPENED}
        4.999s a asks                -> open failure_rate, no probe, not told
        5s     a asks                -> half_open probing, probe a, epoch 2, told
    """)


def test_a_probe_that_is_well_closes_when_its_round_is_full() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: .                  -> half_open, not told
        5.2s   a: .                  -> closed recovered, epoch 3, ramp 5s, never expires, no wait, calls 0, told
    """)


def test_a_round_of_several_reports_and_of_one_are_the_same() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: . .                -> closed recovered
    """)


def test_the_round_is_as_large_as_is_permitted_and_never_larger_than_the_minimum() -> None:
    play("""
        size=100 minimum_calls=3 permitted_calls=10 quorum=1
        0s     a: F F F              -> open
        5s     a asks                -> half_open
        5.1s   a: . F                -> half_open         # one of three
        5.2s   a: .                  -> closed recovered
        6s     a: F F F              -> open
        11s    a asks                -> half_open
        11.1s  a: F F                -> open probe_failed     # two of three
    """)


def test_a_probe_fails_as_soon_as_its_full_round_would_whatever_is_still_to_come() -> None:
    play("""
        size=20 minimum_calls=20 permitted_calls=10 quorum=1
        0s     a: F*20               -> open
        5s     a asks                -> half_open
        5.1s   a: . . F F F F        -> half_open
        5.2s   a: F                  -> open probe_failed, wait 10s
    """)


def test_one_failure_less_than_the_threshold_closes() -> None:
    play("""
        size=20 minimum_calls=20 permitted_calls=10 quorum=1
        0s     a: F*20               -> open
        5s     a asks                -> half_open
        5.1s   a: F F F F .*5        -> half_open
        5.2s   a: .                  -> closed recovered
    """)


def test_a_probe_whose_answers_are_slow_opens_by_the_slow_rate() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: S .                -> closed recovered
    """)
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: S S                -> open probe_slow, wait 10s
    """)


def test_the_wait_doubles_with_each_failed_probe_up_to_the_longest() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5s     a: F                  -> open probe_failed, wait 10s, expires 40s
        14.9s  a asks                -> open
        15s    a asks                -> half_open
        15s    a: F                  -> open probe_failed, wait 20s
        35s    a asks                -> half_open
        35s    a: F                  -> open probe_failed, wait 20s
    """)


def test_closing_resets_the_wait() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5s     a: F                  -> open, wait 10s
        15s    a asks                -> half_open
        15s    a: . .                -> closed
        16s    a: F F F F            -> open failure_rate, wait 5s
        21s    a asks                -> half_open
        21s    a: F                  -> open, wait 10s
    """)


def test_a_wait_is_shortened_by_what_is_drawn() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 draw=0.5 jitter=0.2
        0s     a: F F F F            -> open, wait 4.5s
        4.5s   a asks                -> half_open
        4.5s   a: F                  -> open, wait 9s
    """)


def test_waits_may_stay_equal() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 wait_growth=1
        0s     a: F F F F            -> open, wait 5s
        5s     a asks                -> half_open
        5s     a: F                  -> open, wait 5s
    """)


def test_only_one_probe_is_admitted() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, probe a, epoch 2
        6s     b asks                -> half_open, probe a, wait 2s, epoch 2, not told
        6.1s   b: . .                -> half_open, probe a          # nobody let these through
        6.2s   a: . .                -> closed recovered
    """)


def test_a_probe_that_is_not_heard_of_is_freed_and_another_may_look_at_once() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, probe a, wait 3s
        7.999s time passes           -> half_open, not told
        8s     time passes           -> open probe_lost, wait 0s, no probe, epoch 3, told
        8s     b asks                -> half_open, probe b, epoch 4
        8.1s   a: . . @2             -> half_open, probe b, not told    # late, of the lease that ran out
        8.2s   b: . .                -> closed recovered
    """)


def test_a_lost_probe_passes_on_without_anybody_having_looked() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, probe a
        9s     b asks                -> half_open, probe b, epoch 4, told
    """)


def test_a_lost_probe_does_not_make_the_wait_longer() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        8s     b asks                -> half_open, probe b
        8.1s   b: F                  -> open probe_failed, wait 10s
    """)


def test_probes_that_are_lost_one_after_the_other_make_the_wait_longer_up_to_the_longest() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        8s     time passes           -> open probe_lost, wait 0s      # whoever held it may have died
        8s     b asks                -> half_open
        11s    time passes           -> open probe_lost, wait 10s, told
        20.9s  a asks                -> open
        21s    a asks                -> half_open
        24s    time passes           -> open probe_lost, wait 20s
        44s    a asks                -> half_open
        47s    time passes           -> open probe_lost, wait 20s
    """)


def test_permits_that_are_given_back_one_after_the_other_make_the_wait_longer_too() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a releases            -> open probe_released, wait 0s
        5.2s   b asks                -> half_open
        5.3s   b releases            -> open probe_released, wait 10s
    """)


def test_a_probe_that_is_judged_ends_the_row_of_lost_ones() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        8s     time passes           -> open probe_lost, wait 0s
        8s     b asks                -> half_open
        8s     b: F                  -> open probe_failed, wait 10s
        18s    a asks                -> half_open
        21s    time passes           -> open probe_lost, wait 0s
        21s    a asks                -> half_open
        21s    a: . .                -> closed recovered
        22s    a: F F F F            -> open, wait 5s
        27s    a asks                -> half_open
        30s    time passes           -> open probe_lost, wait 0s
    """)


def test_an_institution_that_says_not_now_lives_and_is_not_asked_a_second_time() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: B                  -> closed recovered, ramp 5s, told
        6s     a: B*10               -> closed, calls 0               # as ever: no failure, and no success
    """)


def test_not_now_undoes_no_failures() -> None:
    play("""
        size=20 minimum_calls=20 permitted_calls=10 quorum=1
        0s     a: F*20               -> open
        5s     a asks                -> half_open
        5.1s   a: F F F F            -> half_open
        5.2s   a: F B                -> open probe_failed, wait 10s   # the fifth of ten
    """)


def test_what_only_we_know_of_is_no_sign_of_life() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: I                  -> half_open, not told
        8s     time passes           -> open probe_lost
    """)


def test_a_probe_that_is_heard_of_keeps_its_lease() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, probe a, wait 3s
        7s     a asks                -> half_open, probe a, wait 3s, epoch 2, not told
        9.9s   time passes           -> half_open
        10s    time passes           -> open probe_lost
    """)


def test_half_open_ends_however_faithfully_the_lease_is_kept() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 longest_half_open_ms=6000 probe_lease_ms=5000
        0s     a: F F F F            -> open
        5s     a asks                -> half_open
        8s     a asks                -> half_open
        10.9s  a asks                -> half_open
        11s    a asks                -> open probe_silent, wait 10s, told
    """)


def test_half_open_is_believed_past_its_end_so_that_the_probes_epoch_can_stand() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 longest_half_open_ms=60000 probe_lease_ms=50000 expires_ms=10000
        0s     a: F F F F            -> open
        5s     a asks                -> half_open, epoch 2, expires 70s
        50s    a asks                -> half_open, epoch 2, not told
        64.9s  time passes           -> half_open, epoch 2, expires 10.1s, not told
        65s    time passes           -> open probe_silent, epoch 3, told
    """)


def test_a_released_permit_is_given_back_once() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, probe a
        5.5s   a releases            -> open probe_released, wait 0s, epoch 3, told
        5.6s   b asks                -> half_open, probe b, epoch 4
        5.7s   a releases @2         -> half_open, probe b, not told
        5.8s   b: F                  -> open probe_failed, wait 10s
    """)


def test_an_ignored_call_of_the_probe_leaves_its_place_in_the_round_free() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open
        5.1s   a: . I I I            -> half_open
        5.2s   a: .                  -> closed recovered
    """)


def test_without_automatic_transition_only_somebody_who_waits_starts_a_probe() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 automatic=no
        0s     a: F F F F            -> open
        60s    a asks idly           -> open
        61s    a asks                -> half_open, probe a
    """)


def test_with_it_nobody_needs_to_wait() -> None:
    play(f"""{OPENED}
        5s     a asks idly           -> half_open, probe a
    """)


def test_the_ramp_is_what_is_left_of_it() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 ramp_ms=8000
        0s     a: F F F F            -> open
        5s     a asks                -> half_open
        6s     a: . .                -> closed recovered, ramp 8s
        9s     time passes           -> ramp 5s
        13.9s  time passes           -> ramp 0.1s
        14s    time passes           -> ramp 0s
    """)


def test_no_ramp_if_none_is_wanted() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 ramp_ms=0
        0s     a: F F F F            -> open
        5s     a asks                -> half_open
        6s     a: . .                -> closed recovered, ramp 0s
    """)


def test_who_failed_to_probe_lets_another_try_first() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 others_first_ms=500
        0s     a: F F F F            -> open
        5s     a asks                -> half_open, probe a
        5s     a: F                  -> open probe_failed, wait 10s
        15s    a asks                -> open, no probe
        15s    b asks                -> half_open, probe b
        15s    b: F                  -> open probe_failed, wait 20s
        35s    a asks                -> half_open, probe a
        35s    a: F                  -> open probe_failed
        55s    a asks                -> open
        55.5s  a asks                -> half_open, probe a       # nobody else did
    """)


def test_a_bad_node_does_not_keep_a_circuit_open() -> None:
    play("""
        size=4 minimum_calls=4 quorum=2 alone_after_ms=1000
        0s     b at X: .             -> alive 1
        1s     a: F F F F            -> closed
        2s     a: F                  -> open failure_rate        # believed, as nobody else calls
        7s     a asks                -> half_open
        7s     a: F                  -> open probe_failed, wait 10s
        17s    a asks                -> open
        17s    b asks                -> half_open, probe b
        17s    b: . .                -> closed recovered
    """)


# --- how long nodes believe it -----------------------------------------------------------------------------------------------------------


def test_an_open_circuit_is_said_again_before_nodes_stop_to_believe_it() -> None:
    play(f"""{OPENED}
        0s     time passes           -> epoch 1, expires 35s, not told
        19.9s  time passes           -> epoch 1, expires 15.1s, not told
        20s    time passes           -> open failure_rate, epoch 2, expires 30s, wait 0s, told
        34.9s  time passes           -> epoch 2, not told
        35s    time passes           -> open, epoch 3, expires 30s, told
    """)


def test_a_circuit_that_the_store_forgot_is_probed_when_a_node_remembers_that_it_is_open() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 probe_lease_ms=3000
        0s     a: F F F F            -> open, epoch 1
        1s     a new leader knows nothing
        1.1s   a asks @7             -> open remembered, epoch 8, wait 3s, told      # another may still be at a probe
        1.2s   b asks @7             -> open remembered, epoch 8, not told
        4.1s   b asks @8             -> half_open, probe b, epoch 9
        4.2s   b: F                  -> open probe_failed, wait 10s
        14.2s  a asks                -> half_open
        14.3s  a: . .                -> closed recovered
    """)


def test_a_node_that_has_not_heard_of_the_closing_opens_nothing() -> None:
    play(f"""{OPENED}
        5s     a asks                -> half_open, epoch 2
        5.1s   a: . .                -> closed recovered, epoch 3
        5.2s   b asks @1             -> closed, epoch 3, not told
        5.3s   b asks @3             -> closed, epoch 3, not told
    """)


def test_what_is_only_measured_is_not_opened_by_a_memory_either() -> None:
    play("""
        size=4 minimum_calls=4 quorum=1 acts=no
        1s     a asks @7             -> closed, not told
    """)
