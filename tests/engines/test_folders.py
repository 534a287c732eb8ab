from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from backend.engines.folders import (
    LONGEST_SOCKET,
    LONGEST_SOCKET_NAME,
    EngineRefused,
    private_folder,
    socket_folder,
    try_lock,
    write_private,
)


def test_a_folder_that_is_made_is_closed_to_others(tmp_path: Path) -> None:
    assert stat.S_IMODE(private_folder(tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    private_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_folder_that_cannot_be_made_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineRefused, match="choose another with --data"):
        private_folder(tmp_path / "file" / "folder")


def test_sockets_lie_in_the_data_folder_when_their_paths_fit() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        assert socket_folder(Path(folder)) == Path(folder) / "run"


def test_sockets_of_a_long_path_lie_in_a_short_private_folder_always_the_same(tmp_path: Path) -> None:
    data = private_folder(tmp_path / ("x" * 100) / ("y" * 100))
    folder = socket_folder(data)
    assert len(os.fsencode(folder)) + len(LONGEST_SOCKET_NAME) <= LONGEST_SOCKET
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert socket_folder(data) == folder
    folder.rmdir()


def test_a_short_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    data = private_folder(tmp_path / ("x" * 100) / ("y" * 100))
    folder = socket_folder(data)
    folder.chmod(0o755)
    with pytest.raises(EngineRefused, match="open to others"):
        socket_folder(data)
    folder.rmdir()


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first = try_lock(tmp_path / "lock")
    assert first is not None
    assert try_lock(tmp_path / "lock") is None
    os.close(first)
    second = try_lock(tmp_path / "lock")
    assert second is not None
    os.close(second)


def test_a_private_file_is_only_ours_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
