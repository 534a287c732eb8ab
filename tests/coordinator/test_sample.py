"""A sample equals what one would count by hand from all calls, however they are cut into reports, shuffled, and split over samples."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.coordinator.options import Options, WindowKind
from backend.coordinator.sample import Evidence, Sample
from backend.coordinator.windows import NEVER, CountWindow, Share, TimeWindow
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit
from backend.providers.outcomes import Weight

CIRCUIT = Circuit("A1MOABK001", Scope.READ)
NODES = ("a", "b", "c")
QUICK = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Seen:
    """One call, as the reference sees it."""

    at: float
    node: str
    weight: Weight
    epoch: int = 0

    def ended(self, reported_at: float) -> CallEnded:
        return CallEnded(CIRCUIT, self.epoch, self.weight, 5.0, reported_at - self.at)


@st.composite
def calls(draw: st.DrawFn) -> list[Seen]:
    """Calls at moments of their own, in any order."""
    moments = draw(st.lists(st.integers(0, 40_000), unique=True, max_size=40))
    return [Seen(float(at), draw(st.sampled_from(NODES)), draw(st.sampled_from(list(Weight))), draw(st.integers(0, 2))) for at in moments]


@st.composite
def options(draw: st.DrawFn) -> Options:
    return Options(
        window=draw(st.sampled_from(list(WindowKind))),
        size=draw(st.integers(1, 30)),
        minimum_calls=draw(st.integers(1, 12)),
        in_a_row=draw(st.integers(0, 5)),
        horizon_ms=draw(st.sampled_from([1, 5_000, 20_000, 600_000])),
        alone_after_ms=draw(st.sampled_from([None, 1_000, 15_000])),
    )


def sampled(all_calls: list[Seen], chosen: Options, cuts: int = 1, epoch: int = 1) -> Sample:
    """A sample that heard these calls, in reports of `cuts` calls."""
    sample = Sample(chosen, epoch=epoch)
    for start in range(0, len(all_calls), cuts):
        report = all_calls[start : start + cuts]
        reported_at = max(call.at for call in report)
        for node in NODES:
            sample.take(node, [call.ended(reported_at) for call in report if call.node == node], reported_at)
    return sample


def counted_by_hand(all_calls: list[Seen], chosen: Options, now: float) -> dict[str, Share]:
    """What the window should hold of each node."""
    counting = sorted((call for call in all_calls if call.epoch >= 1 and call.weight is not Weight.IGNORED), key=lambda call: call.at)
    if chosen.window is WindowKind.COUNT:
        held = counting[-chosen.size :]
    else:
        newest = max([now, *(call.at for call in counting)]) // 1000
        held = [call for call in counting if call.at // 1000 > newest - chosen.size]
    by_node: dict[str, Counter[Weight]] = {}
    for call in held:
        by_node.setdefault(call.node, Counter())[call.weight] += 1
    return {node: Share(count.total(), count[Weight.SLOW], count[Weight.FAILURE]) for node, count in by_node.items()}


def row_by_hand(all_calls: list[Seen], chosen: Options, now: float) -> Counter[str]:
    """Failures since the last answer, within the horizon, by node."""
    counting = [call for call in all_calls if call.epoch >= 1]
    answered = max((call.at for call in counting if call.weight in {Weight.OK, Weight.SLOW}), default=NEVER)
    row = [call for call in counting if call.weight is Weight.FAILURE and call.at > max(answered, now - chosen.horizon_ms)]
    most = max(chosen.in_a_row, 1)
    return Counter({node: min(count, most) for node, count in Counter(call.node for call in row).items()})


def known(sample: Sample, now: float, left_out: frozenset[str] = frozenset()) -> Evidence:
    return sample.evidence(now, alive=NODES, left_out=left_out)


@QUICK
@given(calls(), options(), st.integers(1, 9), st.integers(0, 30_000))
def test_a_sample_is_what_one_counts_by_hand(all_calls: list[Seen], chosen: Options, cuts: int, later: int) -> None:
    now = max((call.at for call in all_calls), default=0.0) + later
    sample = sampled(all_calls, chosen, cuts)
    shares, row = counted_by_hand(all_calls, chosen, now), row_by_hand(all_calls, chosen, now)
    assert sample.shares(now) == shares
    evidence = known(sample, now)
    total = sum(shares.values(), Share())
    enough = total.calls >= chosen.enough_calls
    assert evidence.counted == total
    assert evidence.failure_rate == (pytest.approx(100 * total.failures / total.calls) if enough else None)
    assert evidence.slow_rate == (pytest.approx(100 * total.slow / total.calls) if enough else None)
    assert (evidence.in_a_row, evidence.in_a_row_at) == (row.total(), frozenset(row))
    assert evidence.failed_at == {node for node, share in shares.items() if share.failures}


@QUICK
@given(calls(), options(), st.integers(0, 30_000), st.sampled_from(NODES))
def test_left_out_nodes_leave_nothing_but_the_places_they_take(all_calls: list[Seen], chosen: Options, later: int, out: str) -> None:
    now = max((call.at for call in all_calls), default=0.0) + later
    evidence = known(sampled(all_calls, chosen), now, frozenset({out}))
    shares = {node: share for node, share in counted_by_hand(all_calls, chosen, now).items() if node != out}
    row = row_by_hand([call for call in all_calls if call.node != out], chosen, now)
    assert evidence.counted == sum(shares.values(), Share())
    assert (evidence.in_a_row, evidence.in_a_row_at) == (row.total(), frozenset(row))
    assert evidence.alive == 2
    assert out not in evidence.failed_at | evidence.slow_at | evidence.well_at


@QUICK
@given(calls(), options(), st.data())
def test_the_samples_of_two_leaders_merge_into_that_of_one(all_calls: list[Seen], chosen: Options, data: st.DataObject) -> None:
    here = [data.draw(st.booleans()) for _ in all_calls]
    mine = sampled([call for call, is_here in zip(all_calls, here, strict=True) if is_here], chosen)
    theirs = sampled([call for call, is_here in zip(all_calls, here, strict=True) if not is_here], chosen)
    now = max((call.at for call in all_calls), default=0.0)
    mine.merge(theirs)
    assert mine.shares(now) == sampled(all_calls, chosen).shares(now)
    assert known(mine, now) == known(sampled(all_calls, chosen), now)


@QUICK
@given(calls(), options(), st.integers(1, 9), st.randoms())
def test_the_order_of_reports_does_not_matter(all_calls: list[Seen], chosen: Options, cuts: int, shuffle: object) -> None:
    now = max((call.at for call in all_calls), default=0.0)
    shuffled = list(all_calls)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    assert known(sampled(shuffled, chosen, cuts), now) == known(sampled(all_calls, chosen), now)


@QUICK
@given(calls(), options())
def test_a_window_never_holds_more_than_it_can(all_calls: list[Seen], chosen: Options) -> None:
    sample = Sample(chosen)
    for call in all_calls:
        sample.take(call.node, [call.ended(call.at)], call.at)
        total = sum(sample.shares(call.at).values(), Share())
        assert total.failures + total.slow <= total.calls
        assert chosen.window is WindowKind.TIME or total.calls <= chosen.size


def test_samples_of_other_epochs_merge_by_epoch() -> None:
    old, new = (sampled([Seen(1.0, "a", Weight.OK, 2)] * calls, Options(), epoch=epoch) for calls, epoch in ((3, 1), (2, 2)))
    new.merge(old)
    assert known(new, 1.0).counted.calls == 2
    old.merge(new)
    assert (old.epoch, known(old, 1.0).counted.calls) == (2, 2)


def test_windows_of_two_kinds_do_not_merge() -> None:
    with pytest.raises(TypeError):
        CountWindow(1).merge(TimeWindow(1))
    with pytest.raises(TypeError):
        TimeWindow(1).merge(CountWindow(1))


def test_beginning_anew_forgets_everything() -> None:
    sample = sampled([Seen(1.0, "a", Weight.FAILURE, 1)] * 5, Options(), epoch=1)
    sample.begin(2)
    evidence = known(sample, 1.0)
    assert (evidence.counted.calls, evidence.in_a_row, evidence.well_at) == (0, 0, frozenset())
    assert sample.take("a", [Seen(2.0, "a", Weight.FAILURE, 1).ended(2.0)], 2.0) == 0


def test_a_call_of_the_future_ended_when_it_was_reported() -> None:
    sample = Sample(Options(window=WindowKind.TIME, size=1))
    sample.take("a", [CallEnded(CIRCUIT, 0, Weight.OK, 1.0, -99_000.0)], 1_000.0)
    assert known(sample, 1_999.0).counted.calls == 1
    assert known(sample, 2_000.0).counted.calls == 0


def test_nodes_that_are_gone_leave_no_trace() -> None:
    sample = Sample(Options(window=WindowKind.TIME, size=10, horizon_ms=60_000))
    for life in range(50):
        sample.take(f"node{life}", [CallEnded(CIRCUIT, 0, Weight.FAILURE, 1.0)], life * 1_000.0)
    known(sample, 200_000.0)
    assert not sample.shares(200_000.0)
    assert not sample._trails


@pytest.mark.parametrize("chosen", [Options(), Options(window=WindowKind.TIME, size=10, minimum_calls=20)], ids=["count", "time"])
def test_a_report_of_500_calls_costs_well_under_a_millisecond(chosen: Options) -> None:
    weights = [Weight.OK, Weight.OK, Weight.FAILURE, Weight.SLOW]
    report = [CallEnded(CIRCUIT, 0, weights[n % 4], 5.0, float(n % 100)) for n in range(500)]
    sample, costs = Sample(chosen), []
    for n in range(20):
        began = time.process_time()  # CPU time, whatever else runs on this machine
        sample.take(NODES[n % 3], report, n * 100.0)
        costs.append(time.process_time() - began)
    assert min(costs) < 0.001
