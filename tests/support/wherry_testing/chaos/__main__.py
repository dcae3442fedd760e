"""`python -m wherry_testing.chaos [--seed N] [--only KIND]`: does work while everything it stands on is broken.

`postgresql`: 100,000 tasks, two replicas; `sqlite`: 20,000, one; `copies`: 200 files between two real sites.
The status is 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from wherry_testing.chaos import scenes

_SCENES = {"postgresql": scenes.on_postgresql, "sqlite": scenes.on_sqlite, "copies": scenes.real_copies}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the scenes that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wherry_testing.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of all that is decided by chance; replays a run")
    parser.add_argument("--only", action="append", default=[], choices=sorted(_SCENES), help="only this scene")
    parser.add_argument("--tasks", type=int, default=None, help="instead of a scene's own number")
    parser.add_argument("--keep", action="store_true", help="leave folders with logs even where all has held")
    options = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    _say(f"seed {seed}: replay with make chaos SEED={seed}")
    failed = []
    for name in options.only or sorted(_SCENES):
        folder = Path(tempfile.mkdtemp(prefix=f"wherry-chaos-{name}-"))
        _say(f"--- {name}, in {folder}")
        result = asyncio.run(_SCENES[name](folder, seed, _say, options.tasks))
        for line in result.told():
            _say(line)
        if result.faults:
            failed.append(name)
        elif not options.keep:
            scenes.remove(folder)
    _say(f"FAILED: {', '.join(failed)} (seed {seed})" if failed else f"all held (seed {seed})")
    return 1 if failed else 0


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)  # noqa: T201  # for the person who started it


if __name__ == "__main__":
    sys.exit(main())
