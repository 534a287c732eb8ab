"""The floor: the least that a service in Python can do for the same registration, in one process that forgets everything.

The same provider clients and parsing as ours, all providers in parallel, each answer pushed at once. Not here, and so not paid for: jobs,
leases, stored tokens and assets, a log of facts, a second process. What it takes is the machine's and the clients' own; what we take beyond
it is the price of losing nothing. It serves in the process of the old way, from a client pool of its own.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from backend.clock import SystemClock
from backend.events import AssetsCollected, Fact, RegistrationCompleted, RegistrationStatus
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.contract import ApiType, Person, SignedConsent
from backend.registration.asset_ids import asset_of
from backend.registration.endpoints import NewRegistration
from backend.registration.model import Registration
from backend.web import json_answer, read_json
from benchmarks.old_way import OldWay

SUBSCRIBED = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{}}'
PUSH = '{"push":{"channel":"feed","pub":{"data":%s}}}'


class BareWay:
    """Serves `POST /v1/registrations` and the socket `/v1/events`, as far as the benchmark's client needs them."""

    def __init__(self, way: OldWay, verifier: TokenVerifier, largest_body: int) -> None:
        """`way`: with clients that nobody guards."""
        self._way, self._verifier, self._largest_body = way, verifier, largest_body
        self._clock = SystemClock()
        self._sockets: dict[str, WebSocket] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[BaseRoute]:
        return [Route("/v1/registrations", self.begin, methods=["POST"]), WebSocketRoute("/v1/events", self.events)]

    async def begin(self, request: Request) -> Response:
        """One statement, then the answer; everything else behind it."""
        identity = await identify(request, self._verifier, scope="user")
        body = await read_json(request, NewRegistration, limit=self._largest_body)
        registration = self._way.begun(identity, body.providers)
        await self._way.database.single(lambda connection: self._way.enter(connection, registration, identity))
        task = asyncio.create_task(self._collect(registration, identity))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return json_answer(b'{"id":"%s"}' % registration.id.encode(), status=202)

    async def events(self, websocket: WebSocket) -> None:
        """Whatever the client asks first is a subscription."""
        identity = await identify(websocket, self._verifier, scope="user")
        await websocket.accept()
        self._sockets[identity.user_id] = websocket
        try:
            await websocket.receive_text()
            await websocket.send_text(SUBSCRIBED)
            await websocket.receive_text()
        except WebSocketDisconnect:
            del self._sockets[identity.user_id]

    async def _collect(self, registration: Registration, identity: Identity) -> None:
        person = self._way.person(identity)
        signed = await self._way.signed(registration, person)
        async with asyncio.TaskGroup() as group:
            for item in registration.items:
                group.create_task(self._provider(registration, person, signed[item.org_code]))
        ended = RegistrationCompleted(registration_id=registration.id, at=self._clock.now(), status=RegistrationStatus.COMPLETED)
        await self._push(registration.user_id, ended)

    async def _provider(self, registration: Registration, person: Person, signed: SignedConsent) -> None:
        client, provider = self._way.client(signed.org_code), self._way.entry(signed.org_code)
        now = self._clock.now()
        tokens = await client.request_token(person, signed, now)
        async for answer in client.collect(tokens.access_token, ApiType.USER_CONSENT, now):
            assets = tuple(asset_of(self._way.secret, registration.user_id, provider, asset, now) for asset in answer)
            told = AssetsCollected(registration_id=registration.id, at=now, org_code=signed.org_code, assets=assets)
            await self._push(registration.user_id, told)

    async def _push(self, user_id: str, fact: Fact) -> None:
        await self._sockets[user_id].send_text(PUSH % fact.event().encode().decode())
