"""Circuits as operators see them. RULE: values only.

In: the directory, the standings that are stored, the modes that operators set. Out: one `Breaker` for each scope of each institution. What
operators set is shown as soon as it is committed; the state is what is in force, which follows within a moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from msgspec import UNSET, Struct, UnsetType

from backend.clock import iso
from backend.coordinator.figures import Figures
from backend.coordinator.standing import Standing
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.directory import Directory

PROVIDER_SCOPES = (Scope.READ, Scope.TOKEN)


class Breaker(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One circuit."""

    org_code: str
    name: str
    scope: Scope
    state: CircuitState  # that is in force
    mode: Mode  # that was set
    epoch: int  # of the last decision; 0: there was none
    reason: str  # a code, or the operator's words
    since: str  # RFC 3339
    retry_at: str | UnsetType = UNSET  # when a probe looks; absent: nobody will by itself
    failure_rate: float | UnsetType = UNSET  # percent
    calls: int | UnsetType = UNSET  # in the sample
    left_out: tuple[str, ...] | UnsetType = UNSET  # nodes that are bad, and no witnesses


def breakers(
    directory: Directory,
    standings: Mapping[Circuit, Standing],
    modes: Mapping[str, tuple[Mode, str]] | None,
    figures: Mapping[Circuit, Figures],
    *,
    began: datetime,
) -> list[Breaker]:
    """Every circuit, in the order of the directory, the CA's last.

    `modes` None: what was set cannot be read, and what is in force is shown. `began`: since when a circuit is closed of which nothing was
    ever decided.
    """
    return [
        _breaker(name, standings.get(circuit) or Standing(circuit=circuit, since_ms=began.timestamp() * 1000), modes, figures.get(circuit))
        for circuit, name in circuits(directory)
    ]


def circuits(directory: Directory) -> Iterator[tuple[Circuit, str]]:
    """Every circuit that there can be, with the name of its institution."""
    for provider in directory.providers:
        for scope in PROVIDER_SCOPES:
            yield Circuit(provider.org_code, scope), provider.name
    yield Circuit(directory.ca.org_code, Scope.CA), directory.ca.name


def _breaker(name: str, standing: Standing, modes: Mapping[str, tuple[Mode, str]] | None, figures: Figures | None) -> Breaker:
    in_force = standing.mode, standing.reason
    mode, said = in_force if modes is None else modes.get(standing.circuit.org_code, (Mode.AUTO, ""))
    retry_at = standing.probe.until_ms if standing.probe is not None else standing.probe_at_ms
    rate = figures.failure_rate if figures is not None else None
    return Breaker(
        org_code=standing.circuit.org_code,
        name=name,
        scope=standing.circuit.scope,
        state=standing.state,
        mode=mode,
        epoch=standing.epoch,
        reason=standing.reason if mode is Mode.AUTO else said,
        since=_moment(standing.since_ms),
        retry_at=UNSET if retry_at is None else _moment(retry_at),
        failure_rate=UNSET if rate is None else round(rate, 2),
        calls=UNSET if figures is None else figures.calls,
        left_out=figures.left_out if figures is not None and figures.left_out else UNSET,
    )


def _moment(ms: float) -> str:
    return iso(datetime.fromtimestamp(ms / 1000, UTC))
