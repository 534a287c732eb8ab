"""`moa settings`: every setting as `backend/settings.py` declares it.

In: the settings. Out: a table; secrets are stars, set or not.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.cli.running import settings_of
from backend.settings import Settings

PIPED_WIDTH = 220  # columns, when nobody's terminal sets them


def console() -> Console:
    """Where tables go; in a pipe they are wide rather than broken."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)


def show_settings(data: Path | None) -> None:
    """Prints the table."""
    settings = settings_of(data)
    table = Table("setting", "default", "value", "what it is for", box=box.SIMPLE)
    for name, field in Settings.model_fields.items():
        row = (f"MOA_{name.upper()}", _default(field), _shown(getattr(settings, name)), field.description or "")
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets are no markup
    console().print(table)


def _default(field: FieldInfo) -> str:
    return _shown(field.default)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return "*****" if isinstance(value, SecretStr) else str(value)
