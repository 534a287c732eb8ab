from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from backend.cli.datafolder import AlreadyRunning, DataFolder, runs
from backend.settings import RUNNING_FILE, SECRETS_FILE, TARGETS_FILE, load_settings


def test_secrets_are_made_once_and_are_nobody_elses(data: Path) -> None:
    DataFolder(data).make_secrets()
    first = (data / SECRETS_FILE).read_text()
    DataFolder(data).make_secrets()
    assert (data / SECRETS_FILE).read_text() == first
    assert stat.S_IMODE((data / SECRETS_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_secrets_are_long_enough_and_different_in_each_folder(data: Path, tmp_path: Path) -> None:
    for folder in (data, tmp_path / "other"):
        DataFolder(folder).make_secrets()
    ours, theirs = load_settings(data), load_settings(tmp_path / "other")
    assert ours.jwt_secret is not None
    assert len(ours.jwt_secret.get_secret_value()) >= 32
    assert ours.jwt_secret != theirs.jwt_secret
    assert ours.vault_keys is not None
    name, _, key = ours.vault_keys.get_secret_value().partition(":")
    assert (name, len(base64.b64decode(key, validate=True))) == ("k1", 32)


def test_a_secret_that_is_there_is_kept_and_what_is_missing_is_added(data: Path) -> None:
    data.mkdir()
    (data / SECRETS_FILE).write_text("MOA_JWT_SECRET=" + "s" * 40 + "\n")
    DataFolder(data).make_secrets()
    settings = load_settings(data)
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == "s" * 40
    assert settings.asset_id_secret is not None


def test_other_commands_find_the_running_system_until_it_is_gone(data: Path) -> None:
    folder = DataFolder(data)
    folder.say_where({"MOA_API_URL": "http://127.0.0.1:1", "MOA_DATABASE_URL": "postgresql://u:p#'\\ w@/d?host=/a b"})
    settings = load_settings(data)
    assert settings.api_url == "http://127.0.0.1:1"
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:p#'\\ w@/d?host=/a b"
    assert stat.S_IMODE((data / RUNNING_FILE).stat().st_mode) == 0o600
    folder.say_targets({"api-1": "127.0.0.1:1", "worker-1": "127.0.0.1:2"})
    targets = json.loads((data / TARGETS_FILE).read_text())
    assert targets[1] == {"targets": ["127.0.0.1:2"], "labels": {"process": "worker-1"}}  # as Prometheus' file discovery has it
    folder.forget_where()
    assert not (data / TARGETS_FILE).exists()
    assert load_settings(data).database_url is None
    folder.forget_where()


def test_a_folder_has_one_owner_at_a_time(data: Path) -> None:
    assert not runs(data)
    with DataFolder(data).held():
        assert runs(data)
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"), DataFolder(data).held():
            pass
    assert not runs(data)
    with DataFolder(data).held():
        pass
