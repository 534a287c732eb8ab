"""Who signs: the personal claims of a token become a `Person`, which lies sealed in the user's row.

In: an `Identity`. Out: a `Person`, or `identity_required`. Nothing here is logged or shown.
"""

from __future__ import annotations

import msgspec

from backend.errors import Problem, Refused
from backend.identity import Identity
from backend.providers.contract import Person
from backend.providers.user_ci import development_user_ci
from backend.storage import users
from backend.storage.sealed import PERSON
from backend.storage.statements import Connection
from backend.storage.vault import Vault

_MAX_CI = 100  # B64(100), standard section 2


class People:
    """Seals and opens persons. `derive`: invent a user_ci for tokens that carry none (development)."""

    def __init__(self, *, vault: Vault, derive: bool) -> None:
        self._vault = vault
        self._derive = derive

    def sealed(self, identity: Identity) -> bytes:
        """The caller as the user's row keeps them. Raises `Refused` with `identity_required`."""
        person = self._person(identity)
        return self._vault.seal(msgspec.json.encode(person), *PERSON.row(identity.user_id))

    async def person(self, connection: Connection, user_id: str) -> Person:
        """Who signs for this user. Raises KeyError for a user who never registered anything."""
        sealed = await users.person_sealed(connection, user_id)
        if sealed is None:
            raise KeyError("this user has no person")
        return self.opened(user_id, sealed)

    def opened(self, user_id: str, sealed: bytes) -> Person:
        """Who the user's row tells of."""
        return msgspec.json.decode(self._vault.open(sealed, *PERSON.row(user_id)), type=Person)

    def _person(self, identity: Identity) -> Person:
        user_ci = identity.user_ci or (development_user_ci(identity.user_id) if self._derive else None)
        if user_ci is None or len(user_ci) > _MAX_CI:
            raise Refused(Problem.IDENTITY_REQUIRED)
        return Person(user_ci=user_ci, real_name=identity.name or "모아", phone_num=identity.phone_number or "+821000000000")
