"""All apps of one person: each official client and each transport, side by side on one feed.

In: a person, a proxy, Node. Out: five `App`s. The sixth way, reading the log straight from the API, is what they are held against.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.clients import plain, python
from tests.clients.apps import App
from tests.clients.cutting import CuttingProxy
from tests.clients.node import Node
from tests.clients.people import Person


@asynccontextmanager
async def five_apps(person: Person, proxy: CuttingProxy, node: Node) -> AsyncIterator[list[App]]:
    """Two tabs in JavaScript, one of each start; the Python client; SSE; poll."""
    begin = await person.place()
    tab, other_tab, python_app, sse, poll = (
        App(f"{person.sub}-{name}", person.give_token) for name in ("since", "state", "python", "sse", "poll")
    )
    node.open(tab, url=proxy.websocket_url, http=proxy.url, how="since", since=begin)
    node.open(other_tab, url=proxy.websocket_url, http=proxy.url, how="state")
    async with (
        python.following(python_app, url=proxy.websocket_url, read_state=lambda: person.snapshot(proxy.url)),
        plain.following(sse, plain.stream, url=proxy.url, since=begin),
        plain.following(poll, plain.poll, url=proxy.url, since=begin),
    ):
        yield [tab, other_tab, python_app, sse, poll]
    node.close(tab)
    node.close(other_tab)
