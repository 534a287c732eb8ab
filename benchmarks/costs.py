"""CPU that processes have used, by what they are; from the process table of Linux, elsewhere nothing is known.

In: what marks a process (words of its command line). Out: milliseconds by name; children that bear no mark of their own count as their
parent (PostgreSQL's backends). A latency on a busy machine says little without it.
"""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


Marks = Mapping[str, tuple[str, ...]]  # name -> words that its processes' command lines contain, all of them


def cpu_ms(marks: Marks) -> dict[str, float]:
    """What each has used so far; the first name that fits a process counts."""
    table = _processes()
    used: dict[str, float] = defaultdict(float)
    for pid, (parent, command) in table.items():
        name = _name(command, marks) or _name(table[parent][1] if parent in table else "", marks)
        if name is not None:
            used[name] += _used(pid)
    return dict(used)


def machine_ms() -> tuple[float, float]:
    """CPU that everybody on this machine has used, and CPU that there was, so far. (0, 0) on a system without /proc."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return 0.0, 0.0
    ticks = [int(field) for field in fields[1:9]]  # guests are counted in user time already
    return (sum(ticks) - ticks[3] - ticks[4]) * _TICK_MS, sum(ticks) * _TICK_MS


def busy_percent(before: tuple[float, float], after: tuple[float, float]) -> list[float]:
    """How busy the machine was between two `machine_ms`, whoever it was busy with; empty: unknown."""
    there_was = after[1] - before[1]
    return [100 * (after[0] - before[0]) / there_was] if there_was else []


def _name(command: str, marks: Marks) -> str | None:
    return next((name for name, words in marks.items() if all(word in command for word in words)), None)


def _processes() -> dict[int, tuple[int, str]]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args=", "-ww"], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines())
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3}


def _used(pid: int) -> float:
    """User and system time so far; 0 for a process that has gone, or on a system without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_MS
