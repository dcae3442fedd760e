from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wherry_testing.small_tree import SmallTree

_TESTS = """
    import pytest

    @pytest.mark.row("U1")
    def test_rolls(): pass

    @pytest.mark.row("U1", missing="uphill")
    @pytest.mark.row("U2")
    def test_rolls_and_stops(): pass

    def test_of_no_row(): pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> SmallTree:
    made = SmallTree(tmp_path)
    made.write("tests/test_pebbles.py", _TESTS)
    return made


def _results(tree: SmallTree) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tree.root / "tests/.results.json").read_text())
    return found


def test_only_the_tests_of_the_rows_asked_for_run_and_what_they_lack_is_told(tree: SmallTree) -> None:
    done = tree.pytest("--rows", "U1")
    assert done.returncode == 0
    assert "2 passed, 1 deselected" in done.stdout
    assert "U1: 2 tests (partial; missing: uphill)" in done.stdout
    assert "1 passed, 2 deselected" in tree.pytest("--rows=U2").stdout


def test_what_several_processes_found_out_is_kept_in_one_place(tree: SmallTree) -> None:
    tree.write(
        "tests/test_more.py",
        """
        import pytest

        @pytest.mark.row("U3", missing="in salt water")
        def test_floats(): raise KeyError("stone")
    """,
    )
    tree.pytest("-p", "xdist", "-n", "2", "--dist", "loadfile")
    results = _results(tree)
    assert {test.split("::")[1]: result["outcome"] for test, result in results.items()} == {
        "test_rolls": "passed", "test_rolls_and_stops": "passed", "test_of_no_row": "passed", "test_floats": "failed",
    }  # fmt: skip
    failed = results["tests/test_more.py::test_floats"]
    assert (failed["error"], failed["rows"]) == ("KeyError", [{"row": "U3", "missing": "in salt water"}])
    assert (
        "U3: 1 tests (partial; missing: in salt water)" in tree.pytest("-p", "xdist", "-n", "2", "--rows", "U3").stdout
    )


def test_a_row_without_a_test_fails_and_says_which(tree: SmallTree) -> None:
    done = tree.pytest("--rows", "U1,U3")
    assert done.returncode != 0
    assert "--rows: no test proves U3: Pebbles float" in done.stderr


@pytest.mark.parametrize(("rows", "words"), [("U1,X9", "no such row: X9"), ("", "no row is named")])
def test_a_row_that_there_is_not_is_refused(tree: SmallTree, rows: str, words: str) -> None:
    done = tree.pytest("--rows", rows)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    "body",
    [
        '@pytest.mark.skip("no time")\n    def test_x(): pass',
        "@pytest.mark.xfail\n    def test_x(): assert False",
        "def test_x(): pytest.skip('later')",
        "@pytest.fixture\n    def f(): pytest.skip('no server')\n\n    @pytest.mark.row('U3')\n    def test_x(f): pass",
    ],
)
def test_a_skipped_test_is_no_proof(tree: SmallTree, body: str) -> None:
    marked = body if "mark.row" in body else f'@pytest.mark.row("U3")\n    {body}'
    tree.write("tests/test_skipped.py", f"    import pytest\n\n    {marked}\n")
    assert tree.pytest().returncode == 0
    done = tree.pytest("--rows", "U3,U1")
    assert done.returncode == 1
    assert "NOT PROVED: tests/test_skipped.py::test_x was skipped" in done.stdout
    assert "NOT PROVED: no test of U3 passed" in done.stdout


def test_a_failing_test_of_a_row_fails_the_run(tree: SmallTree) -> None:
    tree.write("tests/test_fails.py", 'import pytest\n\n@pytest.mark.row("U3")\ndef test_x(): assert False\n')
    assert tree.pytest("--rows", "U3").returncode == 1


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ('row("X9")', "no such row: X9"),
        ("row()", "a row is marked as"),
        ('row("U1", "U2")', "a row is marked as"),
        ('row("U1", lacks="x")', "a row is marked as"),
        ('row("U1", missing="")', "a row is marked as"),
    ],
)
def test_a_wrong_mark_is_an_error_of_every_run(tree: SmallTree, mark: str, words: str) -> None:
    tree.write("tests/test_wrong.py", f"import pytest\n\n@pytest.mark.{mark}\ndef test_x(): pass\n")
    done = tree.pytest()
    assert done.returncode not in (0, 1)
    assert f"tests/test_wrong.py::test_x: {words}" in done.stderr


@pytest.mark.parametrize("arguments", [("--rows", "U1"), ("-k", "rolls"), ("--collect-only",)])
def test_a_wrong_mark_is_an_error_whatever_is_chosen(tree: SmallTree, arguments: tuple[str, ...]) -> None:
    tree.write("tests/test_wrong.py", 'import pytest\n\n@pytest.mark.row("X9")\ndef test_x(): pass\n')
    assert "no such row: X9" in tree.pytest(*arguments).stderr


def test_results_are_kept_by_test_over_runs(tree: SmallTree) -> None:
    tree.write("tests/test_fails.py", "def test_x(): assert False\n")
    tree.pytest("tests/test_fails.py")
    tree.pytest("tests/test_pebbles.py")
    results = _results(tree)
    assert len(results) == 4
    assert results["tests/test_fails.py::test_x"]["error"] == "AssertionError"
    assert results["tests/test_pebbles.py::test_rolls_and_stops"]["rows"] == [
        {"row": "U2", "missing": None},
        {"row": "U1", "missing": "uphill"},
    ]
    tree.write("tests/test_fails.py", "def test_x(): pass\n")
    tree.pytest("tests/test_fails.py")
    assert _results(tree)["tests/test_fails.py::test_x"]["outcome"] == "passed"


def test_a_failure_outside_the_tests_body_is_told_apart(tree: SmallTree) -> None:
    tree.write(
        "tests/test_phases.py",
        """
        import pytest

        @pytest.fixture
        def broken(): raise OSError

        @pytest.fixture
        def leaves_badly():
            yield
            raise KeyError

        def test_a(broken): pass
        def test_b(leaves_badly): pass
        def test_c(leaves_badly): raise ImportError
        """,
    )
    tree.pytest("tests/test_phases.py")
    results = {name[-1]: (found["outcome"], found["phase"], found["error"]) for name, found in _results(tree).items()}
    assert results == {
        "a": ("failed", "setup", "OSError"),
        "b": ("failed", "teardown", "KeyError"),
        "c": ("failed", "call", "ImportError"),
    }


def test_the_report_shows_every_row_as_it_stands(tree: SmallTree) -> None:
    tree.write("tests/test_more.py", 'import pytest\n\n@pytest.mark.row("U3")\ndef test_floats(): assert False\n')
    tree.pytest("tests/test_pebbles.py")
    shown = tree.run("wherry_testing.acceptance").stdout
    assert "3 rows: 1 proved, 1 partial, 0 FAILED, 1 not run, 0 no test" in shown
    assert "uphill" in shown
    tree.pytest("tests/test_more.py")
    assert "1 proved, 1 partial, 1 FAILED, 0 not run, 0 no test" in tree.run("wherry_testing.acceptance").stdout
    (tree.root / "tests/test_more.py").unlink()
    assert "1 proved, 1 partial, 0 FAILED, 0 not run, 1 no test" in tree.run("wherry_testing.acceptance").stdout


def test_the_report_fails_where_the_tests_cannot_be_collected(tree: SmallTree) -> None:
    tree.write("tests/test_broken.py", "import nowhere_at_all\n")
    done = tree.run("wherry_testing.acceptance")
    assert done.returncode == 1
    assert "nowhere_at_all" in done.stderr


@pytest.mark.parametrize(("text", "words"), [("# none\n", "no row"), ("| U1 | a |\n| U1 | b |\n", "U1 is there twice")])
def test_a_table_of_rows_that_cannot_be_used_is_refused(tree: SmallTree, text: str, words: str) -> None:
    tree.write("docs/acceptance.md", text)
    done = tree.pytest()
    assert done.returncode != 0
    assert words in done.stderr
