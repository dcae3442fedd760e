"""Becomes another program that the kernel stops when its parent ends. Run as a script, with nothing of ours imported.

    python -I -S launch.py PARENT_PID PROGRAM ARGUMENT…

A separate step, because a process that has threads (gRPC has) must not run Python between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Never returns but with 1, when the parent has gone already, or 127, when there is no such program."""
    parent, command = int(arguments[0]), arguments[1:]
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0 or os.getppid() != parent:
        return 1
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is the point
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
