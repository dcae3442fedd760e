"""Directories that exist by their names alone: the same at every look, however large.

`/synthetic/3x2x100` holds 3 sub-directories (`d000`, …) and 100 files (`f000000`, …); so does each sub-directory, down
to 2 levels below it, the last of which holds files only. A name may follow the numbers, so that two jobs need not work
at one path: `/synthetic/3x2x100-mine`. Sizes come from the path's hash, 1 byte to 16 MB, small ones as often as large
ones on a logarithmic scale. Any other path under `/synthetic` is a file, and so is every path elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from wherry_worker.engine.messages import Entry
from wherry_worker.engine.paths import to_bytes

_TOP = re.compile(r"(\d{1,3})x(\d{1,2})x(\d{1,6})(?:-[A-Za-z0-9._-]+)?")
_DIRECTORY = re.compile(r"d(\d{3})")
_LARGEST_BITS = 24
_MODIFY_TIME_S = 1_700_000_000


def share(*parts: object) -> float:
    """Returns a number from 0 up to 1 that is always the same for the same parts."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def size_of(path: str) -> int:
    """Returns a file's size in bytes."""
    return int(2 ** (share("size", path) * _LARGEST_BITS))


def directory_at(path: str) -> tuple[int, int] | None:
    """Returns how many sub-directories and files there are in a directory; None for what is a file."""
    parts = [part for part in path.split("/") if part]
    if not parts:
        return 0, 0
    top = _TOP.fullmatch(parts[1]) if len(parts) > 1 and parts[0] == "synthetic" else None
    if top is None:
        return None
    fanout, depth, files = (int(number) for number in top.groups())
    below = [_DIRECTORY.fullmatch(part) for part in parts[2:]]
    if len(below) > depth or any(found is None or int(found[1]) >= fanout for found in below):
        return None
    return (fanout if len(below) < depth else 0), files


def entries_of(path: str, after: str | None = None) -> Iterator[Entry]:
    """Yields a directory's entries in byte order, those up to and including `after` left out."""
    directories, files = directory_at(path) or (0, 0)
    behind = to_bytes(after or "")
    for number in range(directories):
        if to_bytes(name := f"d{number:03}") > behind:
            yield Entry(name, "directory", 0, _MODIFY_TIME_S, 0o755)
    for number in range(files):
        if to_bytes(name := f"f{number:06}") > behind:
            yield Entry(name, "file", size_of(f"{path.rstrip('/')}/{name}"), _MODIFY_TIME_S, 0o644)
