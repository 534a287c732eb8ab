"""The first answer of a poll, a stream and a socket: a frozen engine is admitted to before a client gives up, however many ask at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backend.edge import ANSWER_SECONDS
from tests.faults.asking import KINDS, ask
from tests.faults.stage import Stage
from tests.faults.supervisor import EngineMember

pytestmark = pytest.mark.system

MANY = 80  # more than an API reads feeds at once, so that some wait for others that wait for the engine
SPARE = 1.0  # seconds; all these clients and servers share a machine
SOCKET = next(kind for kind in KINDS if kind.websocket and not kind.ops)
ASKED = {"poll": {}, "long poll": {"since": "unknown:1", "wait": "30"}, "stream": {"since": "unknown:1"}}


@contextmanager
def frozen(stage: Stage, engine: EngineMember) -> Iterator[None]:
    engine.freeze()
    try:
        yield
    finally:
        engine.thaw()


async def first_answer(stage: Stage, user: str, kind: str) -> tuple[int, str, bool, float]:
    """Status, code, whether it says when to come back, and the seconds it took."""
    person, began = stage.person(user), time.monotonic()
    headers = {"Authorization": f"Bearer {person.token}", "Accept": "text/event-stream" if kind == "stream" else "*/*"}
    answer = await stage.http.get(f"{stage.fleet.api_urls[0]}/v1/events", headers=headers, params=ASKED[kind], timeout=20)
    code = answer.json().get("code", "") if answer.headers["content-type"].startswith("application/problem+json") else ""
    return answer.status_code, code, "retry-after" in answer.headers, time.monotonic() - began


@pytest.mark.parametrize("engine", ["valkey", pytest.param("postgres", marks=pytest.mark.long)])
async def test_a_frozen_engine_is_told_of_in_time(stage: Stage, engine: str) -> None:
    kinds = [kind for _, kind in zip(range(MANY), list(ASKED) * MANY, strict=False)]
    with frozen(stage, getattr(stage.fleet, engine)):
        # New users: Valkey does not know their feeds, and the API has to ask PostgreSQL where they begin.
        asking = asyncio.gather(*(first_answer(stage, "early", kind) for kind in kinds))
        sockets = await asyncio.gather(*(ask(stage.fleet.api_urls[0], SOCKET) for _ in range(MANY)))
        answers = await asking
    assert Counter((one.status, one.honest) for one in sockets) == {(503, True): MANY}
    assert max(one.seconds for one in sockets) < ANSWER_SECONDS + SPARE
    assert Counter(answer[:3] for answer in answers) == {(503, "engine_unavailable", True): MANY}
    assert max(seconds for *_, seconds in answers) < ANSWER_SECONDS + SPARE


@pytest.mark.long
async def test_what_a_long_poll_asked_for_is_no_delay(stage: Stage) -> None:
    person = stage.person("patient")
    newest = (await person.get("/v1/events")).json()
    since, wait = f"{newest['epoch']}:{newest['offset']}", ANSWER_SECONDS + 0.5
    answer = await person.ask("GET", "/v1/events", params={"since": since, "wait": str(wait)}, wait=wait)
    assert answer is not None
    assert (answer.status_code, answer.json()["events"]) == (200, [])
