"""What a probe calls: the institution's own answer that it is there, then one waiting person's real call (`coordinator/probing.py`).

In: a circuit and the probe's guard. Out: nothing, or the `ProviderError` of a call; the guard has noted by then how each call ended.
The job whose call it was may run on another worker at the same time: both take their turns at the link, and the later finds nothing to do.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from backend.jobs.queue import Postponed
from backend.providers.calling.transport import Guard
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit
from backend.registration.collecting import Collecting
from backend.storage import awaiting, registrations
from backend.storage.database import Database


class Institution(Protocol):
    """One that can be asked whether it answers. Raises `ProviderError`."""

    async def ask_apis(self, scope: Scope) -> None: ...


class Authority(Protocol):
    """The CA, whose probe is a token of our own."""

    async def ask_token(self, guard: Guard) -> None: ...


class Institutions(Protocol):
    """Where both are found (`ProviderClients`)."""

    @property
    def ca(self) -> Authority: ...

    def provider(self, org_code: str, *, guard: Guard) -> Institution: ...


class Probes:
    """`coordinator.probing.Probed`. One per worker, made in `workers.py`."""

    def __init__(self, *, institutions: Institutions, database: Database, collecting: Collecting) -> None:
        self._institutions = institutions
        self._database = database
        self._collecting = collecting

    async def ask_apis(self, circuit: Circuit, guard: Guard) -> None:
        """One call of that circuit, at which no person's data are at stake."""
        if circuit.scope is Scope.CA:
            await self._institutions.ca.ask_token(guard)
        else:
            await self._institutions.provider(circuit.org_code, guard=guard).ask_apis(circuit.scope)

    async def is_awaited(self, circuit: Circuit) -> bool:
        """Whether anybody waits for this institution. Raises `EngineUnavailable`."""
        async with self._database.reading() as connection:
            if circuit.scope is Scope.CA:
                return await awaiting.signature_awaited(connection)
            return await awaiting.awaited(connection, circuit.org_code)

    async def make_waiting_call(self, circuit: Circuit, guard: Guard) -> bool:
        """Collects for whoever has waited longest for this provider. False: nobody does; for the CA the `sign` jobs wait by themselves."""
        if circuit.scope is Scope.CA:
            return False
        async with self._database.reading() as connection:
            waiting = await registrations.longest_deferred(connection, circuit.org_code)
        if waiting is None:
            return False
        with suppress(Postponed):  # its own job comes back
            await self._collecting.collect(waiting.user_id, waiting.registration_id, circuit.org_code, waiting.run, probe=guard)
        return True
