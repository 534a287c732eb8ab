"""How the CA and each provider behave at the moment, and how that is changed from outside.

In: the JSON of `PUT /sandbox/providers/{org_code}` and `PUT /sandbox/ca`, checked strictly. Out: a frozen `Behaviour` per call.
With `for_s` a change holds for that long, then the behaviour before it is back. RULE: time is an argument.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from backend.providers.sandbox.latency import CA as CA_LATENCY
from backend.providers.sandbox.latency import NONE, SLOW, Latency, usual
from backend.providers.sandbox.options import SandboxOptions

Seconds = Annotated[float, Meta(gt=0, le=86_400 * 7)]
ApprovalMilliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]


class Mode(StrEnum):
    """What a provider does with a call (authorization endpoints included, unless it says otherwise)."""

    OK = "ok"
    DOWN = "down"  # closes the connection as soon as the request is there
    HANG = "hang"  # never answers; holds the connection until the client goes
    SLOW = "slow"  # right answers, late
    DRIP = "drip"  # right answers, a byte every half second
    GARBAGE = "garbage"  # 200 with what is not the standard's JSON; another kind each time
    OVERSIZE = "oversize"  # 200 with a body of 64 MiB
    TRUNCATED = "truncated"  # 200, half a body, the end of the connection
    HTTP500 = "http500"  # 50001; authorization endpoints: server_error
    HTTP429 = "http429"  # 42901 with Retry-After
    MAINTENANCE = "maintenance"  # 50008; authorization endpoints: 503 with both kinds of body
    OUT_OF_WINDOW = "out_of_window"  # 50009 for every call of a data API
    TOKEN_EXPIRED = "token_expired"  # 40101 for every call of a data API, however new the token
    RESET = "reset"  # does the work, then resets the connection instead of answering


class CaMode(StrEnum):
    """What the CA does."""

    OK = "ok"
    DENY = "deny"  # the person says no, after the same time
    NEVER = "never"  # the person does nothing
    DOWN = "down"
    HANG = "hang"


class Rule(StrEnum):
    """What a provider can enforce on scheduled calls."""

    QUOTA = "quota"  # once a week per person, asset and API, until the first success: 42901
    WINDOW = "window"  # inside np_time: 50009


class Behaviour(Struct, frozen=True):
    """One provider's behaviour."""

    latency_ms: Latency
    mode: Mode = Mode.OK
    error_rate: float = 0.0  # of the calls that end like HTTP500
    enforce: frozenset[Rule] = frozenset()
    is_slow_by_default: bool = False  # mode `slow` came without a latency

    @property
    def effective_latency(self) -> Latency:
        return SLOW if self.mode is Mode.SLOW and self.is_slow_by_default else self.latency_ms


class CaBehaviour(Struct, frozen=True):
    """The CA's behaviour."""

    latency_ms: Latency
    approve_after_ms: float | None  # None: a person decides
    mode: CaMode = CaMode.OK


B = TypeVar("B", Behaviour, CaBehaviour)


class ProviderChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a PUT; what is left out keeps its value."""

    mode: Mode | UnsetType = UNSET
    latency_ms: Latency | UnsetType = UNSET
    error_rate: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    enforce: frozenset[Rule] | UnsetType = UNSET
    for_s: Seconds | UnsetType | None = UNSET  # None: for good


class CaChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a PUT; what is left out keeps its value."""

    mode: CaMode | UnsetType = UNSET
    latency_ms: Latency | UnsetType = UNSET
    approve_after_ms: ApprovalMilliseconds | UnsetType | None = UNSET
    for_s: Seconds | UnsetType | None = UNSET


class Steered(Generic[B]):
    """A behaviour for good, and perhaps another for a while."""

    def __init__(self, start: B) -> None:
        self._start: B = start
        self._lasting: B = start
        self._passing: B | None = None
        self._until = 0.0  # monotonic seconds at which `_passing` ends

    def at(self, now: float) -> B:
        """The behaviour in force."""
        if self._passing is not None and now >= self._until:
            self._passing = None
        return self._lasting if self._passing is None else self._passing

    def left(self, now: float) -> float | None:
        """Seconds until the behaviour before is back; None: it is for good."""
        self.at(now)
        return None if self._passing is None else self._until - now

    def put(self, change: ProviderChange | CaChange, now: float) -> None:
        """Changes it at once. `for_s` left out: for as long as the behaviour that it changes."""
        given = {name: value for name, value in structs.asdict(change).items() if name != "for_s" and value is not UNSET}
        if isinstance(change, ProviderChange) and (change.mode is Mode.SLOW or change.latency_ms is not UNSET):
            given["is_slow_by_default"] = change.latency_ms is UNSET
        behaviour = structs.replace(self.at(now), **given)
        if isinstance(change.for_s, float | int):
            self._passing, self._until = behaviour, now + change.for_s
        elif change.for_s is UNSET and self.left(now) is not None:
            self._passing = behaviour
        else:
            self._lasting, self._passing = behaviour, None

    def reset(self) -> None:
        self._lasting, self._passing = self._start, None


class Steering:
    """The behaviours of the CA and of all providers."""

    def __init__(self, options: SandboxOptions) -> None:
        quick = options.without_latency
        self.ca = Steered(CaBehaviour(NONE if quick else CA_LATENCY, options.approve_after_ms))
        self.providers: dict[str, Steered[Behaviour]] = {}
        seen: dict[str, int] = {}
        for provider in options.directory.providers:
            number = seen[provider.industry] = seen.get(provider.industry, -1) + 1
            self.providers[provider.org_code] = Steered(Behaviour(NONE if quick else usual(provider.industry, number)))

    def reset(self) -> None:
        """Everything as it was at the start."""
        self.ca.reset()
        for provider in self.providers.values():
            provider.reset()
