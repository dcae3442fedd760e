"""The `wherry-site` command."""

from __future__ import annotations

import sys

from wherry_chassis.command import run

from wherry_site.app import build


def main() -> int:
    """Runs the command; returns the exit status."""
    return run("site", "wherry_site", build)


if __name__ == "__main__":
    sys.exit(main())
