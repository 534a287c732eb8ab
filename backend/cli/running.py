"""What a command must know of the running system: its settings, and where its engines are.

In: `--data`. Out: settings, URLs; or a `NotRunning` whose line says what to do.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from backend.errors import MoaError
from backend.settings import Settings, load_settings

_PLACE = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?")  # a host's, perhaps with its port


class NotRunning(MoaError):
    """Nothing runs there. The message is one plain line."""


def settings_of(data: Path | None) -> Settings:
    """The settings as every command reads them. Raises `pydantic.ValidationError`."""
    return load_settings(data)


def database_url(settings: Settings) -> str:
    """Where PostgreSQL is. Raises `NotRunning`."""
    return _found(settings.database_url, "PostgreSQL", "MOA_DATABASE_URL", settings.data, ("postgresql://", "postgres://"))


def valkey_url(settings: Settings) -> str:
    """Where Valkey is. Raises `NotRunning`."""
    return _found(settings.valkey_url, "Valkey", "MOA_VALKEY_URL", settings.data, ("redis://", "rediss://", "unix://"))


def need_engines(settings: Settings) -> None:
    """Raises `NotRunning` unless both engines are known."""
    database_url(settings)
    valkey_url(settings)


def _found(url: SecretStr | None, engine: str, variable: str, data: Path, beginnings: tuple[str, ...]) -> str:
    if url is None:
        raise NotRunning(f"no {engine} is known: `moa up` is not running in {data.absolute()}; start it, or set {variable}")
    if not url.get_secret_value().startswith(beginnings):
        raise NotRunning(f"{variable} must begin with {' or '.join(beginnings)}")
    if not _is_readable(url.get_secret_value()):
        raise NotRunning(f"{variable} cannot be read; in a name or password each of / : @ # ? % [ ] is written as %2F and the like")
    return url.get_secret_value()


def _is_readable(url: str) -> bool:
    """Whether hosts and ports can be told from the rest. Who tries to connect without fails in words that repeat parts of a password."""
    try:
        places = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return False
    return all(_PLACE.fullmatch(place) for place in places.split(","))
