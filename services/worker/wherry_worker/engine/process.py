"""What the engine process does to itself: dies with its parent, dies at its deadline, ends without tidying up."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
#: Above so many open files the process is worn: gfal2 leaks about ten for every twenty errors.
WORN_OPEN_FILES = 400


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends; ends at once where that has happened already.

    Core dumps and reading the memory through /proc are turned off too: it holds a user's key.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:
        end(1)


def allow_many_files() -> None:
    """Raises the limit of open files to what is allowed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_deadline(seconds: float | None) -> None:
    """Has the kernel end this process after so many seconds, whatever it does; None takes the deadline away.

    The alarm's default action needs no Python to run, so that a library that never returns cannot hold it up. It counts
    monotonic time, also while the process is stopped.
    """
    signal.setitimer(signal.ITIMER_REAL, 0 if seconds is None else max(seconds, 0.001))


def is_worn() -> bool:
    """Tells whether the process has gathered so many open files that it should not get more work."""
    return len(list(Path("/proc/self/fd").iterdir())) > WORN_OPEN_FILES


def end(status: int) -> NoReturn:
    """Ends at once: some exits crash in a thread of Globus."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
