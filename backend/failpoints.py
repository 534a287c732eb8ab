"""Named places where a rehearsal may kill or freeze this very process: what happens between two steps is tried, not hoped for.

In: `MOA_FAILPOINTS`, such as `collect.answered=kill:1,commit.before=pause:3`: at the first passage of the one SIGKILL, at the third of
the other SIGSTOP, until somebody sends SIGCONT. Out: `reached`, bound once by `arm` when the process is built; unset, it is a function that
does nothing. `Settings` refuses the setting in production. Nothing reads the environment at a passage, and no failpoint raises.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Failpoint(StrEnum):
    """The places, in the order in which one registration comes by. A process counts its own passages of each."""

    ACCEPT_COMMITTED = "accept.committed"  # API: the registration is written, its 202 has not left
    SIGN_BEFORE_CALL = "sign.before_call"  # the CA was not asked for this signature yet
    SIGN_ANSWERED = "sign.answered"  # the CA has opened a signature that nobody has written down
    SIGN_COMMITTED = "sign.committed"  # signed and written; the jobs that collect are not in the queue
    COLLECT_BEFORE_CALL = "collect.before_call"  # the job was admitted, the provider was not called
    TOKEN_ANSWERED = "token.answered"  # the provider has given a token that nobody has written down
    COLLECT_ANSWERED = "collect.answered"  # the provider has sent assets, none of them is written
    COMMIT_BEFORE = (
        "commit.before"  # everything is said to PostgreSQL but the COMMIT, or the one statement that is its own; any room's count
    )
    HANDLE_COMMITTED = "handle.committed"  # facts are committed, the feed has not been told
    JOB_BEFORE_ACK = "job.before_ack"  # the job has run, its queue does not know


class Deed(StrEnum):
    """What is done there."""

    KILL = "kill"
    PAUSE = "pause"


SIGNALS: Mapping[Deed, signal.Signals] = {Deed.KILL: signal.SIGKILL, Deed.PAUSE: signal.SIGSTOP}


@dataclass(frozen=True)
class Charge:
    """What waits at one place."""

    deed: Deed
    passage: int  # the one at which it happens, from 1


def parse(text: str) -> dict[Failpoint, Charge]:
    """Reads `place=deed:passage,…`; the passage may be left out and is the first then. Raises `ValueError`, counting to the wrong part."""
    charges: dict[Failpoint, Charge] = {}
    for number, part in enumerate(text.split(",") if text.strip() else (), 1):
        place, _, what = part.strip().partition("=")
        deed, _, passage = what.partition(":")
        if place not in set(Failpoint) or deed not in set(Deed) or not (passage or "1").isdecimal() or int(passage or "1") < 1:
            raise ValueError(f"part {number} is not <place>=kill|pause[:<passage>] with a place among {', '.join(Failpoint)}")
        charges[Failpoint(place)] = Charge(Deed(deed), int(passage or "1"))
    return charges


def _nothing(_place: Failpoint) -> None:
    pass


reached: Callable[[Failpoint], None] = _nothing  # call it as `failpoints.reached(...)`: a name that was imported is not bound anew


def arm(text: str, strike: Callable[[signal.Signals], None] = lambda number: os.kill(os.getpid(), number)) -> None:
    """Binds `reached` for this process. Raises `ValueError` like `parse`."""
    global reached  # noqa: PLW0603  # bound once, when the process is built
    charges = parse(text)
    reached = _armed(charges, strike) if charges else _nothing


def _armed(charges: Mapping[Failpoint, Charge], strike: Callable[[signal.Signals], None]) -> Callable[[Failpoint], None]:
    passages = dict.fromkeys(charges, 0)

    def strike_when_due(place: Failpoint) -> None:
        charge = charges.get(place)
        if charge is None:
            return
        passages[place] += 1
        if passages[place] == charge.passage:
            strike(SIGNALS[charge.deed])

    return strike_when_due
