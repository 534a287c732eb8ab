"""What a client asks of refreshes: begin one, look at one. Reading is left to jobs (`refreshing.py`).

In: a checked request. Out: a `RefreshView`, after the commit; or `Refused`. Whoever asks again while the same providers are being read is
given the refresh that is under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from msgspec import Struct
from ulid import ULID

from backend.clock import Clock, iso
from backend.errors import ITEM_ERRORS, Problem, Refused, Trouble
from backend.events import Position, RefreshItem, RefreshStatus
from backend.jobs.queue import Job
from backend.providers.directory import Directory
from backend.registration.accepting import After, check_providers
from backend.registration.jobs import refresh_job
from backend.storage import links, refreshes, users
from backend.storage.database import Database
from backend.storage.statements import Connection, Row


class RefreshView(Struct, frozen=True):
    """A refresh as clients see it. `position` was read before the rest."""

    refresh_id: str
    status: RefreshStatus
    created_at: str
    providers: tuple[RefreshItem, ...]
    position: Position


class Refreshes:
    """Begins refreshes and shows them. `afterwards` takes what may happen after the answer; it must not raise or block."""

    def __init__(
        self,
        *,
        database: Database,
        directory: Callable[[], Directory],
        position: Callable[[str], Awaitable[Position]],
        afterwards: Callable[[After], None],
        clock: Clock,
    ) -> None:
        self._database = database
        self._directory = directory
        self._position = position
        self._afterwards = afterwards
        self._clock = clock

    async def begin(self, user_id: str, chosen: tuple[str, ...] | None, *, request_id: str) -> RefreshView:
        """Refreshes the chosen providers; None: everything that is linked. Raises `Refused`, with every fault at once."""
        if chosen is not None:
            check_providers(chosen, self._directory())
        position = await self._position(user_id)
        now = self._clock.now()

        async def deed(connection: Connection) -> tuple[RefreshView, list[Job]]:
            known = await users.lock(connection, user_id) is not None
            asked = list(chosen) if chosen is not None else await links.active(connection, user_id)
            if not known or not asked:
                raise Refused(Problem.NOTHING_TO_REFRESH)
            for row in await refreshes.under_way(connection, user_id):
                if {item.org_code for item in items_of(row)} == set(asked):
                    return refresh_view(row, position), []
            name = f"ref_{ULID.from_datetime(now)}"
            await refreshes.add(connection, user_id, name, asked, request_id=request_id, now=now)
            return _new(name, asked, now, position), [refresh_job(user_id, name, code, request_id=request_id) for code in asked]

        view, jobs = await self._database.transaction(deed)
        self._afterwards(After(user_id, (), jobs))
        return view

    async def find(self, user_id: str, refresh_id: str) -> RefreshView:
        """Raises `Refused` when this user has no such refresh (any more: they are kept for a week)."""
        position = await self._position(user_id)
        async with self._database.reading() as connection:
            row = await refreshes.load(connection, user_id, refresh_id)
        if row is None:
            raise Refused(Problem.NOT_FOUND)
        return refresh_view(row, position)


def refresh_view(row: Row, position: Position) -> RefreshView:
    """The refresh that its row holds."""
    status = RefreshStatus.REFRESHING if row["completed_at"] is None else RefreshStatus.COMPLETED
    return RefreshView(row["id"], status, iso(row["created_at"]), items_of(row), position)


def items_of(row: Row) -> tuple[RefreshItem, ...]:
    """The providers of a refresh, in the order of asking."""
    return tuple(refresh_item(org_code, status, error_code) for org_code, status, error_code in row["items"])


def refresh_item(org_code: str, status: str, error_code: str | None) -> RefreshItem:
    """One provider with the words for what went wrong."""
    return RefreshItem(org_code, RefreshStatus(status), ITEM_ERRORS[Trouble(error_code)] if error_code else None)


def _new(name: str, org_codes: Sequence[str], now: datetime, position: Position) -> RefreshView:
    items = tuple(RefreshItem(org_code, RefreshStatus.REFRESHING) for org_code in org_codes)
    return RefreshView(name, RefreshStatus.REFRESHING, iso(now), items, position)
