"""Jobs that our own fault breaks again and again: three tries, then an honest end, and the person may try again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.jobs.queue import MemoryQueue
from backend.links.rereading import Rereading
from backend.registration.signing import Signing
from backend.registration.sweeping import OpenWorkSweep
from backend.storage.database import Database
from tests.links.test_refreshing import linked, refreshed
from tests.registration.house import BANK, CARD, Client, House


class Broken:
    """A `sign` job with a fault in it."""

    def __init__(self, *, after: int = 0) -> None:
        self.tried, self._after, self._sign = 0, after, Signing.sign

    def into(self, patch: pytest.MonkeyPatch) -> Broken:
        broken = self

        async def sign(signing: Signing, *args: Any, **kwargs: Any) -> None:
            broken._after -= 1
            if broken._after >= 0:
                await broken._sign(signing, *args, **kwargs)
                return
            broken.tried += 1
            raise LookupError("our own fault")

        patch.setattr(Signing, "sign", sign)
        return broken


async def test_a_sign_job_that_fails_three_times_fails_the_registration(
    house: House, anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken = Broken().into(patch)
        following = await anna.register(BANK, CARD)
        failed = await following.ended("failed")
        assert broken.tried == 3
    assert following.said == ["registration.accepted", "registration.completed failed"]
    error = following.events[-1]["data"]["error"]
    assert (error["code"], error["retryable"], error["user_action"]) == ("internal_error", True, "retry")
    assert [provider["status"] for provider in failed["providers"]] == ["waiting", "waiting"], "nobody was asked, nobody failed"
    assert (await anna.http.delete(following.path)).json()["code"] == "nothing_to_cancel"
    assert await left_to_do(house, following.id) == []

    again = await anna.http.post(f"{following.path}/retry")
    assert (again.status_code, again.json()["status"]) == (202, "signing")
    await following.ended("completed", times=2)


async def test_a_signature_that_was_asked_for_fails_too(house: House, anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.ca(approve_after_ms=None)
    with monkeypatch.context() as patch:
        Broken(after=1).into(patch)
        following = await anna.register(BANK)
        failed = await following.ended("failed")
    assert following.said[1:] == ["signature.requested requested", "registration.completed failed"]
    assert failed["signature"]["status"] == "requested"
    assert await left_to_do(house, following.id) == []


async def test_a_refresh_that_our_own_fault_breaks_ends_and_leaves_the_link(anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    following = await linked(anna, BANK)

    async def read(*_: object) -> None:
        raise LookupError("our own fault")

    with monkeypatch.context() as patch:
        patch.setattr(Rereading, "read", read)
        assert (await refreshed(following, BANK))[BANK]["error"]["code"] == "internal_error"
    assert (await refreshed(following, BANK))[BANK]["status"] == "completed"


async def left_to_do(house: House, registration_id: str) -> list[str]:
    """The jobs that the sweeper would ask for, much later."""
    assert house.settings.database_url is not None
    database, queue = Database(house.settings.database_url.get_secret_value(), pool=1), MemoryQueue(clock=SystemClock())
    try:
        await OpenWorkSweep(database=database, queue=queue).sweep(SystemClock().now() + timedelta(hours=1))
    finally:
        await database.close()
    return [job.job_id for job in queue.waiting() if registration_id in job.job_id]
