"""The last result of each test, kept between runs in `tests/.results.json`."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wherry_testing.acceptance_rows import RowClaim


@dataclasses.dataclass(frozen=True, slots=True)
class TestResult:
    """How a test ended when it last ran.

    Attributes:
        outcome: `passed`, `failed`, or `skipped` (an expected failure counts as skipped: it proves nothing).
        phase: `setup`, `call` or `teardown`, where that was decided.
        error: the type of the exception, as `AssertionError`; empty where there was none.
        finished: when, ISO 8601, UTC.
        duration_s: of all phases.
        rows: what the test proves.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    outcome: str
    phase: str
    error: str
    finished: str
    duration_s: float
    rows: tuple[RowClaim, ...] = ()


def results_file(root: Path) -> Path:
    """Returns where the results of a tree are kept."""
    return root / "tests" / ".results.json"


def load_results(file: Path) -> dict[str, TestResult]:
    """Returns results by test id; none where there is no file yet."""
    if not file.exists():
        return {}
    raw: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return {test: _result(entry) for test, entry in raw.items()}


def merge_results(file: Path, new: Mapping[str, TestResult]) -> None:
    """Puts new results beside those of other tests; runs that end at the same time do not lose each other's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        merged = load_results(file) | dict(new)
        fresh = file.with_name(f"{file.name}.new")
        entries = {test: dataclasses.asdict(result) for test, result in sorted(merged.items())}
        fresh.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        fresh.replace(file)
    finally:
        os.close(folder)


def _result(entry: dict[str, Any]) -> TestResult:
    claims = tuple(RowClaim(claim["row"], claim["missing"]) for claim in entry["rows"])
    return TestResult(**{**entry, "rows": claims})
