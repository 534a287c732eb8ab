"""The directory changes while the process runs. Time is moved; files are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from backend.clock import ManualClock
from backend.errors import ProviderError
from backend.providers.clients import ProviderClients, http_clients
from backend.providers.contract import TokenPair
from backend.providers.directory import DirectoryFault
from backend.providers.reloading import LOOKED_AT_EVERY, CurrentDirectory
from backend.settings import Settings
from tests.providers.certificates import TestAuthority
from tests.providers.given import BANK, NOW
from tests.providers.rogue import Talk, rogue

CA = '[ca]\norg_code = "CAMOA00001"\nname = "모아인증"\nbase_url = "https://ca.example.com"\n'
TOKEN = TokenPair(access_token="a", access_expires_at=NOW, refresh_token="r", refresh_expires_at=NOW, scope="s")
OTHER = "A1MOABK002"


def entry(url: str = "https://bank.example.com", org_code: str = BANK, more: str = "") -> str:
    return (
        f'[[providers]]\norg_code = "{org_code}"\nname = "은행"\nindustry = "bank"\nbase_url = "{url}"\nallow_private = true\n'
        f"max_connections = 2\n{more}"
    )


@dataclass
class Office:
    """A directory file, its settings, and a clock."""

    file: Path
    clock: ManualClock

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=None, providers_file=self.file, provider_deadline=60.0)  # type: ignore[call-arg]

    def write(self, *entries: str) -> None:
        """As an operator should: the whole file at once."""
        new = self.file.with_suffix(".new")
        new.write_text(CA + "".join(entries), "utf-8")
        new.replace(self.file)

    def later(self, seconds: float = LOOKED_AT_EVERY) -> None:
        self.clock.move(timedelta(seconds=seconds))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path / "providers.toml", ManualClock(NOW))
    made.write(entry())
    return made


def test_a_changed_file_is_read_at_the_next_look_and_no_sooner(office: Office) -> None:
    current = CurrentDirectory(office.settings, office.clock)
    before = current()
    office.write(entry(), entry(org_code=OTHER))
    office.later(LOOKED_AT_EVERY - 0.1)
    assert current() is before
    office.later(0.1)
    assert [each.org_code for each in current().providers] == [BANK, OTHER]
    office.later()
    assert current() is current()


def test_a_broken_file_leaves_the_old_one_in_force_and_is_told_once(office: Office) -> None:
    current = CurrentDirectory(office.settings, office.clock)
    before = current()
    with structlog.testing.capture_logs() as lines:
        office.write(entry(more="colour = 1\n"))
        for _ in range(3):
            office.later()
            assert current() is before
        office.file.unlink()
        for _ in range(3):
            office.later()
            assert current() is before
    assert [line["event"] for line in lines] == ["directory.not_usable"] * 2
    assert "entry 1: colour: is not a known field" in lines[0]["fault"]
    assert "cannot be read" in lines[1]["fault"]
    office.write(entry(), entry(org_code=OTHER))
    office.later()
    assert len(current().providers) == 2


def test_what_is_broken_at_the_start_is_not_started_with(office: Office) -> None:
    office.write("colour = 1\n")
    with pytest.raises(DirectoryFault):
        CurrentDirectory(office.settings, office.clock)


def test_a_certificate_that_is_renewed_in_place_is_a_change_too(office: Office, tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    authority.issued("us", "1")
    office.write(entry(more='[providers.tls]\nclient_certificate = "us.pem"\nclient_key = "us.key"\n'))
    current = CurrentDirectory(office.settings, office.clock)
    before = current()
    authority.issued("us", "1")
    office.later()
    assert current().provider(BANK) != before.provider(BANK)
    (tmp_path / "us.key").write_bytes(b"half a k")
    kept = current()
    office.later()
    assert current() is kept


@pytest.fixture
async def clients(office: Office) -> AsyncIterator[ProviderClients]:
    async with http_clients(CurrentDirectory(office.settings, office.clock), office.settings, office.clock) as made:
        yield made


async def test_calls_go_to_the_new_address_and_one_in_flight_is_answered_by_the_old(office: Office, clients: ProviderClients) -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def slow(talk: Talk) -> None:
        arrived.set()
        await released.wait()
        await talk.answer()

    async def quick(talk: Talk) -> None:
        await talk.answer()

    async with rogue(slow) as old, rogue(quick) as new:
        office.write(entry(old.url), entry(old.url, OTHER))
        office.later()
        first, untouched = clients.provider(BANK), clients.provider(OTHER)
        in_flight = asyncio.create_task(first.revoke_token(TOKEN))
        await arrived.wait()
        office.write(entry(new.url), entry(old.url, OTHER))
        office.later()
        second = clients.provider(BANK)
        assert second is not first
        assert clients.provider(OTHER) is untouched
        await second.revoke_token(TOKEN)
        assert (len(old.requests), len(new.requests)) == (1, 1)
        released.set()
        await in_flight
        await first.revoke_token(TOKEN)  # a collection that began with it goes on with it
        assert old.open_now == 1

        office.later(2 * 60.0)
        assert clients.provider(BANK) is second
        async with asyncio.timeout(2):
            while old.open_now:
                await asyncio.sleep(0.005)  # real time: a socket closes
        await clients.provider(BANK).revoke_token(TOKEN)


async def test_an_institution_that_left_the_directory_is_not_called_any_more(office: Office, clients: ProviderClients) -> None:
    clients.provider(BANK)
    office.write(entry(org_code=OTHER))
    office.later()
    with pytest.raises(ProviderError, match="unknown"):
        clients.provider(BANK)
    clients.provider(OTHER)


async def test_certificates_that_have_gone_are_a_failed_call_not_a_fault_of_ours(
    office: Office, clients: ProviderClients, tmp_path: Path
) -> None:
    TestAuthority(tmp_path).issued("us", "1")
    office.write(entry(more='[providers.tls]\nclient_certificate = "us.pem"\nclient_key = "us.key"\n'))
    office.later()
    with pytest.raises(ProviderError, match="unknown"):
        clients.provider(OTHER)  # the directory is read now, and its files are there
    (tmp_path / "us.key").unlink()
    with pytest.raises(ProviderError, match=r"\(tls\)"):
        clients.provider(BANK)
