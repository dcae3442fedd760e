"""`python -m bench [--only GROUP or NAME]`: runs benchmarks, each against a peer on the same work in the same run."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import pkgutil
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.measure import Bench, Benchmark, BenchmarkError, Measurement, chosen, registered
from bench.report import load_targets, show, write_results

_FOLDER = Path(__file__).resolve().parent
_FRAME = {"__main__", "measure", "report"}


def find_benchmarks() -> list[Benchmark]:
    """Imports every module of this folder that is not of the frame, and returns what they register."""
    # Benchmarks stand on the same real servers as the tests do.
    support = str(_FOLDER.parent / "tests" / "support")
    if support not in sys.path:
        sys.path.insert(0, support)
    for module in pkgutil.iter_modules([str(_FOLDER)]):
        if module.name not in _FRAME:
            importlib.import_module(f"bench.{module.name}")
    return registered()


async def run_all(benchmarks: Sequence[Benchmark], console: Console) -> tuple[list[Measurement], list[str]]:
    """Runs benchmarks one after the other; returns the measurements, and the names of those that failed."""
    measured: list[Measurement] = []
    failed: list[str] = []
    for found in benchmarks:
        console.rule(f"{found.group}: {found.name}", align="left")
        folder = Path(tempfile.mkdtemp(prefix=f"wherry-bench-{found.name}-"))
        try:
            bench = Bench(folder, lambda line: console.print(line, markup=False, highlight=False))
            fresh = await found.run(bench)
            if twice := {one.name for one in fresh} & {one.name for one in measured}:
                raise BenchmarkError(f"{found.name} measures {', '.join(sorted(twice))} a second time")
            measured += fresh
        except Exception:  # noqa: BLE001  # the others still run, and the failure is told
            console.print(traceback.format_exc(), style="red", markup=False, highlight=False)
            failed.append(found.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return measured, failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 1 where a benchmark failed or missed its target, 2 where none is chosen."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only this group or benchmark")
    parser.add_argument("--results", type=Path, default=_FOLDER / "results.json", help="where the results go")
    parser.add_argument("--targets", type=Path, default=_FOLDER / "targets.toml", help="what is to be reached")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        targets = load_targets(options.targets)
        benchmarks = chosen(options.only, find_benchmarks())
        if not benchmarks:
            raise BenchmarkError("there are no benchmarks")
    except BenchmarkError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 2
    measured, failed = asyncio.run(run_all(benchmarks, console))
    write_results(options.results, measured, targets)
    show(measured, targets, console)
    missed = [one.name for one in measured if one.name in targets and not targets[one.name].met_by(one)]
    for names, what in ((failed, "failed"), (missed, "missed their target")):
        if names:
            console.print(f"{what}: {', '.join(names)}", style="red", markup=False, highlight=False)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
