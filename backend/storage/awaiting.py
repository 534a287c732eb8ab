"""Whether anybody waits for an institution: what was begun there by a person's wish and has not ended.

In: an institution. Out: yes or no, over all users; nobody's name leaves this file.
"""

from __future__ import annotations

from backend.storage.statements import Connection, statement

_AWAITED = statement(
    """
    SELECT EXISTS (SELECT FROM registration_items WHERE org_code = :org_code AND status = 'deferred')
      OR EXISTS (SELECT FROM refresh_items WHERE org_code = :org_code AND status = 'refreshing')
      OR EXISTS (SELECT FROM revocations WHERE org_code = :org_code)
    """
)
_SIGNATURE_AWAITED = statement("SELECT EXISTS (SELECT FROM registrations WHERE status = 'signing')")


async def awaited(connection: Connection, org_code: str) -> bool:
    """Whether a provider has somebody's deferred registration, refresh, or revocation before it."""
    return bool(await _AWAITED.value(connection, {"org_code": org_code}))


async def signature_awaited(connection: Connection) -> bool:
    """Whether somebody's signature is under way at the CA."""
    return bool(await _SIGNATURE_AWAITED.value(connection, {}))
