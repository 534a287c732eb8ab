"""Judges: pure functions from what was seen to what is wrong with it. Nothing to say means that all is well.

In: `Evidence`. Out: one plain line per fault. Each checker looks at one promise; `judged` asks all of them. Nothing here touches the world,
and `test_checkers.py` shows each of them a run that breaks its promise: a checker that cannot find a fault is worth nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.history import JSON, NO_ANSWER, Asked, Began, Disturbance, Evidence, Heard, Tape
from tests.registration.client_fold import Client

ENDED = frozenset({"completed", "partial", "failed", "expired", "denied", "cancelled"})
ITEM_ENDED = frozenset({"completed", "failed", "deferred", "cancelled"})
NEVER_SIGNED = frozenset({"denied", "expired", "failed"})  # a registration that failed after its signature has no item that waits
TOKEN = "token"  # how a call of an institution's token endpoint is counted, which has no api_code
TRIES = 3  # of a job, deaths of its workers included
SENDS = 4  # of one call over a sick way: it is repeated once, and sent anew each time that it met a kept connection which had ended

Checker = Callable[[Evidence], Iterable[str]]


def judged(evidence: Evidence) -> list[str]:
    """Every fault that any checker finds."""
    return [f"{checker.__name__}: {fault}" for checker in CHECKERS for fault in checker(evidence)]


# --- accepted work ----------------------------------------------------------------------------------------------------


def nothing_accepted_is_lost(evidence: Evidence) -> Iterator[str]:
    """After a 202, registration and items are there, and have ended or are deferred; without a signature the items still wait."""
    registrations = {(row["user_id"], row["id"]): row for row in evidence.rows.registrations}
    items = defaultdict(list)
    for row in evidence.rows.items:
        items[row["user_id"], row["registration_id"]].append(row)
    for user, registration_id in _accepted(evidence):
        row = registrations.get((user, registration_id))
        if row is None:
            yield f"{registration_id} of {user} was accepted and is not there"
        elif row["status"] not in ENDED:
            yield f"{registration_id} of {user} is still {row['status']}"
        for item in items[user, registration_id]:
            never_asked = item["status"] == "waiting" and row is not None and row["status"] in NEVER_SIGNED
            if item["status"] not in ITEM_ENDED and not never_asked:
                yield f"{item['org_code']} of {registration_id} is still {item['status']}"


def one_registration_per_key(evidence: Evidence) -> Iterator[str]:
    """However often a request is repeated, its key begins one registration."""
    by_key = defaultdict(set)
    keys = defaultdict(set)
    for one in evidence.asked:
        if one.key:
            keys[one.user].add(one.key)
        if one.key and one.registration_id:
            by_key[one.user, one.key].add(one.registration_id)
    for (user, key), begun in by_key.items():
        if len(begun) > 1:
            yield f"{user} was given {len(begun)} registrations for the key {key}"
    begun = Counter(row["user_id"] for row in evidence.rows.registrations)
    for user, used in keys.items():
        if begun[user] > len(used):
            yield f"{user} has {begun[user]} registrations by {len(used)} keys"


def no_asset_twice(evidence: Evidence) -> Iterator[str]:
    """What a person owns is there once, and as often as they were told."""
    same = Counter((row["user_id"], row["id"]) for row in evidence.rows.assets)
    looks = Counter((row["user_id"], row["org_code"], row["kind"], row["name"], row["number_masked"]) for row in evidence.rows.assets)
    for found in (same, looks):
        yield from (f"{times} times {asset}" for asset, times in found.items() if times > 1)
    stored = Counter((row["user_id"], row["org_code"]) for row in evidence.rows.assets)
    for item in evidence.rows.items:
        told, held = len(item["asset_ids"]), stored[item["user_id"], item["org_code"]]
        if len(set(item["asset_ids"])) != told:
            yield f"{item['registration_id']} counts an asset of {item['org_code']} twice"
        if item["status"] == "completed" and told != held:
            yield f"{item['registration_id']} tells of {told} assets of {item['org_code']}, {held} are stored"


def nothing_is_missing(evidence: Evidence) -> Iterator[str]:
    """Where a collection was completed, collecting once more without any fault finds the very same assets."""
    completed = {(row["user_id"], row["org_code"]) for row in evidence.rows.items if row["status"] == "completed"}
    stored = defaultdict(set)
    for row in evidence.rows.assets:
        stored[row["user_id"], row["org_code"]].add(row["id"])
    for link in completed & evidence.again.keys():
        if stored[link] != evidence.again[link]:
            yield f"{link} has {len(stored[link])} assets, and {len(evidence.again[link])} when nothing disturbs"


def nobody_fails_without_a_reason(evidence: Evidence) -> Iterator[str]:
    """Where no institution is ill, everything completes; a job may be given up only after so many disturbances as it has tries."""
    for row in (*evidence.rows.registrations, *evidence.rows.items):
        met = sum(one.began <= row["updated_at"] for one in evidence.disturbances)
        if row["status"] in {"failed", "partial", "expired", "denied"} and not evidence.ill and met < TRIES:
            yield f"{row.get('id') or row['org_code']} of {row['user_id']} is {row['status']} after {met} disturbances"


def no_fact_is_left_behind(evidence: Evidence) -> Iterator[str]:
    """At the end the outbox is empty, and each user's feed ends where PostgreSQL's numbers do."""
    if evidence.rows.outbox:
        yield f"{evidence.rows.outbox} facts wait in the outbox"
    tops = {row["user_id"]: row["feed_offset"] for row in evidence.rows.users}
    for user, log in evidence.feeds.items():
        if log.top != tops.get(user, 0):
            yield f"the feed of {user} ends at {log.top}, its numbers at {tops.get(user, 0)}"


# --- the feed ---------------------------------------------------------------------------------------------------------


def events_have_no_gap_and_no_double(evidence: Evidence) -> Iterator[str]:
    """Every client hears each offset after its position, in order and once, until it is told that history is lost."""
    for tape in evidence.tapes:
        for before, after in pairwise(tape.entries):
            if isinstance(after, Heard) and after.offset != before.offset + 1:
                yield f"{_who(tape)} heard {after.offset} after {before.offset}"
            if isinstance(after, Heard) and after.epoch != before.epoch:
                yield f"{_who(tape)} was taken from {before.epoch} to {after.epoch} at {after.offset} without a word"


def history_is_lost_only_by_force(evidence: Evidence) -> Iterator[str]:
    """A client is told that history is lost only when somebody took it away."""
    if any(disturbance.name in FORGETTING for disturbance in evidence.disturbances):
        return
    for tape in evidence.tapes:
        if any(isinstance(entry, Began) and entry.lost for entry in tape.entries):
            yield f"{_who(tape)} was told that history is lost, and nobody took it away"


FORGETTING = frozenset({"valkey wiped", "valkey killed", "postgres and valkey killed"})


def every_transport_tells_the_same(evidence: Evidence) -> Iterator[str]:
    """One offset of a user is one event, over every transport and in the feed itself."""
    told: dict[tuple[str, int], JSON] = {}
    for user, offset, event, who in _everything_heard(evidence):
        if told.setdefault((user, offset), event) != event:
            yield f"{who} heard another event at {offset}"


def everybody_hears_the_end(evidence: Evidence) -> Iterator[str]:
    """A client that follows hears, or reads, how its registration ended."""
    for tape in evidence.tapes:
        if tape.fresh is None:
            heard = [entry.event["type"] for entry in tape.entries if isinstance(entry, Heard)]
            yield f"{_who(tape)} never heard the end; last {heard[-3:]} at {tape.entries[-1].offset}"


def the_law_holds(evidence: Evidence) -> Iterator[str]:
    """Snapshot + events = fresh snapshot."""
    for tape in evidence.tapes:
        if tape.fresh is None:
            continue
        client: Client | None = None
        for entry in tape.entries:
            if isinstance(entry, Began):
                client = Client(entry.registration, entry.assets)
            elif client is not None:
                client.hear(entry.event)
        fresh = {name: value for name, value in tape.fresh.items() if name != "position"}
        if client is None or client.registration != fresh:
            yield f"{_who(tape)}: the fold and the snapshot differ: {_difference(client.registration if client else {}, fresh)}"


def signature_comes_first(evidence: Evidence) -> Iterator[str]:
    """No provider event of a registration comes before its `signature.completed`."""
    for user, log in evidence.feeds.items():
        signed: set[str] = set()
        for offset, event in log.events:
            if event["type"] == "signature.completed":
                signed.add(event["registration_id"])
            registration = event.get("registration_id")  # `provider.status` has none
            if event["type"].startswith("provider.") and registration and log.events[0][0] == 1 and registration not in signed:
                yield f"{user} hears {event['type']} at {offset}, before the signature"


# --- what the institutions saw ----------------------------------------------------------------------------------------


def no_two_live_tokens(evidence: Evidence) -> Iterator[str]:
    """A link has one row, its token changes by one at a time, and none is asked for twice but after a disturbance."""
    rows = Counter((row["user_id"], row["org_code"]) for row in evidence.rows.links)
    yield from (f"{times} links of {link}" for link, times in rows.items() if times > 1)
    begun = Counter((row["user_id"], row["org_code"]) for row in evidence.rows.items)
    for link, calls in _by_link(evidence, TOKEN).items():
        for one, other in pairwise(calls):
            if other["at"] < _end(one) and one["status"] == other["status"] == 200:
                yield f"two tokens of {link} were asked for at once, at {one['at']:.3f} and {other['at']:.3f}"
        given = [call for call in calls if call["status"] == 200]
        allowed = begun[link] + len(_met(_by_link(evidence)[link], evidence.disturbances))
        if given and len(given) > allowed:
            yield f"{len(given)} tokens were given for {link}, {allowed} needed"


def calls_stay_within_need(evidence: Evidence) -> Iterator[str]:
    """An institution is asked again only for a collection that was under way at a disturbance, and once for each; while the way to it
    is sick, it may have heard each of the call's sends whose answer was lost."""
    needs = {link: need for link, need in evidence.needs.items() if need}
    for link, calls in _by_link(evidence).items():
        if link not in needs:
            continue
        met = _met(calls, evidence.disturbances)
        runs = 1 + sum(SENDS if disturbance.name == SICK_WAY else 1 for disturbance in met)
        for code, made in Counter(code_of(call) for call in calls).items():
            allowed = needs[link].get(code, 0) * runs
            if made > allowed:
                yield f"{link} was asked {made} times for {code}, {allowed} needed ({runs} runs)"


