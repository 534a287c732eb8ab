"""`moa seed`: links as registrations leave them, with tokens that the sandbox takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from backend.cli import seeding
from backend.cli.datafolder import DataFolder
from backend.cli.seeding import SeedRefused
from backend.clock import SystemClock
from backend.providers.sandbox.app import tokens_of
from backend.providers.sandbox.options import SandboxOptions
from backend.settings import load_settings
from backend.storage.sealed import ACCESS_TOKEN, PERSON, REFRESH_TOKEN
from backend.storage.vault import Vault


@pytest.fixture
def folder(data: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Path:
    DataFolder(data).make_secrets()
    monkeypatch.setenv("MOA_DATABASE_URL", database_url)
    return data


def rows(database_url: str, sql: str) -> list[asyncpg.Record]:
    async def read() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()

    return asyncio.run(read())


def test_links_are_made_once_and_said(folder: Path, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    seeding.seed(folder, links=7, providers=3)
    seeding.seed(folder, links=10, providers=3)
    assert capsys.readouterr().out.splitlines() == ["7 links made, 0 were there", "3 links made, 7 were there"]
    found = rows(database_url, "SELECT user_id, org_code, status, notice_on, consent_ends_on FROM links")
    assert len({(row["user_id"], row["org_code"]) for row in found}) == 10
    assert {row["user_id"] for row in found} == {f"seed-{number:08d}" for number in range(4)}
    assert len(rows(database_url, "SELECT 1 FROM consent_history WHERE happened = 'granted'")) == 10


def test_the_sandbox_takes_the_tokens_and_the_vault_opens_them(folder: Path, database_url: str) -> None:
    seeding.seed(folder, links=2, providers=2)
    settings = load_settings(folder)
    assert settings.vault_keys is not None
    vault, sandbox = Vault(settings.vault_keys.get_secret_value()), tokens_of(SandboxOptions.of(settings))
    for row in rows(database_url, "SELECT * FROM links"):
        user, org_code = row["user_id"], row["org_code"]
        for name, column in ((ACCESS_TOKEN, "access_token_sealed"), (REFRESH_TOKEN, "refresh_token_sealed")):
            grant = sandbox.read(vault.open(row[column], *name.row(user, org_code)).decode())
            assert grant is not None
            assert (grant.user, grant.org_code) == (user, org_code)
            assert sandbox.is_live(grant, SystemClock().now())
    [person] = rows(database_url, "SELECT * FROM users")
    assert b"user_ci" in vault.open(person["person_sealed"], *PERSON.row(person["user_id"]))


def test_invented_people_are_refused_in_production(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_ENVIRONMENT", "production")
    with pytest.raises(SeedRefused, match="production"):
        seeding.seed(folder, links=1, providers=None)


def test_more_providers_than_there_are_is_a_mistake_of_the_user(folder: Path) -> None:
    with pytest.raises(SeedRefused, match="the directory has"):
        seeding.seed(folder, links=1, providers=100_000)


def test_an_institution_that_is_not_the_sandboxs_is_refused_before_anything_is_made(
    folder: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever line leads to it: the batch would send it invented tokens."""
    real = tmp_path / "providers.toml"
    entry = '[[providers]]\norg_code = "A1MOABK001"\nname = "은행"\nindustry = "bank"\nbase_url = "http://10.20.30.40/bank"\n'
    ca = '[ca]\norg_code = "CAMOA00001"\nname = "CA"\nbase_url = "https://ca.example.com"\n'
    real.write_text(ca + entry + "allow_private = true\n", "utf-8")
    monkeypatch.setenv("MOA_PROVIDERS_FILE", str(real))
    with pytest.raises(SeedRefused, match="A1MOABK001 is not one of the sandbox's"):
        seeding.seed(folder, links=1, providers=None)
    assert rows(database_url, "SELECT 1 FROM links") == []
