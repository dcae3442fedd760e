"""A tree with one module and a few tests, for the tests of our own test tools."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SUPPORT = Path(__file__).resolve().parents[1]

_PYPROJECT = f"""\
[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["{SUPPORT}", "src"]
addopts = ["--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider"]
markers = ["row(id, missing=None): see the plugin"]
"""
_ACCEPTANCE = """\
# Rows
| row | requirement |
| --- | --- |
| U1 | Pebbles roll |
| U2 | Pebbles stop |
| U3 | Pebbles float |
"""


class SmallTree:
    """A tree in a folder, under a version control of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("pyproject.toml", _PYPROJECT)
        self.write("docs/acceptance.md", _ACCEPTANCE)
        self.write("tests/conftest.py", 'pytest_plugins = ["wherry_testing.rows"]\n')
        subprocess.run(["git", "init", "-q", str(root)], check=True)

    def write(self, name: str, text: str) -> None:
        """Writes a file, its indentation removed."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs pytest in it."""
        return self.run("pytest", *arguments)

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a module in it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            # Other plugins take most of the time and are not wanted here.
            env={**inherited, "PYTHONPATH": str(SUPPORT), "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
