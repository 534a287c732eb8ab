"""Names become addresses in threads of their own: a dead name server holds up those who wait for its names, and nobody else.

In: a host. Out: its addresses, as the system's resolver tells them. The loop's own threads are few, and everybody's: six institutions whose
name server is silent would keep a seventh from being called.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """The system's resolver. `threads`: lookups at once; a thread begins with the first one that needs it."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, "names")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises `OSError`."""

        def find() -> list[ResolveResult]:
            found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            return [
                ResolveResult(hostname=host, host=str(to[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST)
                for kind, _, protocol, _, to in found
            ]

        return await asyncio.get_running_loop().run_in_executor(self._threads, find)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