SICK_WAY = "way to institutions sick"


def _met(calls: Sequence[JSON], disturbances: Iterable[Disturbance]) -> list[Disturbance]:
    """The disturbances that met this link's calls between the first and the last of them."""
    began, ended = min(call["at"] for call in calls), max(map(_end, calls))
    return [disturbance for disturbance in disturbances if disturbance.began <= ended and disturbance.ended >= began]


# --- how clients were treated -----------------------------------------------------------------------------------------


def answers_are_honest(evidence: Evidence) -> Iterator[str]:
    """What cannot be done now is a 503 that says when to come back: never another 5xx, never silence."""
    for one in evidence.asked:
        if one.status >= 500 and one.status != 503:
            yield f"{_asked(one)} was answered {one.status}"
        if one.status == 503 and not one.retry_after:
            yield f"{_asked(one)} was answered 503 and not told when to come back"
        if one.ended - one.began >= one.patience:
            yield f"{_asked(one)} was not answered in {one.patience:g} s"


def silence_has_a_reason(evidence: Evidence) -> Iterator[str]:
    """A connection is refused or cut only while an API is killed or stopped."""
    reasons = [one for one in evidence.disturbances if one.name in CUTTING]
    for one in evidence.asked:
        met = any(reason.began - 0.5 <= one.ended and one.began <= reason.ended + 0.5 for reason in reasons)
        if one.status == NO_ANSWER and one.ended - one.began < one.patience and not met:
            yield f"{_asked(one)} was not answered at all"


