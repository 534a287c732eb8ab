"""Ends a process when its parent is gone, even if that was killed and could say nothing.

In: the parent's pid. Linux does it in the kernel (prctl(2), PR_SET_PDEATHSIG); elsewhere a thread looks once a second.
For a child of `moa up` the end is abrupt: the next `moa up` must find the ports free at once, and no accepted work is lost by it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1


def hold(parent: int | None, end: signal.Signals = signal.SIGKILL) -> None:
    """From now on this process gets `end` when `parent` is gone. None: nobody holds it."""
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, end, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent, end), name="leash", daemon=True).start()
    if os.getppid() != parent:  # it went before we asked
        os._exit(1)


def _watch(parent: int, end: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), end)
