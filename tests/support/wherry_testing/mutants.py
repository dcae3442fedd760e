"""`python -m wherry_testing.mutants`: does each small sabotage of our code fail the one test that must catch it?

A mutant is `tests/mutants/NAME.patch`: a unified diff (`-p1`) after lines `# row: S6`, `# test: tests/…::test_name` and
`# what: …`. It is caught when the test fails in its body under the patch, and passes without it. A patch that does not
apply, a test that does not name the row, and an error of collection, import or set-up are no catch.
"""

from __future__ import annotations

import argparse
import fnmatch
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from wherry_testing.acceptance_rows import RowsError, load_rows
from wherry_testing.private_tree import PatchRefused, PrivateTree
from wherry_testing.run_results import TestResult

_HEADER = re.compile(r"^# (row|test|what): *(.*?) *$")
_NOT_ITS_ASSERTION = frozenset({"ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError"})
"""What a test that never came to its point ends with: the patch broke the module, not the promise."""


class MutantError(Exception):
    """A patch that is no mutant; the message says what it lacks."""


@dataclass(frozen=True)
class Mutant:
    """A sabotage.

    Attributes:
        name: the patch's file name without its ending.
        row: the acceptance row whose promise it breaks.
        test: id of the test that must catch it.
        what: what it does, in a line.
    """

    name: str
    row: str
    test: str
    what: str
    patch: Path


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant; `problem` is empty where it was caught."""

    mutant: Mutant
    problem: str
    duration_s: float


def read_mutant(patch: Path, rows: Mapping[str, str]) -> Mutant:
    """Returns a mutant.

    Raises:
        MutantError: a header line is missing or twice, or the row is none.
    """
    headers: dict[str, str] = {}
    for line in patch.read_text(encoding="utf-8").splitlines():
        if line.startswith(("--- ", "diff ")):
            break
        if found := _HEADER.match(line):
            if found[1] in headers:
                raise MutantError(f"{patch.name}: `# {found[1]}:` is there twice")
            headers[found[1]] = found[2]
    if lacking := [name for name in ("row", "test", "what") if not headers.get(name)]:
        raise MutantError(f"{patch.name}: no line `# {lacking[0]}: …` before the diff")
    if headers["row"] not in rows:
        raise MutantError(f"{patch.name}: no such row: {headers['row']}")
    return Mutant(patch.stem, headers["row"], headers["test"], headers["what"], patch)


def judge_without(mutant: Mutant, results: Mapping[str, TestResult]) -> str:
    """Returns what is wrong with a mutant's test where the code is whole; empty if nothing is."""
    mine = _of_test(mutant.test, results)
    if not mine:
        return "there is no such test"
    if bad := [result for result in mine if result.outcome != "passed"]:
        return f"the test does not pass without the patch: {bad[0].outcome} {bad[0].error}".rstrip()
    if not any(claim.row == mutant.row for result in mine for claim in result.rows):
        return f"the test does not name the row {mutant.row}"
    return ""


def judge_with(mutant: Mutant, results: Mapping[str, TestResult]) -> str:
    """Returns why a mutant does not count as caught, given results under the patch; empty if it does."""
    mine = _of_test(mutant.test, results)
    failed = [result for result in mine if result.outcome == "failed"]
    if any(result.phase == "call" and result.error not in _NOT_ITS_ASSERTION for result in failed):
        return ""
    if failed:
        return f"not caught by an assertion: {failed[0].error} in {failed[0].phase}"
    return "SURVIVED" if mine else "not caught by an assertion: the test could not be collected"


def _of_test(test: str, results: Mapping[str, TestResult]) -> list[TestResult]:
    """Returns the results of a test, of all its parameters where it has some."""
    return [result for name, result in results.items() if name == test or name.startswith(f"{test}[")]


