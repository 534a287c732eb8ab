"""Whose events they are: a user's own, or the operators'.

In: an identity. Out: the one feed that it may hear. There is no way to name another user's feed.
"""

from __future__ import annotations

from msgspec import Struct

from backend.identity import Identity
from backend.realtime.feed import OPERATORS


class Audience(Struct, frozen=True):
    """A path's channel name, and the scope that it takes to listen."""

    path: str
    channel: str
    scope: str
    shared: bool  # one feed for everybody with the scope

    def feed(self, identity: Identity) -> str:
        """The feed that `identity` hears here."""
        return OPERATORS if self.shared else identity.user_id

    def owner(self, identity: Identity) -> tuple[str, str]:
        """Under which name this identity's sockets are counted."""
        return self.channel, identity.user_id


USERS = Audience(path="/v1/events", channel="feed", scope="user", shared=False)
OPS = Audience(path="/ops/events", channel="ops", scope="ops", shared=True)
