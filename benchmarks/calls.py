"""What the sandbox's call log says about one registration. RULE: pure.

In: the calls of one user, and when which kind of asset was shown. Out: a `Timeline`. Moments are Unix seconds of one machine's clock; the
log cuts arrivals to milliseconds, so a stage that begins at an arrival or ends at one may be off by one millisecond.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

ANSWERED_WELL = "00000"
SIGN_REQUEST, SIGN_RESULT, TOKEN = "/v1/ca/sign_request", "/v1/ca/sign_result", "/oauth/2.0/token"
LISTS: Mapping[str, frozenset[str]] = {  # API code -> the kinds of assets that it lists; empty: whatever the provider has
    "BA01": frozenset(),
    "CD01": frozenset({"card"}),
    "CD11": frozenset({"point"}),
    "CD23": frozenset({"card"}),
    "PP01": frozenset({"prepaid"}),
    "IR01": frozenset({"pension"}),
    "IV01": frozenset(),
    "IS01": frozenset(),
    "IS11": frozenset({"loan"}),
    "EF01": frozenset({"prepaid"}),
    "EF11": frozenset({"paid"}),
    "CP01": frozenset(),
    "TC01": frozenset(),
}


class Call(Struct, frozen=True, kw_only=True):
    """One entry of the log."""

    at: float
    org_code: str
    path: str
    ms: float
    status: int
    api_code: str | None = None
    rsp_code: str | None = None
    user: str | None = None

    @property
    def end(self) -> float:
        return self.at + self.ms / 1000


class CallLog(Struct, frozen=True):
    """The answer of GET /sandbox/calls."""

    calls: tuple[Call, ...]


class Shown(Struct, frozen=True):
    """When the client had the first asset of this kind from this provider."""

    org_code: str
    kind: str
    moment: float


class Road(Struct, frozen=True):
    """One provider's way to its first asset: token, then the list that answered first with an asset."""

    token: Call
    listing: Call
    shown: float

    @property
    def own_ms(self) -> float:
        """What the provider itself takes: nothing could be faster."""
        return self.token.ms + self.listing.ms


class Timeline(Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    approval_to_answer: float  # the person has signed; the CA's answer that says so has not left yet
    ca_answer: float  # of which the CA itself takes for that answer
    critical_path: float  # of the fastest provider
    over_critical_path: float  # first asset at the client, after the CA's answer and that path
    over_own_path: tuple[float, ...]  # the same for each provider against its own path
    answer_to_token: float  # the rest is of the road whose asset came first: CA's answer -> its token request
    token_to_list: float
    list_to_client: float


def by_user(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """The calls of each user; the CA's token serves all users and is nobody's."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.user is not None:
            found[call.user].append(call)
    return found


def timeline(calls: Sequence[Call], shown: Sequence[Shown], approve_after_ms: float) -> Timeline | None:
    """None: nothing was signed, or nothing shown."""
    asked = [call for call in calls if call.path == SIGN_REQUEST]
    told = [call for call in calls if call.path == SIGN_RESULT and call.rsp_code == ANSWERED_WELL]
    roads = _roads(calls, shown)
    if not (asked and told and roads):
        return None
    approved, signed = asked[0].end + approve_after_ms / 1000, told[0].end
    first = min(roads, key=lambda road: road.shown)
    critical = min(road.own_ms for road in roads)
    return Timeline(
        approval_to_answer=(signed - approved) * 1000,
        ca_answer=told[0].ms,
        critical_path=critical,
        over_critical_path=(first.shown - signed) * 1000 - critical,
        over_own_path=tuple((road.shown - signed) * 1000 - road.own_ms for road in roads),
        answer_to_token=(first.token.at - signed) * 1000,
        token_to_list=(first.listing.at - first.token.end) * 1000,
        list_to_client=(first.shown - first.listing.end) * 1000,
    )


def _roads(calls: Sequence[Call], shown: Sequence[Shown]) -> list[Road]:
    kinds: dict[str, set[str]] = defaultdict(set)
    moments: dict[str, float] = {}
    for each in shown:
        kinds[each.org_code].add(each.kind)
        moments[each.org_code] = min(each.moment, moments.get(each.org_code, each.moment))
    tokens = {call.org_code: call for call in reversed(calls) if call.path.endswith(TOKEN) and call.status == 200}
    roads = []
    for org_code, moment in moments.items():
        lists = [call for call in calls if call.org_code == org_code and _shows(call, kinds[org_code])]
        if lists and org_code in tokens:
            roads.append(Road(tokens[org_code], min(lists, key=lambda call: call.end), moment))
    return roads


def _shows(call: Call, kinds: set[str]) -> bool:
    """Whether this call is a list that held assets of these kinds."""
    listed = LISTS.get(call.api_code or "")
    return listed is not None and call.status == 200 and (not listed or bool(listed & kinds))
