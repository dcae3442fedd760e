"""The `wherry-queue` command."""

from __future__ import annotations

import sys

from wherry_chassis.command import run

from wherry_queue.app import build


def main() -> None:
    """Runs the command."""
    sys.exit(run("queue", "wherry_queue", build))


if __name__ == "__main__":
    main()
