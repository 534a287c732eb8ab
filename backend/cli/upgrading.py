"""uvicorn's WebSocket protocol, which after all believes that a refusal with a document is an answer, and leaves who does not read.

In: what `websockets-sansio` gets. Out: the same. uvicorn forgets that a handshake is over when the application has answered it with a
response of its own, and logs an error for each client that was rightly turned away; the application says a quiet word about those itself.
"""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backend.connections import Impatient


class Upgrading(Impatient, WebSocketsSansIOProtocol):
    """Named in `serving.py`."""

    async def send(self, message: ASGISendEvent) -> None:
        """See `WebSocketsSansIOProtocol.send`."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True
