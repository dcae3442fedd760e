"""The pytest plugin of the acceptance rows.

`@pytest.mark.row("U3")` names the row that a test proves; `--rows U3,S5` runs the tests of those rows, and fails for a
row without a test and for one that was skipped, since a skipped test proves nothing. A mark that names no row of
`docs/acceptance.md` is an error in every run. How each test ended is kept in `tests/.results.json`.

Where several processes run tests (pytest-xdist), each says in its reports what its tests claim; the one that gathers
them keeps the results.
"""

from __future__ import annotations

import datetime
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from wherry_testing.acceptance_rows import RowClaim, RowsError, claims_of, load_rows, parse_ids
from wherry_testing.run_results import TestResult, merge_results, results_file

_PLUGIN = "wherry-rows-run"
_PROPERTY = "wherry-rows"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--rows`."""
    parser.getgroup("wherry").addoption(
        "--rows",
        metavar="IDS",
        help="run the tests of these acceptance rows only (U1,U3); rows without a test and skipped tests are failures",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Reads the rows there are, and those that are asked for."""
    try:
        known = load_rows(config.rootpath / "docs" / "acceptance.md")
        text: str | None = config.getoption("--rows")
        asked = None if text is None else parse_ids(text, known)
    except RowsError as error:
        raise pytest.UsageError(str(error)) from error
    gathers = not hasattr(config, "workerinput")
    config.pluginmanager.register(_Run(config.rootpath, known, asked, gathers=gathers), _PLUGIN)


class _Run:
    """One run of the tests, or one process's part of it.

    Args:
        gathers: whether results are kept here.
    """

    def __init__(self, root: Path, known: dict[str, str], asked: list[str] | None, *, gathers: bool) -> None:
        self._root = root
        self._gathers = gathers
        self._known = known
        self._asked = asked
        self._claims: dict[str, tuple[RowClaim, ...]] = {}
        self._results: dict[str, TestResult] = {}
        self._complaints: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Checks every mark, and keeps the tests of the rows that are asked for."""
        faults = []
        for item in items:
            try:
                self._claims[item.nodeid] = claims_of(item, self._known)
            except RowsError as error:
                faults.append(str(error))
        if faults:
            raise pytest.UsageError(*faults)
        if self._asked is None:
            return
        wanted = set(self._asked)
        chosen = [item for item in items if wanted & {claim.row for claim in self._claims[item.nodeid]}]
        kept = set(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = chosen
        proved = {claim.row for item in chosen for claim in self._claims[item.nodeid]}
        if bare := [row for row in self._asked if row not in proved]:
            raise pytest.UsageError(*(f"--rows: no test proves {row}: {self._known[row]}" for row in bare))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Adds to a report what its test claims, and what sort of exception ended it; it keeps only its text."""
        report = yield
        claims = [[claim.row, claim.missing] for claim in self._claims.get(item.nodeid, ())]
        error = call.excinfo.type.__name__ if call.excinfo is not None else ""
        report.user_properties.append((_PROPERTY, {"claims": claims, "error": error}))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps how each test ended: the worst of its phases."""
        if not self._gathers:
            return
        # A report has those of the phases before it, too.
        said: dict[str, Any] = {}
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, dict):
                said = value
        before = self._results.get(report.nodeid)
        duration_s = round(report.duration + (before.duration_s if before else 0), 4)
        outcome: str = report.outcome
        phase: str = report.when or ""
        error = ""
        if outcome == "passed" and before is not None and before.outcome != "passed":
            outcome, phase, error = before.outcome, before.phase, before.error
        elif before is not None and before.outcome == "failed":
            phase, error = before.phase, before.error
        elif outcome != "passed":
            error = said.get("error", "")
        elif phase == "teardown":
            phase = "call"
        finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        claims = tuple(RowClaim(row, missing) for row, missing in said.get("claims", ()))
        self._results[report.nodeid] = TestResult(outcome, phase, error, finished, duration_s, claims)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Stores the results; with `--rows`, fails where something that was asked for has not been proved."""
        if self._results:
            merge_results(results_file(self._root), self._results)
        if self._asked is None or session.config.option.collectonly:
            return
        for test, result in self._results.items():
            if result.outcome == "skipped":
                self._complaints.append(f"{test} was skipped (or is expected to fail), so it proves nothing")
        passed = {claim.row for result in self._results.values() if result.outcome == "passed" for claim in result.rows}
        self._complaints += [f"no test of {row} passed" for row in self._asked if row not in passed]
        if self._complaints and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Says why rows are not proved, and what those that are still lack."""
        if self._asked is None or not self._results:
            return
        terminalreporter.section("rows")
        for complaint in self._complaints:
            terminalreporter.line(f"NOT PROVED: {complaint}", red=True)
        for row in self._asked:
            claims = [claim for result in self._results.values() for claim in result.rows if claim.row == row]
            missing = dict.fromkeys(claim.missing for claim in claims if claim.missing)
            lacks = f" (partial; missing: {'; '.join(missing)})" if missing else ""
            terminalreporter.line(f"{row}: {len(claims)} tests{lacks}")
