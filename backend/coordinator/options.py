"""What an operator may set about a circuit. RULE: values, with the defaults and what each means at its boundary.

Named after Resilience4j where the meaning is the same; docs/decisions/0011-circuits-are-decided-once.md has both side by side.
Rates are percentages, durations milliseconds. "Reaches" is `>=`: a rate of exactly its threshold opens.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class WindowKind(StrEnum):
    """What a sample holds."""

    COUNT = "count"  # the last `size` calls of the fleet
    TIME = "time"  # the calls of the second under way and of the `size` - 1 seconds before it


class Options(Struct, frozen=True, kw_only=True):
    """How one circuit is judged. Raises ValueError for values that contradict each other."""

    # --- when it opens
    window: WindowKind = WindowKind.COUNT
    size: int = 100  # calls, or seconds
    minimum_calls: int = 100  # below it no rate is known; a COUNT window that is smaller needs to be full
    failure_rate: float = 50.0
    slow_rate: float = 100.0  # of answers over the provider's own threshold, which the node knows
    in_a_row: int = 10  # failures that open while no rate is known; 0: that never opens
    horizon_ms: int = 600_000  # within which they must lie
    acts: bool = True  # False: metrics only, nothing but an operator's word changes the circuit

    # --- whose word counts
    quorum: int = 2  # distinct nodes that must have met it, or all that are alive, if they are fewer
    alone_after_ms: int | None = 10_000  # fewer are believed after so long without any other's good answer; None: never
    alive_ms: int = 30_000  # a node is alive so long after its last report
    node_calls: int = 10  # of one node, and of all others together, before they are compared
    others_failing: float = 10.0  # at most so many of the others' calls fail while one node's mostly do: that node is bad
    bad_at: int = 2  # institutions at which a node is bad before nothing that it says is evidence
    warm_up_ms: int = 2_000  # that a new leader listens before it opens anything

    # --- how long it stays open
    wait_ms: int = 5_000  # until the first probe
    wait_growth: float = 2.0  # each time that it opens again before it has closed
    longest_wait_ms: int = 20_000
    jitter: float = 0.2  # the part of a wait that is drawn away: waits lie in ((1 - jitter) x wait, wait]
    maintenance_ms: int = 15_000  # if the provider did not say until when
    longest_maintenance_ms: int = 3_600_000  # then a probe looks, whatever was said
    expires_ms: int = 30_000  # past its wait, after which a node that heard nothing more no longer believes an OPEN

    # --- how it closes
    automatic: bool = True  # False: probed only for somebody who waits
    permitted_calls: int = 2  # of a probe; the round is full at `min(minimum_calls, permitted_calls)`
    longest_half_open_ms: int = 30_000  # then it opens again
    probe_lease_ms: int = 3_000  # a probe that is not heard of for so long is lost
    others_first_ms: int = 500  # that who failed to probe waits for another to try, so that no bad node keeps a circuit open
    ramp_ms: int = 5_000  # over which nodes let a growing share through after a probe closed it

    def __post_init__(self) -> None:
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must lie between {least} and {most}")
        if self.longest_wait_ms < self.wait_ms:
            raise ValueError("longest_wait_ms must not be shorter than wait_ms")

    @property
    def enough_calls(self) -> int:
        """Calls from which on rates are known."""
        return min(self.minimum_calls, self.size) if self.window is WindowKind.COUNT else self.minimum_calls

    @property
    def round_of_calls(self) -> int:
        """Calls after which a probe is judged."""
        return min(self.minimum_calls, self.permitted_calls)

    def wait(self, opened: int, draw: float) -> int:
        """Milliseconds until the next probe of a circuit that opened so many times (1: the first) since it closed. `draw` is in [0, 1)."""
        growths = min(max(opened - 1, 0), 64)  # any growth has met the longest wait by then
        return round(min(self.wait_ms * self.wait_growth**growths, self.longest_wait_ms) * (1 - self.jitter * draw))


_A_DAY = 86_400_000
_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("size", 1, 100_000),
    ("minimum_calls", 1, 1_000_000),
    ("failure_rate", 0.001, 100),
    ("slow_rate", 0.001, 100),
    ("in_a_row", 0, 1_000),
    ("horizon_ms", 1, _A_DAY),
    ("quorum", 1, 1_000),
    ("alone_after_ms", 0, _A_DAY),
    ("alive_ms", 1, _A_DAY),
    ("node_calls", 1, 1_000_000),
    ("others_failing", 0, 100),
    ("bad_at", 1, 1_000),
    ("warm_up_ms", 0, _A_DAY),
    ("wait_ms", 1, _A_DAY),
    ("wait_growth", 1, 10),
    ("jitter", 0, 1),
    ("maintenance_ms", 1, _A_DAY),
    ("longest_maintenance_ms", 1, _A_DAY),
    ("expires_ms", 1, _A_DAY),
    ("permitted_calls", 1, 1_000),
    ("longest_half_open_ms", 1, _A_DAY),
    ("probe_lease_ms", 1, _A_DAY),
    ("others_first_ms", 0, _A_DAY),
    ("ramp_ms", 0, _A_DAY),
)
