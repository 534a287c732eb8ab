"""What operators said: the modes of circuits, which stand until they say otherwise, and every action, of which none is ever changed.

In: an action. Out: rows. The mode and the note of who set it are one statement, so that neither is there without the other. PostgreSQL
itself refuses to change or delete a noted action (migration 0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from backend.storage.statements import Connection, Row, statement

_SET_MODE = statement(
    """
    WITH noted AS (
      INSERT INTO operator_actions (at, who, action, org_code, reason, request_id)
      VALUES (:now, :who, :action, :org_code, :reason, :request_id))
    INSERT INTO circuit_modes (org_code, mode, reason, set_by, set_at)
    VALUES (:org_code, :mode, :reason, :who, :now)
    ON CONFLICT (org_code) DO UPDATE
    SET mode = excluded.mode, reason = excluded.reason, set_by = excluded.set_by, set_at = excluded.set_at
    """
)
_NOTE = statement(
    """
    INSERT INTO operator_actions (at, who, action, org_code, reason, request_id)
    VALUES (:at, :who, :action, :org_code, :reason, :request_id)
    """
)
_MODES = statement("SELECT * FROM circuit_modes ORDER BY org_code")
_ACTIONS = statement(
    """
    SELECT at, who, action, org_code, reason, request_id FROM operator_actions
    WHERE CAST(:org_code AS text) IS NULL OR org_code = :org_code
    ORDER BY id DESC LIMIT :limit
    """
)


class Operator(Struct, frozen=True):
    """Who acts, and by which request."""

    who: str  # the `sub` of their token
    request_id: str


class Action(Struct, frozen=True, kw_only=True):
    """What an operator did: `who` is the `sub` of their token."""

    at: datetime
    who: str
    action: str
    org_code: str  # "": it was about no institution
    reason: str  # in their words; of an action that asks for none, what it was done to
    request_id: str


async def note(connection: Connection, by: Operator, action: str, *, at: datetime, about: str = "", org_code: str = "") -> None:
    """Notes an action in the caller's transaction; `about`: a reason, or what it was done to."""
    values = {"at": at, "who": by.who, "action": action, "org_code": org_code, "reason": about, "request_id": by.request_id}
    await _NOTE.run(connection, values)


async def set_mode(connection: Connection, done: Action, mode: str) -> None:
    """From now on this mode stands for every circuit of the institution, and who said so is noted."""
    values = {
        "now": done.at,
        "who": done.who,
        "action": done.action,
        "org_code": done.org_code,
        "reason": done.reason,
        "request_id": done.request_id,
        "mode": mode,
    }
    await _SET_MODE.run(connection, values)


async def modes(connection: Connection) -> list[Row]:
    """The mode of each institution of which an operator ever spoke; `auto` among them."""
    return await _MODES.rows(connection)


async def actions(connection: Connection, *, org_code: str | None, limit: int) -> Sequence[Action]:
    """The newest first; `org_code` None: about whatever institution."""
    rows = await _ACTIONS.rows(connection, {"org_code": org_code, "limit": limit})
    return [Action(**row) for row in rows]
