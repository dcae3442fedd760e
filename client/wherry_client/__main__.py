"""Runs the `wherry` command."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from wherry_client.command import console
from wherry_client.command.app import app
from wherry_client.errors import WherryError
from wherry_client.exits import ExitStatus


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit status."""
    try:
        app(args=list(arguments), prog_name="wherry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitStatus.DONE
    except WherryError as error:
        console.show_error(error)
        return error.status
    return ExitStatus.DONE


def main() -> int:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may hold what the terminal's character set has not; who reads a pipe sees lines as they come.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
