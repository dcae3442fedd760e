"""`python -m wherry_testing.acceptance`: every acceptance row, its tests, their last results, and what is missing."""

from __future__ import annotations

import argparse
import contextlib
import enum
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from wherry_testing.acceptance_rows import RowClaim, RowsError, claims_of, load_rows
from wherry_testing.run_results import TestResult, load_results, results_file

_SHOWN_PASSED = 3
_SHOWN_BAD = 8


class Standing(enum.Enum):
    """How a row stands; the values are what the table shows."""

    PROVED = "proved"
    PARTIAL = "partial"
    FAILED = "FAILED"
    NOT_RUN = "not run"
    NONE = "no test"


_STYLES = {
    Standing.PROVED: "green",
    Standing.PARTIAL: "yellow",
    Standing.FAILED: "bold red",
    Standing.NOT_RUN: "cyan",
    Standing.NONE: "dim",
}


@dataclass(frozen=True)
class RowReport:
    """A row with the tests that claim it.

    Attributes:
        tests: last result by test id; None for one that has not run.
        missing: what the tests say is not proved yet, each once.
    """

    row: str
    requirement: str
    tests: Mapping[str, TestResult | None]
    missing: Sequence[str] = field(default=())

    @property
    def standing(self) -> Standing:
        """The row's standing: a failing test outweighs one that has not run, that a missing clause."""
        if not self.tests:
            return Standing.NONE
        outcomes = {result.outcome if result else None for result in self.tests.values()}
        if outcomes & {"failed", "skipped"}:
            return Standing.FAILED
        if None in outcomes:
            return Standing.NOT_RUN
        return Standing.PARTIAL if self.missing else Standing.PROVED


def report(
    rows: Mapping[str, str], claims: Mapping[str, Sequence[RowClaim]], results: Mapping[str, TestResult]
) -> list[RowReport]:
    """Joins the rows there are, the tests there are now, and how they last ended."""
    tests: dict[str, dict[str, TestResult | None]] = {row: {} for row in rows}
    missing: dict[str, dict[str, None]] = {row: {} for row in rows}
    for test, made in claims.items():
        for claim in made:
            tests[claim.row][test] = results.get(test)
            if claim.missing:
                missing[claim.row][claim.missing] = None
    return [RowReport(row, text, tests[row], list(missing[row])) for row, text in rows.items()]


def collect(root: Path, rows: dict[str, str]) -> dict[str, tuple[RowClaim, ...]]:
    """Returns what each test of a tree claims to prove.

    Raises:
        RowsError: the tests cannot be collected; pytest's own words are in the message.
    """
    found: dict[str, tuple[RowClaim, ...]] = {}

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            found.update({item.nodeid: claims_of(item, rows) for item in session.items})

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.chdir(root):
        status = pytest.main(["--collect-only", "-q", f"--rootdir={root}"], plugins=[Collector()])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RowsError(f"the tests cannot be collected:\n{said.getvalue()}")
    return found


def show(reports: Sequence[RowReport], console: Console) -> None:
    """Prints the table and the counts."""
    table = Table(title="Acceptance", title_justify="left", show_lines=False, pad_edge=False)
    table.add_column("row", no_wrap=True)
    table.add_column("requirement", ratio=3)
    table.add_column("stands", no_wrap=True)
    table.add_column("tests, last result", ratio=4, overflow="fold")
    table.add_column("missing", ratio=2)
    for row in reports:
        style = _STYLES[row.standing]
        table.add_row(
            row.row,
            escape(row.requirement),
            f"[{style}]{row.standing.value}[/]",
            _tests(row),
            escape("; ".join(row.missing)),
        )
    console.print(table)
    counts = {standing: sum(row.standing is standing for row in reports) for standing in Standing}
    parts = ", ".join(f"{count} {standing.value}" for standing, count in counts.items())
    console.print(f"{len(reports)} rows: {parts}", highlight=False, soft_wrap=True)


def _tests(row: RowReport) -> str:
    """Returns a cell: all that did not pass, then a few of those that did, and how many more."""
    lines = [
        f"[{'red' if result else 'cyan'}]{result.outcome if result else 'not run'}[/] {escape(_short(test))}"
        for test, result in row.tests.items()
        if result is None or result.outcome != "passed"
    ]
    if (more := len(lines) - _SHOWN_BAD) > 0:
        lines = [*lines[:_SHOWN_BAD], f"and {more} more that did not pass"]
    passed = [test for test, result in row.tests.items() if result and result.outcome == "passed"]
    names = list(dict.fromkeys(_short(test).partition("[")[0] for test in passed))
    lines += [f"[green]✓[/] {escape(name)}" for name in names[:_SHOWN_PASSED]]
    if len(names) > _SHOWN_PASSED:
        lines.append(f"[green]✓[/] and {len(names) - _SHOWN_PASSED} more")
    return "\n".join(lines)


def _short(test: str) -> str:
    return test.partition("::")[2].replace("_", " ").removeprefix("test ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 1 where the tests cannot be collected."""
    parser = argparse.ArgumentParser(prog="python -m wherry_testing.acceptance", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the tree; the current folder if not given")
    root: Path = parser.parse_args(arguments).root.resolve()
    try:
        rows = load_rows(root / "docs" / "acceptance.md")
        reports = report(rows, collect(root, rows), load_results(results_file(root)))
    except RowsError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    show(reports, Console(width=None if sys.stdout.isatty() else 160))
    return 0


if __name__ == "__main__":
    sys.exit(main())
