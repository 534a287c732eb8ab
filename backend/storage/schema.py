"""The whole schema: `metadata` with every table of every file that has some."""

from __future__ import annotations

from backend.storage import alarm_tables, batch_tables, tables

metadata = tables.metadata

__all__ = ["alarm_tables", "batch_tables", "metadata", "tables"]
