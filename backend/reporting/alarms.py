"""Alerts: whoever finds that something is wrong says so, as often as they like, and says when it is over.

In: a key, what kind of trouble it is, and facts for its words. Out: one row for as long as it lasts, and a line in the log when it begins
and when it ends. Who tells operators of it, when, and in which words is `telling.py`'s and `wording.py`'s matter. No person's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import structlog

from backend.clock import Clock
from backend.storage import alerts
from backend.storage.database import Database

log = structlog.get_logger()

Facts = Mapping[str, Any]  # JSON values; what each kind wants is said beside it


class AlertKind(StrEnum):
    """What can be wrong. Alerts of one kind are one group: they share messages."""

    CIRCUIT = "circuit"  # key circuit:<org_code>:<scope>; facts: org_code, scope, reason, mode
    BATCH_LATE = "batch_late"  # key batch:<org_code>; facts: org_code, left (links), by (RFC 3339: the end of the last window)
    OUT_OF_WINDOW = "out_of_window"  # key window:<org_code>; facts: org_code, calls (scheduled ones that were answered 50009)
    QUOTA = "quota"  # key quota:<org_code>; facts: org_code, calls (scheduled ones that were answered 42901)
    BAD_NODE = "bad_node"  # key node:<node>; facts: node, org_codes (where its calls fail and the others' do not)
    LOST_WORK = "lost_work"  # key lost:<sweep>; facts: sweep, found (jobs that were missing and were asked for again)
    QUEUE_OLD = "queue_old"  # key queue:<queue>; facts: queue, seconds (that its oldest job is late), limit
    CERTIFICATE = "certificate"  # key certificate:<org_code>, to which we show it; facts: org_code, ends_at (RFC 3339), days


class Alerts:
    """Says what is wrong. Every method raises `EngineUnavailable`; saying it again is right."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def raise_alert(self, key: str, kind: AlertKind, facts: Facts) -> bool:
        """It is so. True: it was not before. Said again, its facts go over those that are known, and nobody is told anew."""
        now = self._clock.now()
        new = await self._database.single(lambda connection: alerts.raise_alert(connection, key, kind.value, facts, now))
        if new:
            log.warning("alert.raised", key=key, kind=kind.value, facts=dict(facts))
        return new

    async def end_alert(self, key: str) -> bool:
        """It is so no more. False: it was not so."""
        now = self._clock.now()
        ended = await self._database.single(lambda connection: alerts.end_alert(connection, key, now))
        if ended:
            log.info("alert.ended", key=key)
        return ended

    async def align(self, kind: AlertKind, found: Mapping[str, Facts]) -> int:
        """Exactly these are so, of this kind. How many changed."""
        async with self._database.reading() as connection:
            known = await alerts.open_facts(connection, kind.value)
        changed = [key for key, facts in found.items() if key not in known or known[key] | dict(facts) != known[key]]
        over = [key for key in known if key not in found]
        for key in changed:
            await self.raise_alert(key, kind, found[key])
        for key in over:
            await self.end_alert(key)
        return len(changed) + len(over)

    async def lately(self, kind: AlertKind, *, since: datetime) -> list[alerts.Alert]:
        """What is so of this kind, or was so after `since`: the last of each key."""
        async with self._database.reading() as connection:
            return list(await alerts.lately(connection, kind.value, since=since))

    async def listed(self, *, only_open: bool, limit: int) -> list[alerts.Alert]:
        """Those that are open first, the newest first."""
        async with self._database.reading() as connection:
            return list(await alerts.listed(connection, only_open=only_open, limit=limit))