CUTTING = frozenset({"api killed", "api stopped", "edge sick"})


def nobody_gives_up(evidence: Evidence) -> Iterator[str]:
    """No process ends by itself, and none meets what nobody expected."""
    yield from (f"{name} ended by itself ({code})" for name, code in evidence.deserters)
    yield from evidence.tracebacks


def it_heals_in_time(evidence: Evidence) -> Iterator[str]:
    """Whatever was accepted has ended by the moment that was promised."""
    for row in (*evidence.rows.registrations, *evidence.rows.items):
        if evidence.recovered_by and row["updated_at"] > evidence.recovered_by:
            name = row.get("id") or f"{row['org_code']} of {row['registration_id']}"
            yield f"{name} ended {row['updated_at'] - evidence.recovered_by:.1f} s too late"


CHECKERS: tuple[Checker, ...] = (
    nothing_accepted_is_lost,
    one_registration_per_key,
    no_asset_twice,
    nothing_is_missing,
    nobody_fails_without_a_reason,
    no_fact_is_left_behind,
    events_have_no_gap_and_no_double,
    history_is_lost_only_by_force,
    every_transport_tells_the_same,
    everybody_hears_the_end,
    the_law_holds,
    signature_comes_first,
    no_two_live_tokens,
    calls_stay_within_need,
    answers_are_honest,
    silence_has_a_reason,
    nobody_gives_up,
    it_heals_in_time,
)


# --- words ------------------------------------------------------------------------------------------------------------


def _accepted(evidence: Evidence) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one.user, one.registration_id) for one in evidence.asked if one.registration_id))


def _who(tape: Tape) -> str:
    return f"{tape.user} over {tape.transport}"


def _asked(one: Asked) -> str:
    return f"{one.what} of {one.user} at {one.began:.3f}"


def _everything_heard(evidence: Evidence) -> Iterator[tuple[str, int, JSON, str]]:
    for tape in evidence.tapes:
        yield from ((tape.user, entry.offset, entry.event, _who(tape)) for entry in tape.entries if isinstance(entry, Heard))
    for user, log in evidence.feeds.items():
        yield from ((user, offset, event, f"the feed of {user}") for offset, event in log.events)


def code_of(call: JSON) -> str:
    """What a call of the log counts as."""
    return TOKEN if call["path"].endswith("/oauth/2.0/token") else str(call.get("api_code") or call["path"])


def _by_link(evidence: Evidence, code: str | None = None) -> Mapping[tuple[str, str], list[JSON]]:
    """The calls about one person at one provider, in the order in which they came; of one kind, or (None) of all."""
    found: dict[tuple[str, str], list[JSON]] = defaultdict(list)
    for call in sorted(evidence.calls, key=lambda one: one["at"]):
        if call.get("user") and (code is None or code_of(call) == code):
            found[call["user"], call["org_code"]].append(call)
    return found


def _end(call: JSON) -> float:
    return float(call["at"]) + float(call["ms"]) / 1000


def _difference(one: JSON, other: JSON) -> str:
    names = [name for name in {*one, *other} if one.get(name) != other.get(name)]
    return "; ".join(f"{name}: {one.get(name)!r} and {other.get(name)!r}" for name in sorted(names))[:1500]
