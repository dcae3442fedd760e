"""The library as whoever installs it has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wherry_gridftp

_FOLDER = Path(wherry_gridftp.__file__).parent
_IMPORT_ALL = """
import importlib, pathlib, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder.parent))
for file in folder.glob("*.py"):
    importlib.import_module(f"wherry_gridftp.{file.stem}")
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__main__"}))
"""


@pytest.mark.row("T1")
def test_all_of_it_needs_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _IMPORT_ALL, _FOLDER], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["wherry_gridftp"]


@pytest.mark.row("T1")
def test_it_says_that_it_is_typed() -> None:
    assert (_FOLDER / "py.typed").exists()
    assert all(hasattr(wherry_gridftp, name) for name in wherry_gridftp.__all__)
