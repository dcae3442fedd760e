"""`make demo`: python -m wherry_deploy.demonstration [DIR]. With DEMO_EXIT=1 it ends after the copy."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wherry_deploy.demonstration.failing import DemonstrationFailed
from wherry_deploy.demonstration.tour import demonstrate
from wherry_deploy.stopping import ended_by_signal

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demonstration(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where it keeps everything.")] = Path("demo"),
) -> None:
    """Set up two sites and a deployment on this machine, and copy a directory from one site to the other."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run(folder, stay=os.environ.get("DEMO_EXIT", "") in ("", "0")))
    except DemonstrationFailed as error:
        print(f"demonstration: {error}\nThe logs are in {folder / 'logs'}.", file=sys.stderr)
        raise typer.Exit(1) from error
    except OSError as error:
        print(f"demonstration: {folder}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(1) from error
    print("Stopped; nothing is left running.")


async def _run(folder: Path, *, stay: bool) -> None:
    with ended_by_signal():
        await demonstrate(folder, stay=stay)


if __name__ == "__main__":
    app()
