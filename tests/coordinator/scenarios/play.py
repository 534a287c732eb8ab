"""The language of the scenarios: one line is a moment, what arrives then, and how the circuit stands after it.

    play('''
        size=4 minimum_calls=4 quorum=1          # options, before the first moment
        0s    a: . . F               -> closed, rate unknown
        1s    a: F                   -> open failure_rate, wait 5s, told
        6s    a asks                 -> half_open, probe a
        6.1s  a: . .                 -> closed recovered, ramp 5s
    ''')

Calls: `.` answered, `S` slow, `F` failed, `I` ignored, `B` ignored, but the institution's own word (a quota), `R60` planned maintenance for
60 s; `F*50` fifty of them. They began under the epoch
that stands, unless the line says `@2`; they ended just now, unless it says `3s ago`; they went to one bank, unless it says `at X`. Several
nodes before the colon report the same, each for itself. Other lines: `again` (the last report comes once more), `a asks`, `a asks idly`,
`a asks @7` (to whom it is open since that epoch), `a releases`, `a releases @2`, `says forced_open "why"`, `a new leader`,
`a new leader knows nothing`, `time passes`.
After `->` stand facts of `told_of`, each of which must hold; a failing play prints itself with the line, and all that held instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from backend.coordinator.arrivals import Arrived, ModeSet, ProbeAsked, ProbeReleased
from backend.coordinator.hearing import Hearing
from backend.coordinator.options import Options, WindowKind
from backend.coordinator.standing import Standing, decision_of
from backend.coordinator.verdict import Verdict
from backend.coordinator.witnesses import bad_everywhere
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, Decision, Mode, Report
from backend.providers.outcomes import Weight

HOUR = 3_600_000.0
WEIGHTS = {".": Weight.OK, "S": Weight.SLOW, "F": Weight.FAILURE, "I": Weight.IGNORED, "B": Weight.IGNORED, "R": Weight.IGNORED}
REASONS = {"F": "50001", "I": "cut", "B": "42901", "R": "50008"}

_LINE = re.compile(r"(?P<at>[0-9.]+)s\s+(?P<what>.+?)(?:\s+->\s+(?P<facts>.+))?")
_CALLS = re.compile(r"(?P<nodes>[a-z ]+?)(?: at (?P<org>[A-Z]+))?: (?P<calls>.+?)(?: @(?P<epoch>\d+))?(?: (?P<ago>[0-9.]+)s ago)?")
_CALL = re.compile(r"(?P<how>[.SFIBR])(?P<rest>\d+)?(?:\*(?P<times>\d+))?")


def play(script: str) -> None:
    """Plays a script to its end."""
    __tracebackhide__ = True
    lines = [line.split("#")[0].strip() for line in script.strip().splitlines()]
    stage = _Stage(dict(_settings(lines)))
    for number, line in enumerate(lines):
        moment = _LINE.fullmatch(line)
        if moment is None:
            if line and "=" not in line.split()[0]:
                pytest.fail(f"not a line of the language: {line}", pytrace=False)
            continue
        stage.at(float(moment["at"]) * 1000, moment["what"])
        held = stage.told_of()
        wanted = [fact.strip() for fact in (moment["facts"] or "").split(",") if fact.strip()]
        if missing := [fact for fact in wanted if fact not in held]:
            shown = "\n".join(("> " if n == number else "  ") + each for n, each in enumerate(lines))
            pytest.fail(f"\n{shown}\n\nwanted: {', '.join(missing)}\nheld:   {', '.join(held)}", pytrace=False)


def _settings(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line and _LINE.fullmatch(line) is None:
            yield from (setting.split("=", 1) for setting in line.split() if "=" in setting)  # type: ignore[misc]


def _options(settings: dict[str, str]) -> Options:
    kinds: dict[str, object] = {}
    for name, text in settings.items():
        default = getattr(Options(), name)
        if text in {"yes", "no"}:
            kinds[name] = text == "yes"
        elif text == "never":
            kinds[name] = None
        else:
            kinds[name] = WindowKind(text) if name == "window" else type(default)(float(text))
    return Options(**kinds)  # type: ignore[arg-type]


class _Stage:
    """The leader, and what nodes and operators send it."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._draw = float(settings.pop("draw", 0))
        self._options = _options(settings)
        self._now = 0.0
        self._org = "B"
        self._hearing = Hearing(self._options, [], now=-HOUR)  # it has listened for long
        self._numbers: dict[str, int] = {}
        self._last: Report | None = None
        self._given: list[Verdict] = []

    def at(self, now: float, what: str) -> None:
        """Lets it be `now`, and `what` happen."""
        assert now >= self._now, "time goes forward"
        self._now, self._org = now, "B"
        calls = _CALLS.fullmatch(what)
        if calls:
            self._given = [given for node in calls["nodes"].split() for given in self._heard(node, calls)]
        elif what == "again":
            assert self._last is not None
            self._given = self._hearing.heard(self._last, now, self._drawn)
        elif what == "time passes":
            self._given = self._hearing.passed(now, self._drawn)
        elif what.startswith("a new leader"):
            kept = () if what.endswith("knows nothing") else tuple(self._hearing.standings().values())
            self._hearing, self._given = Hearing(self._options, kept, now=now), []
        else:
            self._given = [self._hearing.tell(self._circuit, self._request(shlex.split(what)), now, self._draw)]

    def told_of(self) -> list[str]:
        """Everything that can be said of the circuit that the last line was about."""
        standing, options = self._standing, self._options
        evidence = self._hearing.evidence(self._circuit, self._now)
        probe = f"probe {standing.probe.name}" if standing.probe is not None else "no probe"
        return [
            standing.state.value,
            f"{standing.state.value} {standing.reason}",
            f"mode {standing.mode.value}",
            f"epoch {standing.epoch}",
            "told" if any(given.decision is not None for given in self._given) else "not told",
            probe,
            *_durations(decision_of(standing, self._now, options)),
            _rate("rate", evidence.failure_rate),
            _rate("slow", evidence.slow_rate),
            f"calls {evidence.counted.calls}",
            f"in a row {evidence.in_a_row}",
            f"alive {evidence.alive}",
            *self._bad(),
        ]

    @property
    def _circuit(self) -> Circuit:
        return Circuit(self._org, Scope.READ)

    @property
    def _standing(self) -> Standing:
        return self._hearing.standing(self._circuit)

    def _drawn(self) -> float:
        return self._draw

    def _bad(self) -> list[str]:
        flagged = self._hearing.flagged(self._now)
        everywhere = bad_everywhere(
            {circuit: [node for node in flagged if circuit in flagged[node]] for circuit in _all(flagged)}, self._options
        )
        return [f"bad {node}" for node in flagged] + [f"bad {node} everywhere" for node in everywhere] or ["nobody bad"]

    def _heard(self, node: str, calls: re.Match[str]) -> list[Verdict]:
        self._org = calls["org"] or "B"
        epoch = int(calls["epoch"]) if calls["epoch"] else self._standing.epoch
        ended = tuple(self._ended(text, epoch, float(calls["ago"] or 0) * 1000) for text in _spelt(calls["calls"]))
        self._numbers[node] = self._numbers.get(node, 0) + 1
        self._last = Report(node=node, number=self._numbers[node], calls=ended)
        return self._hearing.heard(self._last, self._now, self._drawn)

    def _ended(self, call: str, epoch: int, ago_ms: float) -> CallEnded:
        resting_ms = float(call[1:]) * 1000 if call[0] == "R" else None
        return CallEnded(self._circuit, epoch, WEIGHTS[call[0]], 10.0, ago_ms, resting_ms, REASONS.get(call[0]))

    def _request(self, words: list[str]) -> Arrived:
        match words:
            case [node, "asks", *how]:
                return ProbeAsked(node, wanted="idly" not in how, epoch=int(how[-1][1:]) if how and how[-1][0] == "@" else 0)
            case [_, "releases", *which]:
                probe = self._standing.probe
                return ProbeReleased(int(which[0][1:]) if which else probe.fence if probe is not None else 0)
            case ["says", mode, why]:
                return ModeSet(Mode(mode), why)
            case _:
                raise AssertionError(f"nothing that can happen: {words}")


def _all(flagged: dict[str, tuple[Circuit, ...]]) -> set[Circuit]:
    return {circuit for circuits in flagged.values() for circuit in circuits}


def _spelt(calls: str) -> Iterator[str]:
    for text in calls.split():
        call = _CALL.fullmatch(text)
        assert call is not None, f"not a call: {text}"
        yield from [call["how"] + (call["rest"] or "")] * int(call["times"] or 1)


def _durations(decision: Decision) -> Iterator[str]:
    yield f"wait {_seconds(decision.retry_in_ms)}" if decision.retry_in_ms is not None else "no wait"
    yield f"expires {_seconds(decision.expires_in_ms)}" if decision.expires_in_ms is not None else "never expires"
    yield f"ramp {_seconds(decision.ramp_ms)}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g}s"


def _rate(name: str, rate: float | None) -> str:
    return f"{name} unknown" if rate is None else f"{name} {rate:g}%"
