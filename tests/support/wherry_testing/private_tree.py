"""A private copy of the tree, with a virtual environment of its own in which our packages come from that copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from wherry_testing.run_results import TestResult, load_results, results_file

_GENERATED = ("protos/gen", "gateway/web/src/gen", "gateway/wherry_gateway/page")
"""Not in version control, and needed: the contracts as built, the page's client, and the page."""
_INSTALLED = ("gateway/web/node_modules", ".tools/node")
"""Likewise, of others' making and large: the copy points to it."""
_OF_THE_RUN_AROUND = frozenset({"PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"})
_RUN_S = 900


class PatchRefused(Exception):
    """A patch that does not apply; the message is git's."""


class PrivateTree:
    """A copy of all that version control knows or would (new files too, ignored ones not), in a temporary folder.

    The virtual environment is made of hard links, but for what names the original tree: the `.pth` files of our
    packages, which are installed editable, and the scripts' first lines. So whatever a test starts, by PATH or by
    interpreter, sees the copy's sources, with no help from the test.
    """

    def __init__(self, root: Path) -> None:
        self._original = root
        self._folder = Path(tempfile.mkdtemp(prefix="wherry-mutants-"))
        self._folder.chmod(0o755)  # servers that a test starts under other accounts have to get at it
        self.root = self._folder / "tree"
        self._environment = Path(sys.prefix)
        self._python = Path(sys.executable)

    def __enter__(self) -> Self:
        try:
            self._copy_files()
            if self._environment.is_relative_to(self._original):
                self._copy_environment()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Deletes the copy."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def run_tests(self, tests: Sequence[str], *, to_first_failure: bool = False) -> dict[str, TestResult]:
        """Runs tests in the copy; returns the results of those that could be collected and were run."""
        file = results_file(self.root)
        file.unlink(missing_ok=True)
        command = [str(self._python), "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
        if to_first_failure:
            command.append("-x")
        with (self._folder / "pytest.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(_RUN_S)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # with whatever servers the test has started
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
        return load_results(file)

    @contextlib.contextmanager
    def patched(self, patch: Path) -> Iterator[None]:
        """Applies a patch within the block.

        Raises:
            PatchRefused: it does not fit the tree.
        """
        self._git_apply(patch)
        try:
            yield
        finally:
            self._git_apply(patch, "--reverse")

    def _git_apply(self, patch: Path, *options: str) -> None:
        # The copy is no repository, and must not be taken for part of one that happens to lie above it.
        done = subprocess.run(
            ["git", "apply", "-p1", "--whitespace=nowarn", *options, str(patch)],
            cwd=self.root,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self._folder), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PatchRefused(" ".join(done.stderr.split()))

    def _variables(self) -> dict[str, str]:
        """Returns the environment of the tests: like ours, but that it leads to the copy wherever ours does here."""
        moved = {name: self._moved(value) for name, value in os.environ.items() if name not in _OF_THE_RUN_AROUND}
        # The time stamps of a source may not tell it from the same one patched, so that a cached one would be used.
        return {**moved, "PYTHONDONTWRITEBYTECODE": "1"}

    def _moved(self, text: str) -> str:
        return text.replace(str(self._original), str(self.root))

    def _copy_files(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self._original,
            capture_output=True,
            check=True,
        )
        names = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
        for name in sorted(names):
            source, target = self._original / name, self.root / name
            if source.is_symlink() or source.is_file():  # a file that has just been removed is still listed
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        for folder in _GENERATED:
            if (self._original / folder).is_dir():
                shutil.copytree(self._original / folder, self.root / folder)
        for folder in _INSTALLED:
            if (self._original / folder).is_dir():
                (self.root / folder).parent.mkdir(parents=True, exist_ok=True)
                (self.root / folder).symlink_to(self._original / folder)

    def _copy_environment(self) -> None:
        target = self.root / self._environment.relative_to(self._original)
        shutil.copytree(self._environment, target, symlinks=True, copy_function=_link)
        for file in (*target.glob("lib/python*/site-packages/*.pth"), *(target / "bin").iterdir()):
            if file.is_symlink() or not file.is_file():
                continue
            content = file.read_bytes()
            moved = content.replace(os.fsencode(self._original), os.fsencode(self.root))
            if moved != content and b"\0" not in content:  # a program is no script
                mode = file.stat().st_mode
                file.unlink()  # the other end of the hard link keeps what it has
                file.write_bytes(moved)
                file.chmod(mode)
        self._python = target / self._python.relative_to(self._environment)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
