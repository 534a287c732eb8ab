"""A dictionary that forgets what was put in first, so that a sandbox that runs for weeks stays as small as on its first day."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """At most `size` entries; the oldest goes first. Setting a key again makes it the newest."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        if len(self) >= self._size:
            del self[next(iter(self))]
        super().__setitem__(key, value)
