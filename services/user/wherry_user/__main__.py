"""`wherry-user serve | migrate --buildout FILE`."""

from __future__ import annotations

import sys

from wherry_chassis.command import run

from wherry_user.app import build


def main() -> int:
    """Runs the command; returns the exit status."""
    return run("user", "wherry_user", build)


if __name__ == "__main__":
    sys.exit(main())
