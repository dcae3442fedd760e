"""Compares two directories byte by byte on the file systems themselves: nothing of Wherry's is asked."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Comparison:
    """What a comparison found; paths are relative.

    Attributes:
        files, directories, empty_directories, size_bytes: what is the same on both sides.
        differences: a line for each thing that is not.
    """

    files: int = 0
    directories: int = 0
    empty_directories: int = 0
    size_bytes: int = 0
    differences: list[str] = field(default_factory=list)


def compare(source: Path, destination: Path) -> Comparison:
    """Returns how two directory trees compare, their tops included: names, kinds, the SHA-256 of every file."""
    found = Comparison()
    here, there = _tree(source), _tree(destination)
    for path in sorted(here.keys() | there.keys()):
        shown = os.fsdecode(path)
        if path not in there:
            found.differences.append(f"missing at the destination: {shown!r}")
        elif path not in here:
            found.differences.append(f"only at the destination: {shown!r}")
        elif here[path] != there[path]:
            found.differences.append(f"differs: {shown!r}")
        elif (size := here[path].size_bytes) is None:
            found.directories += 1
            found.empty_directories += here[path].empty
        else:
            found.files += 1
            found.size_bytes += size
    return found


@dataclass(frozen=True)
class _Entry:
    size_bytes: int | None = None
    sha256: str = ""
    empty: bool = False


def _tree(top: Path) -> dict[bytes, _Entry]:
    entries: dict[bytes, _Entry] = {}
    root = os.fsencode(top)
    for folder, folders, names in os.walk(root):
        entries[os.path.relpath(folder, root)] = _Entry(empty=not folders and not names)
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  # names are bytes
            with open(path, "rb") as stream:  # noqa: PTH123  # as above
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            entries[os.path.relpath(path, root)] = _Entry(os.stat(path).st_size, digest)  # noqa: PTH116  # as above
    return entries
