"""Latencies: the distribution, and the old sequential way that the whole is measured against."""

from __future__ import annotations

from random import Random
from statistics import mean, quantiles

from backend.events import Industry
from backend.providers.directory import BUILT_IN, load_directory
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.latency import CA, Latency
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.people import People
from backend.providers.sandbox.steering import Steering

PROVIDERS = load_directory(BUILT_IN).providers
# What a registration reads beside the token: calls that are made once, and calls per asset of a list (a policy's contracts with IS02).
READ: dict[Industry, tuple[float, dict[str, float]]] = {
    Industry.BANK: (2, {"BA01": 2, "IR01": 2}),
    Industry.CARD: (6.5, {"CD01": 1, "CD32": 1, "CD33": 1, "PP01": 1}),  # CD24 of every second person
    Industry.INVEST: (2, {"IV01": 2.25, "IR01": 2}),  # IV05 of every fourth account
    Industry.INSU: (3, {"IS01": 4.2, "IS11": 2, "IR01": 2}),  # IS04 of every fifth policy
    Industry.EFIN: (2, {"EF01": 2, "EF11": 1}),
    Industry.CAPITAL: (1, {"CP01": 1.8}),  # a lease has one
    Industry.TELECOM: (1, {"TC01": 1}),
}


def sequential_ms() -> float:
    """What one ordinary person's registration at ten providers takes when each call waits for the one before it."""
    people, steering = People("moa", CATALOGUE), Steering(SandboxOptions())

    def provider_ms(org_code: str, industry: Industry) -> float:
        once, each = READ[industry]
        counts = {code: mean(len(people.holdings(industry, org_code, f"person{n}", code)) for n in range(200)) for code in each}
        return (1 + once + sum(each[code] * counts[code] for code in each)) * steering.providers[org_code].at(0).latency_ms.mean

    return 3 * CA.mean + 10 * mean(provider_ms(each.org_code, each.industry) for each in PROVIDERS)


def test_the_old_way_over_ten_providers_takes_3_3_seconds() -> None:
    assert 3_150 <= sequential_ms() <= 3_450


def test_the_fastest_provider_answers_within_20_to_40_ms() -> None:
    steering = Steering(SandboxOptions())
    assert 20 <= min(steering.providers[each.org_code].at(0).latency_ms.p50 for each in PROVIDERS) <= 40


def test_draws_have_the_percentiles_that_were_asked_for() -> None:
    latency, random = Latency(40, 140), Random(1)
    percentiles = quantiles((latency.draw(random) * 1000 for _ in range(40_000)), n=100)
    assert abs(percentiles[49] - 40) < 2
    assert abs(percentiles[98] - 140) < 12


def test_no_latency_means_at_once() -> None:
    assert Latency(0, 0).draw(Random(1)) == 0
