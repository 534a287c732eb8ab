"""Which nodes there are, and whose word about an institution counts. RULE: memory without I/O, clock or randomness.

In: reports' numbers, and what each node met at one institution. Out: whether a report is new, who is alive, who is bad. A node is bad at
an institution when most of its calls fail there while nearly all of the others' succeed; bad at several, it is the node that is ill, and
nothing that it says is evidence. Never two truths about one report: whatever was counted once is refused for good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from backend.coordinator.options import Options
from backend.coordinator.windows import NEVER, Share
from backend.providers.circuits import Circuit

REMEMBERED = 1024  # numbers of one node; whatever is older than that counts as seen


class Roster:
    """The nodes that were heard of late. A node's name is of one life: who starts again takes another."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def counts(self, node: str, number: int, now: float) -> bool:
        """Whether this report is heard for the first time. Reports may come in any order."""
        known = self._nodes.setdefault(node, _Node(number))
        if number in known.numbers or number <= known.newest - REMEMBERED:
            return False
        known.newest = max(known.newest, number)
        known.heard_at = max(known.heard_at, now)
        known.numbers.add(number)
        if len(known.numbers) > 2 * REMEMBERED:
            known.numbers = {kept for kept in known.numbers if kept > known.newest - REMEMBERED}
        return True

    def alive(self, since: float) -> frozenset[str]:
        """Who was heard after the moment `since`."""
        return frozenset(node for node, known in self._nodes.items() if known.heard_at > since)

    def forget(self, before: float) -> None:
        """Drops nodes that were last heard before that; a report of theirs that is still on its way would count again."""
        for node in [node for node, known in self._nodes.items() if known.heard_at < before]:
            del self._nodes[node]


class _Node:
    __slots__ = ("heard_at", "newest", "numbers")

    def __init__(self, number: int) -> None:
        self.heard_at = NEVER
        self.newest = number
        self.numbers: set[int] = set()


def bad_here(shares: Mapping[str, Share], options: Options) -> frozenset[str]:
    """Nodes whose failures at one institution the others contradict. Each is compared with all others together."""
    total = sum(shares.values(), Share())
    return frozenset(node for node, share in shares.items() if _contradicted(share, total, options))


def bad_everywhere(bad: Mapping[Circuit, Collection[str]], options: Options) -> frozenset[str]:
    """Nodes that are bad at so many institutions that it must be them."""
    met: dict[str, set[str]] = {}
    for circuit, nodes in bad.items():
        for node in nodes:
            met.setdefault(node, set()).add(circuit.org_code)
    return frozenset(node for node, org_codes in met.items() if len(org_codes) >= options.bad_at)


def _contradicted(share: Share, total: Share, options: Options) -> bool:
    calls, failures = total.calls - share.calls, total.failures - share.failures
    if min(share.calls, calls) < options.node_calls:
        return False  # too few to compare
    return 2 * share.failures > share.calls and 100 * failures <= options.others_failing * calls
