"""`moa seed`: consented links of invented users, with tokens that the sandbox takes, for rehearsals and benchmarks.

In: how many links, at how many providers. Out: rows like those of people who registered, and lines for a person. User `seed-00000007` is
the same invented person each time, so seeding again adds what is missing. Refused in production, and at institutions that are not the
sandbox's: nobody consented to anything, and the batch would send these tokens there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby, islice
from pathlib import Path

import msgspec

from backend.cli.running import database_url, settings_of
from backend.clock import Clock, SystemClock
from backend.errors import MoaError
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.consents import consent_for
from backend.providers.contract import Person, Provider
from backend.providers.directory import directory_of, is_sandboxed
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.providers.sandbox.app import tokens_of
from backend.providers.sandbox.granting import ConsentDocument
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.user_ci import development_user_ci
from backend.storage import seeding
from backend.storage.database import Database
from backend.storage.sealed import ACCESS_TOKEN, PERSON, REFRESH_TOKEN
from backend.storage.vault import Vault

AT_ONCE = 2_000  # links of one statement

Pair = tuple[str, Provider]  # user, provider


class SeedRefused(MoaError):
    """Nothing was made. The message is one plain line that says what to do."""


def seed(data: Path | None, *, links: int, providers: int | None) -> None:
    """Makes the links that are missing. Raises `SeedRefused`, `NotRunning`."""
    settings = settings_of(data)
    url = database_url(settings)
    if settings.environment == "production":
        raise SeedRefused("invented links are for development: MOA_ENVIRONMENT is production")
    if settings.vault_keys is None:
        raise SeedRefused("MOA_VAULT_KEYS is not set; `moa up` makes a key by itself")
    chosen = directory_of(settings).providers
    if providers is not None and providers > len(chosen):
        raise SeedRefused(f"the directory has {len(chosen)} providers")
    chosen = chosen[:providers]
    real = next((one for one in chosen if not is_sandboxed(one, settings)), None)
    if real is not None:
        raise SeedRefused(
            f"{real.org_code} is not one of the sandbox's at {settings.sandbox_url}: invented tokens would be sent to a real address"
        )
    pairs = _pairs(links, chosen)
    minting = Minting(SandboxOptions.of(settings), Vault(settings.vault_keys.get_secret_value()), SystemClock())
    new = asyncio.run(_seed(url, pairs, minting))
    print(f"{new:,} links made, {links - new:,} were there")


async def _seed(url: str, pairs: Iterator[Pair], minting: Minting) -> int:
    database, new = Database(url, pool=1), 0
    try:
        while some := list(islice(pairs, AT_ONCE)):
            now = minting.clock.now()
            people = {user: minting.person(user) for user, _ in groupby(user for user, _ in some)}
            new += await seeding.seed(database, people, [minting.link(user, provider, now) for user, provider in some], now)
    finally:
        await database.close()
    return new


def _pairs(links: int, providers: Sequence[Provider]) -> Iterator[Pair]:
    """Each user at every provider before the next user begins."""
    for number in range(links):
        yield f"seed-{number // len(providers):08d}", providers[number % len(providers)]


class Minting:
    """What a registration would have brought."""

    def __init__(self, options: SandboxOptions, vault: Vault, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self._tokens = tokens_of(options)
        self._vault = vault
        self._serials = Serials(secrets.randbelow(SERIAL_SPAN))

    def person(self, user: str) -> bytes:
        """Sealed for the user's row."""
        person = Person(user_ci=development_user_ci(user), real_name="모아", phone_num="+821000000000")
        return self._vault.seal(msgspec.json.encode(person), *PERSON.row(user))

    def link(self, user: str, provider: Provider, now: datetime) -> tuple[object, ...]:
        """Values in the order of `LINK_COLUMNS`."""
        org_code, options = provider.org_code, self._options
        consent = consent_for(
            provider, operator=options.operator_org_code, ca=options.directory.ca.org_code, now=now, serial=self._serials.next()
        )
        told = msgspec.json.decode(consent.document, type=ConsentDocument).told()
        scope = FULL_SCOPES[provider.industry]
        pair = self._tokens.issue(org_code, user, scope, told, now)
        return (
            user,
            org_code,
            consent.tx_id,
            consent.ends_on,
            self._vault.seal(pair.access_token.encode(), *ACCESS_TOKEN.row(user, org_code)),
            now + timedelta(seconds=pair.expires_in),
            self._vault.seal((pair.refresh_token or "").encode(), *REFRESH_TOKEN.row(user, org_code)),
            now + timedelta(seconds=options.refresh_token_ttl),
            scope,
        )
