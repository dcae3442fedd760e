"""What the `wherry` command's exit status means."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses; scripts rely on them, so that a number never changes its meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY_FAILED = 3
    SIGN_IN_NEEDED = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitStatus.DONE: "done",
    ExitStatus.FAILED: "failed, or the job was cancelled",
    ExitStatus.USAGE: "wrong arguments or configuration",
    ExitStatus.PARTLY_FAILED: "part of the job failed",
    ExitStatus.SIGN_IN_NEEDED: "a sign-in is needed, at Wherry or at a site",
    ExitStatus.UNAVAILABLE: "Wherry or a site was unavailable, or the time was up; trying again may help",
    ExitStatus.INTERRUPTED: "interrupted with Ctrl-C; a job that was accepted goes on",
}

#: What `--help` says below.
EPILOG = "Exit status: " + "; ".join(f"{status.value} {meaning}" for status, meaning in MEANINGS.items()) + "."
