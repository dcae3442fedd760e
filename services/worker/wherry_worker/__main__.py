"""The `wherry-worker` command."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from wherry_chassis.buildout import BuildoutError, load
from wherry_chassis.logging import configure

from wherry_worker import app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status. A fault in the configuration is one line, and status 2."""
    parser = argparse.ArgumentParser(prog="wherry-worker", description="Wherry's worker")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="lease tasks and run them")
    serve.add_argument("--buildout", type=Path, required=True, metavar="FILE", help="the deployment's buildout.toml")
    options = parser.parse_args(arguments)
    try:
        buildout = load(options.buildout)
        configure("worker", format=buildout.logging.format, level=buildout.logging.level)
        asyncio.run(app.run(buildout))
    except (BuildoutError, OSError) as error:
        print(f"wherry-worker: {error}", file=sys.stderr)  # noqa: T201  # for the person who started it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
