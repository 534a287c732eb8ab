"""The modes that operators set: kept in PostgreSQL over every outage, read by the leading coordinator, which brings circuits in line.

In: an operator's word with its reason. Out: it is committed, with who said it, before the answer; nothing here waits for Valkey or for a
coordinator. `modes` is what a coordinator looks at again and again, so no word is lost that it could not be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backend.clock import Clock
from backend.providers.circuits import Mode
from backend.storage import decisions, operators
from backend.storage.database import Database
from backend.storage.decisions import Change
from backend.storage.operators import Action
from backend.storage.statements import Connection


class Modes:
    """One per process. Every method raises `EngineUnavailable` while PostgreSQL is away."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def modes(self) -> Mapping[str, tuple[Mode, str]]:
        """Mode and reason by org_code, for every scope of that institution; one that is not in it is `auto`."""
        async with self._database.reading() as connection:
            rows = await operators.modes(connection)
        return {row["org_code"]: (Mode(row["mode"]), row["reason"]) for row in rows}

    async def set(self, org_code: str, mode: Mode, reason: str, *, who: str, request_id: str) -> Action:
        """Commits the mode and who set it. Setting what is set already is an action, too: its reason may be another."""
        done = Action(
            at=self._clock.now(), who=who, action=f"breaker.{mode.value}", org_code=org_code, reason=reason, request_id=request_id
        )

        async def deed(connection: Connection) -> None:
            await operators.set_mode(connection, done, mode.value)

        await self._database.single(deed)
        return done

    async def history(self, *, org_code: str | None, limit: int) -> tuple[Sequence[Action], Sequence[Change]]:
        """What operators did, and what was decided, each the newest first; `org_code` None: of whatever institution."""
        async with self._database.reading() as connection:
            done = await operators.actions(connection, org_code=org_code, limit=limit)
            return done, await decisions.changes(connection, org_code=org_code, limit=limit)
