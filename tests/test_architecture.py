"""ARCHITECTURE.md's map is the house: every room has a row, and every file is named in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [line.split("|")[1:3] for line in (ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines() if line.startswith("| `")]
ROOMS = {folder.relative_to(ROOT / "backend") for folder in (ROOT / "backend").rglob("*") if any(folder.glob("*.py"))}
WITHOUT_A_ROW = {Path("storage/migrations"), Path("storage/migrations/versions")}


def _files(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}


def _names(cell: str) -> set[str]:
    return set(re.findall(r"`([\w./]+)`", cell))


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    rows = {name for room, _ in ROWS for name in _names(room) if name.endswith("/")}
    assert rows == {f"{room}/" for room in ROOMS - WITHOUT_A_ROW}


@pytest.mark.parametrize("room", sorted(ROOMS - WITHOUT_A_ROW), ids=str)
def test_every_file_of_a_room_is_named_in_its_row(room: Path) -> None:
    [named] = [_names(what) for name, what in ROWS if f"{room}/" in _names(name)]
    assert _files(ROOT / "backend" / room) <= named


def test_every_file_beside_the_rooms_has_a_row() -> None:
    named = {name for files, _ in ROWS for name in _names(files) if name.endswith(".py")}
    assert named == {f"{file}.py" for file in _files(ROOT / "backend")}
