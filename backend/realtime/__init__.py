"""What a user hears while it happens: one feed, three transports (WebSocket, SSE, poll) that differ only in delay."""
