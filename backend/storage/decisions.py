"""What was decided about circuits, kept for a while, each change once; and the operators' feed, which is told of it.

In: changes, as often as they come. Out: rows and events of those that are new, in one transaction. Nothing decides by these rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backend.storage.statements import Connection, statement

_RECORD = statement(
    """
    INSERT INTO circuit_decisions (at, org_code, scope, state, mode, reason, epoch)
    SELECT change.at, change.org_code, change.scope, change.state, change.mode, change.reason, change.epoch
    FROM unnest(CAST(:ats AS timestamptz[]), CAST(:org_codes AS text[]), CAST(:scopes AS text[]), CAST(:states AS text[]),
      CAST(:modes AS text[]), CAST(:reasons AS text[]), CAST(:epochs AS bigint[]))
      WITH ORDINALITY AS change(at, org_code, scope, state, mode, reason, epoch, place)
    ORDER BY change.place
    ON CONFLICT (org_code, scope, at) DO NOTHING
    RETURNING at, org_code, scope, state, mode, reason, epoch
    """
)
_CHANGES = statement(
    """
    SELECT at, org_code, scope, state, mode, reason, epoch FROM circuit_decisions
    WHERE CAST(:org_code AS text) IS NULL OR org_code = :org_code
    ORDER BY at DESC, id DESC LIMIT :limit
    """
)
_FORGET = statement(
    "DELETE FROM circuit_decisions WHERE id IN (SELECT id FROM circuit_decisions WHERE at < :before ORDER BY at LIMIT 1000)"
)


class Change(Struct, frozen=True, kw_only=True):
    """A circuit that stands otherwise than before."""

    at: datetime
    org_code: str
    scope: str
    state: str
    mode: str
    reason: str
    epoch: int


async def record(connection: Connection, changes: Sequence[Change]) -> list[Change]:
    """Writes those that are new, and returns them in their order."""
    values = {f"{name}s": [getattr(change, name) for change in changes] for name in Change.__struct_fields__}
    return [Change(**row) for row in await _RECORD.rows(connection, values)]


async def changes(connection: Connection, *, org_code: str | None, limit: int) -> list[Change]:
    """The newest first; `org_code` None: of whatever institution."""
    return [Change(**row) for row in await _CHANGES.rows(connection, {"org_code": org_code, "limit": limit})]


async def forget(connection: Connection, *, before: datetime) -> int:
    """Deletes some of what is older."""
    return await _FORGET.run(connection, {"before": before})
