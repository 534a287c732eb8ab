"""Every benchmark by the name of its page, in the order in which `make bench` runs them."""

from __future__ import annotations

from typing import Any

from benchmarks import (
    beside,
    calling,
    deciding,
    flatness,
    guarding,
    handing_over,
    one_of_ten,
    pushing,
    recording,
    registering,
    sending,
    targets,
)
from benchmarks.model import Benchmark

BENCHMARKS: dict[str, Benchmark[Any]] = {
    benchmark.name: benchmark
    for benchmark in (
        registering.BENCHMARK,
        one_of_ten.BENCHMARK,
        handing_over.BENCHMARK,
        pushing.BENCHMARK,
        calling.BENCHMARK,
        guarding.BENCHMARK,
        deciding.BENCHMARK,
        recording.BENCHMARK,
        flatness.BENCHMARK,
        targets.BENCHMARK,
        sending.BENCHMARK,
        beside.BENCHMARK,
    )
}
