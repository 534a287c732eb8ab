"""The directory as its file says now: follows it without a restart.

In: the settings, a clock. Out: a `Directory` whenever one is asked for. It looks at the files at most once in `LOOKED_AT_EVERY` seconds and
reads them only when one has changed. A file that cannot be used leaves the directory in force as it was, and is told once, in one line.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from backend.clock import Clock
from backend.providers.directory import Directory, DirectoryFault, directory_of, file_of
from backend.settings import Settings

LOOKED_AT_EVERY = 5.0  # seconds

Stamp = tuple[tuple[int, int, int] | None, ...]  # of each file; None: it is not there

log = structlog.get_logger(__name__)


class CurrentDirectory:
    """Call it for the directory. The same object comes until something has changed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises `DirectoryFault`: what is broken at the start is not started with."""
        self._settings = settings
        self._clock = clock
        stamp = _stamp((file_of(settings),))
        self._directory = directory_of(settings)
        self._files = self._directory.files  # the directory's own first
        self._seen = stamp + _stamp(self._files[1:])
        self._looked_at = clock.monotonic()

    def __call__(self) -> Directory:
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOKED_AT_EVERY:
            self._looked_at = now
            self._look()
        return self._directory

    def _look(self) -> None:
        stamp = _stamp(self._files)  # before it is read: a write meanwhile is seen at the next look
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            directory = directory_of(self._settings)
        except DirectoryFault as fault:
            log.error("directory.not_usable", fault=str(fault))
            return
        log.info("directory.read", providers=len(directory.providers))
        if directory.files != self._files:
            self._files = directory.files
            self._seen = stamp[:1] + _stamp(self._files[1:])
        self._directory = directory


def _stamp(files: tuple[Path, ...]) -> Stamp:
    return tuple(_written(file) for file in files)


def _written(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
