from __future__ import annotations

from pathlib import Path

from backend.cli.datafolder import DataFolder
from backend.settings import Settings, load_settings


def test_every_setting_is_listed_with_what_it_is_for(moa, data: Path) -> None:
    said = moa("settings", "--data", str(data))
    assert said.code == 0
    for name, field in Settings.model_fields.items():
        assert f"MOA_{name.upper()}" in said.out
        assert field.description


def test_secrets_are_stars(moa, data: Path) -> None:
    DataFolder(data).make_secrets()
    said = moa("settings", "--data", str(data))
    secret = load_settings(data).jwt_secret
    assert secret is not None
    assert secret.get_secret_value() not in said.out
    assert "*****" in said.out


def test_a_value_from_outside_is_shown(moa, data: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOA_PORT", "8123")
    assert "8123" in moa("settings", "--data", str(data)).out