def try_mutants(
    root: Path, mutants: Sequence[Mutant], *, jobs: int = 1, tell: Callable[[Verdict], None] = lambda _: None
) -> list[Verdict]:
    """Tries mutants in private copies of a tree, one copy for each job; returns verdicts in the order given."""
    with PrivateTree(root) as first:
        whole = _run_whole(first, {mutant.test for mutant in mutants})
        sound: list[Mutant] = []
        verdicts: dict[str, Verdict] = {}
        for mutant in mutants:
            if problem := judge_without(mutant, whole):
                verdicts[mutant.name] = Verdict(mutant, problem, 0)
                tell(verdicts[mutant.name])
            else:
                sound.append(mutant)
        lock = threading.Lock()
        trees: queue.SimpleQueue[PrivateTree] = queue.SimpleQueue()
        others = [PrivateTree(root) for _ in range(min(jobs, len(sound)) - 1)]
        try:
            for tree in (first, *(other.__enter__() for other in others)):
                trees.put(tree)

            def attempt(mutant: Mutant) -> None:
                tree = trees.get()
                try:
                    verdict = _try(tree, mutant)
                finally:
                    trees.put(tree)
                with lock:
                    verdicts[mutant.name] = verdict
                    tell(verdict)

            with ThreadPoolExecutor(max_workers=jobs) as pool:
                list(pool.map(attempt, sound))
        finally:
            for other in others:
                other.close()
    return [verdicts[mutant.name] for mutant in mutants]


def _run_whole(tree: PrivateTree, tests: Iterable[str]) -> dict[str, TestResult]:
    """Runs tests where the code is whole; one by one where one that is not there keeps pytest from running any."""
    named = sorted(tests)
    results = tree.run_tests(named)
    if len(named) > 1 and any(not _of_test(test, results) for test in named):
        for test in named:
            results |= tree.run_tests([test])
    return results


def _try(tree: PrivateTree, mutant: Mutant) -> Verdict:
    started_s = time.monotonic()
    try:
        with tree.patched(mutant.patch):
            problem = judge_with(mutant, tree.run_tests([mutant.test], to_first_failure=True))
    except PatchRefused as error:
        problem = f"the patch does not apply: {error}"
    return Verdict(mutant, problem, time.monotonic() - started_s)


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """Prints the table and the count."""
    table = Table(title="Mutants", title_justify="left", pad_edge=False)
    for column in ("mutant", "row"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it does", ratio=3)
    table.add_column("result", ratio=2)
    table.add_column("seconds", justify="right")
    for verdict in verdicts:
        result = f"[bold red]{escape(verdict.problem)}[/]" if verdict.problem else "[green]caught[/]"
        mutant = verdict.mutant
        table.add_row(mutant.name, mutant.row, escape(mutant.what), result, f"{verdict.duration_s:.1f}")
    console.print(table)
    caught = sum(not verdict.problem for verdict in verdicts)
    console.print(f"{len(verdicts)} mutants: {caught} caught, {len(verdicts) - caught} not", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tries the mutants; 1 where one is not caught, 2 where a patch is no mutant or none is chosen."""
    parser = argparse.ArgumentParser(prog="python -m wherry_testing.mutants", description=__doc__)
    parser.add_argument("--only", metavar="NAME", default="*", help="only those whose name fits, as site_*")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at once; 1 if not given")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the tree; the current folder if not given")
    options = parser.parse_args(arguments)
    root: Path = options.root.resolve()
    error = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        rows = load_rows(root / "docs" / "acceptance.md")
        patches = sorted((root / "tests" / "mutants").glob("*.patch"))
        mutants = [read_mutant(patch, rows) for patch in patches if fnmatch.fnmatch(patch.stem, options.only)]
    except (RowsError, MutantError) as fault:
        error.print(str(fault), style="red")
        return 2
    if not mutants:
        error.print(f"no mutant fits {options.only}", style="red")
        return 2
    console = Console(width=None if sys.stdout.isatty() else 140)

    def tell(verdict: Verdict) -> None:
        console.print(f"{verdict.mutant.name}: {verdict.problem or 'caught'}", highlight=False, markup=False)

    verdicts = try_mutants(root, mutants, jobs=max(1, options.jobs), tell=tell)
    show(verdicts, console)
    return 1 if any(verdict.problem for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
