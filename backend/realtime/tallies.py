"""What became of the clients of one process: how many came, why they left, whether those who came back were told all. Figures only."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from backend.metrics import Metric, Sample, Samples, counted
from backend.realtime.protocol import CloseCode


class Transport(StrEnum):
    """How a client listens."""

    WEBSOCKET = "websocket"
    SSE = "sse"
    POLL = "poll"


class Tallies:
    """One per hub."""

    def __init__(self) -> None:
        self._opened: Counter[str] = Counter()  # by transport
        self._closed: Counter[tuple[str, ...]] = Counter()  # by transport and reason
        self._resumed: Counter[tuple[str, ...]] = Counter()  # by transport and whether nothing was missing
        self._repairs = 0

    def came(self, transport: Transport) -> None:
        """A client."""
        self._opened[transport] += 1

    def left(self, transport: Transport, code: CloseCode | None) -> None:
        """A client; `code` None: by itself."""
        self._closed[transport, "client" if code is None else code.name.lower()] += 1

    def resumed(self, transport: Transport, *, recovered: bool) -> None:
        """A client named a position."""
        self._resumed[transport, "true" if recovered else "false"] += 1

    def repaired(self) -> None:
        """The live line had left something out."""
        self._repairs += 1

    def measured(self) -> Samples:
        """As they are now."""
        yield from counted(Metric.SOCKETS_OPENED, self._opened)
        yield from counted(Metric.SOCKETS_CLOSED, self._closed)
        yield from counted(Metric.RESUMES, self._resumed)
        yield Sample(Metric.FEED_REPAIRS, (), self._repairs)
        for transport in Transport:
            yield Sample(Metric.SLOW_CONSUMERS, (transport,), self._closed[transport, CloseCode.SLOW.name.lower()])
