"""The lowest peak of a week, found another way: by flows. RULE: exact, slow, and knows nothing of `backend.batch.filling`.

In: users' calls and room by day, and groups of links, each with the first and the last day on which they may go. Out: the lowest height
for which all links can flow from their groups into days below it (Edmonds, Karp 1972), found by bisection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

Capacities = list[dict[int, int]]


class Group(Struct, frozen=True):
    """So many calls of links that may go from one day to another, both included."""

    first: int
    last: int
    calls: int


def lowest_peak(base: Sequence[int], caps: Sequence[int], groups: Sequence[Group]) -> int | None:
    """None: not everything can be done."""
    wanted = sum(group.calls for group in groups)
    low, high = max(base), max(base) + wanted
    if _flow(_network(base, caps, groups, high)) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        if _flow(_network(base, caps, groups, middle)) == wanted:
            high = middle
        else:
            low = middle + 1
    return low


def _network(base: Sequence[int], caps: Sequence[int], groups: Sequence[Group], height: int) -> Capacities:
    """Node 0 is the source, then groups, then days, and last the sink."""
    days = 1 + len(groups)
    nodes: Capacities = [{} for _ in range(days + len(base) + 1)]
    for number, group in enumerate(groups, 1):
        nodes[0][number] = group.calls
        nodes[number] = {days + day: group.calls for day in range(group.first, group.last + 1)}
    for day, (lies, cap) in enumerate(zip(base, caps, strict=True)):
        nodes[days + day][len(nodes) - 1] = min(cap, max(height - lies, 0))
    return nodes


def _flow(left: Capacities) -> int:
    found = 0
    while (path := _shortest(left)) is not None:
        amount = min(left[one][other] for one, other in path)
        for one, other in path:
            left[one][other] -= amount
            left[other][one] = left[other].get(one, 0) + amount
        found += amount
    return found


def _shortest(left: Capacities) -> list[tuple[int, int]] | None:
    """A way from source to sink that still takes something; None: there is none."""
    came_from, waiting, sink = {0: 0}, deque([0]), len(left) - 1
    while waiting and sink not in came_from:
        here = waiting.popleft()
        for there, room in left[here].items():
            if room and there not in came_from:
                came_from[there] = here
                waiting.append(there)
    if sink not in came_from:
        return None
    path = [(came_from[sink], sink)]
    while path[-1][0]:
        path.append((came_from[path[-1][0]], path[-1][0]))
    return path
