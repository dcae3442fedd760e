"""The directory that the demonstration copies: many small files, one large one, and every kind of name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry_deploy.demonstration.failing import DemonstrationFailed

NAME = "measurements"
LARGE_BYTES = 300_000_000
_BLOCK_BYTES = 1 << 20
_READINGS = ("2024-05", "2024-06")
_HOURS = 24
EMPTY_DIRECTORIES = ("empty directory", "series/still to come")
_ODD_NAMES = (
    "name with spaces.txt",
    "run #7, 100% done.csv",
    "percent%20is not a space.txt",
    'it\'s "quoted".txt',
    "Zürich – Übersicht.txt",
    "cafe\u0301, decomposed.txt",
    "測定結果.dat",
    "данные.dat",
    "sample 🧪.dat",
    "-starts with a dash",
    "--recursive",
    "query?copy_mode=pull&x=1.txt",
    "a+b=c;d,e@f.txt",
    "back\\slash.txt",
    "$HOME `id` $(id).txt",
    "[brackets] {braces} (parens).txt",
    "star * and pipe |.txt",
    "<angle> & ampersand.txt",
    "colon: tilde~ caret^.txt",
    ".hidden",
    "no content at all",
)
_NO_CONTENT = "no content at all"


@dataclass(frozen=True)
class SourceFile:
    """A file to be there: its path in the directory, and its size."""

    path: str
    size_bytes: int


def files() -> Iterator[SourceFile]:
    """Yields what the directory holds, beside the empty directories."""
    sizes = random.Random("sizes")  # noqa: S311  # the same in each run; nothing is secret
    for month in _READINGS:
        for hour in range(_HOURS):
            yield SourceFile(f"readings/{month}/hour-{hour:02}.csv", sizes.randrange(1_000, 40_000))
    for name in _ODD_NAMES:
        yield SourceFile(f"odd names/{name}", 0 if name == _NO_CONTENT else sizes.randrange(1, 5_000))
    yield SourceFile("series/a/b/c/d/leaf.dat", 12_345)
    yield SourceFile("detector/run-0001.raw", LARGE_BYTES)


def make(parent: Path) -> bool:
    """Makes what is missing of the directory below `parent`; returns whether anything was.

    Raises:
        DemonstrationFailed: it cannot be written.
    """
    top, changed = parent / NAME, False
    try:
        for folder in EMPTY_DIRECTORIES:
            if not (top / folder).is_dir():
                (top / folder).mkdir(parents=True)
                changed = True
        for file in files():
            path = top / file.path
            if not path.is_file() or path.stat().st_size != file.size_bytes:
                path.parent.mkdir(parents=True, exist_ok=True)
                _fill(path, file)
                changed = True
    except OSError as error:
        raise DemonstrationFailed(f"{error.filename or top}: cannot be written: {error.strerror}") from error
    return changed


def _fill(path: Path, file: SourceFile) -> None:
    """Pseudo-random bytes: nothing that a file system or a network could make smaller."""
    generator = random.Random(file.path)  # noqa: S311  # the same in each run; nothing is secret
    left = file.size_bytes
    with path.open("wb") as stream:
        while left:
            block = min(left, _BLOCK_BYTES)
            stream.write(generator.randbytes(block))
            left -= block
