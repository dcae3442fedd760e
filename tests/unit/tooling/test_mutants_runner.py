from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from wherry_testing.private_tree import PrivateTree
from wherry_testing.small_tree import SmallTree

_MODULE = """\
def rolls(slope: int) -> bool:
    return slope > 0


def unused() -> int:
    return 1
"""
_TESTS = """
    import os
    import subprocess
    import sys

    import pytest
    from pebble import rolls

    @pytest.mark.row("U1")
    def test_rolls_downhill_only():
        assert not rolls(-1)

    @pytest.mark.row("U1")
    @pytest.mark.parametrize("slope", [1, 2])
    def test_rolls_on_every_slope(slope):
        assert rolls(slope)

    @pytest.mark.row("U2")
    def test_another_process_sees_the_same():
        done = subprocess.run([sys.executable, "-c", "from pebble import rolls; print(rolls(-1))"],
                              env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True)
        assert done.stdout.strip() == "False"

    @pytest.mark.row("U1")
    def test_fails_anyhow():
        assert rolls(0)
"""


@pytest.fixture
def tree(tmp_path: Path) -> SmallTree:
    made = SmallTree(tmp_path / "tree")
    made.write("src/pebble.py", _MODULE)
    made.write("tests/test_pebble.py", _TESTS)
    return made


def _mutant(tree: SmallTree, name: str, old: str, new: str, *, row: str = "U1", test: str) -> None:
    assert old in _MODULE
    lines = difflib.unified_diff(
        _MODULE.splitlines(keepends=True),
        _MODULE.replace(old, new).splitlines(keepends=True),
        "a/src/pebble.py",
        "b/src/pebble.py",
    )
    header = f"# row: {row}\n# test: tests/test_pebble.py::{test}\n# what: {name}\n"
    (tree.root / "tests/mutants").mkdir(exist_ok=True)
    (tree.root / f"tests/mutants/{name}.patch").write_text(header + "".join(lines), encoding="utf-8")


def test_each_mutant_is_caught_or_told(tree: SmallTree) -> None:
    _mutant(tree, "caught", "slope > 0", "True", test="test_rolls_downhill_only")
    _mutant(tree, "caught-by-a-parameter", "slope > 0", "slope > 1", test="test_rolls_on_every_slope")
    _mutant(tree, "caught-elsewhere", "slope > 0", "True", row="U2", test="test_another_process_sees_the_same")
    _mutant(tree, "survives", "return 1", "return 2", test="test_rolls_downhill_only")
    _mutant(tree, "breaks-the-import", "def rolls", "def rolled", test="test_rolls_downhill_only")
    _mutant(tree, "breaks-a-name", "return slope", "return slopes", test="test_rolls_downhill_only")
    _mutant(tree, "fails-anyhow", "slope > 0", "True", test="test_fails_anyhow")
    _mutant(tree, "no-test", "slope > 0", "True", test="test_not_there")
    _mutant(tree, "wrong-row", "slope > 0", "True", row="U3", test="test_rolls_downhill_only")
    tree.write("tests/mutants/stale.patch", "")
    stale = (tree.root / "tests/mutants/caught.patch").read_text().replace("return slope > 0", "return slope > 9")
    (tree.root / "tests/mutants/stale.patch").write_text(stale)
    source = tree.root / "src/pebble.py"
    done = tree.run("wherry_testing.mutants", "--jobs", "2")
    lines = dict(line.split(": ", 1) for line in done.stdout.partition("Mutants")[0].splitlines())
    assert done.returncode == 1
    assert {name for name, said in lines.items() if said == "caught"} == {
        "caught",
        "caught-by-a-parameter",
        "caught-elsewhere",
    }
    assert lines["survives"] == "SURVIVED"
    assert lines["breaks-the-import"] == "not caught by an assertion: the test could not be collected"
    assert lines["breaks-a-name"] == "not caught by an assertion: NameError in call"
    assert lines["fails-anyhow"].startswith("the test does not pass without the patch")
    assert lines["no-test"] == "there is no such test"
    assert lines["wrong-row"] == "the test does not name the row U3"
    assert lines["stale"].startswith("the patch does not apply")
    assert "10 mutants: 3 caught, 7 not" in done.stdout
    assert source.read_text() == _MODULE


def test_all_caught_is_success_and_a_name_chooses(tree: SmallTree) -> None:
    _mutant(tree, "caught", "slope > 0", "True", test="test_rolls_downhill_only")
    _mutant(tree, "survives", "return 1", "return 2", test="test_rolls_downhill_only")
    done = tree.run("wherry_testing.mutants", "--only", "cau*")
    assert done.returncode == 0
    assert "1 mutants: 1 caught, 0 not" in done.stdout
    none = tree.run("wherry_testing.mutants", "--only", "other")
    assert (none.returncode, none.stderr.strip()) == (2, "no mutant fits other")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("# test: tests/test_pebble.py::test_x\n# what: x\n", "bad.patch: no line `# row: …`"),
        ("# row: U1\n# what: x\n", "bad.patch: no line `# test: …`"),
        ("# row: U1\n# row: U2\n# test: t\n# what: x\n", "`# row:` is there twice"),
        ("# row: X9\n# test: t\n# what: x\n", "bad.patch: no such row: X9"),
    ],
)
def test_a_patch_that_is_no_mutant_is_told(tree: SmallTree, header: str, words: str) -> None:
    tree.write("tests/mutants/bad.patch", header)
    done = tree.run("wherry_testing.mutants")
    assert done.returncode == 2
    assert words in done.stderr


def test_the_copy_has_new_files_and_not_the_ignored_ones(tree: SmallTree) -> None:
    tree.write(".gitignore", "secret.txt\n")
    tree.write("secret.txt", "x")
    tree.write("new file.txt", "x")
    with PrivateTree(tree.root) as copy:
        assert (copy.root / "new file.txt").exists()
        assert copy.root.parent.stat().st_mode & 0o777 == 0o755
        assert not (copy.root / "secret.txt").exists()
    assert not copy.root.exists()


def test_our_own_packages_come_from_the_copy_in_every_process(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    probe = "test_probe.py"
    with PrivateTree(root) as copy:
        (copy.root / "tests" / probe).write_text(
            "import subprocess, sys\n"
            "from pathlib import Path\n"
            "import wherry_chassis, wherry.user.v1.user_service_pb2 as contracts, wherry_testing.rows\n"
            "ROOT = Path(__file__).resolve().parents[1]\n"
            "def test_here():\n"
            "    for module in (wherry_chassis, contracts, wherry_testing.rows):\n"
            "        assert Path(module.__file__).is_relative_to(ROOT)\n"
            "def test_in_a_process_without_our_environment():\n"
            "    code = 'import wherry_chassis; print(wherry_chassis.__file__)'\n"
            "    said = subprocess.run([sys.executable, '-c', code], env={}, capture_output=True, text=True).stdout\n"
            "    assert Path(said.strip()).is_relative_to(ROOT)\n"
        )
        results = copy.run_tests([f"tests/{probe}"])
    assert [result.outcome for result in results.values()] == ["passed", "passed"]
