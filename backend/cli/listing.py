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
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from backend.cli.running import settings_of
from backend.settings import Settings

PIPED_WIDTH = 220  # columns, when nobody's terminal sets them


def console() -> Console:
    """Where tables go; in a pipe they are wide rather than broken."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)


def show(table: Table, to: Console | None = None) -> None:
    """A table of figures, in a narrow terminal as in a pipe: the terminal may break its lines, but no code and no figure is left out."""
    to = to or console()
    needed = Measurement.get(to, to.options.update(max_width=PIPED_WIDTH), table).maximum
    (to if needed <= to.width else Console(width=needed, file=to.file)).print(table)


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
