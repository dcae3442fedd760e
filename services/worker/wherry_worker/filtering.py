"""Which entries a copy takes: patterns on names and paths. Pure.

A pattern with a slash is held against the path below the item that was named, else against the name alone. What
patterns mean is wcmatch's: `*` and `?` stand for characters of one name, `[abc]` and `[!abc]` for one of them, `**` for
any directories, none among them; a leading dot is a character like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from wcmatch import glob

_FLAGS = glob.GLOBSTAR | glob.DOTGLOB | glob.CASE


@dataclass(frozen=True, slots=True)
class Filters:
    """What to take: files of which one of `include` holds (all, where there is none), and nothing of `exclude`."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes_file(self, path_below: str, name: str) -> bool:
        """Tells whether a file is copied; `path_below` is its directory's path below the item, empty at its top."""
        if self.excludes(path_below, name):
            return False
        return not self.include or _holds(self.include, path_below, name)

    def excludes(self, path_below: str, name: str) -> bool:
        """Tells whether an entry is left out with all that it holds."""
        return bool(self.exclude) and _holds(self.exclude, path_below, name)


EVERYTHING = Filters()


def _holds(patterns: tuple[str, ...], path_below: str, name: str) -> bool:
    of_names, of_paths = _sorted(patterns)
    path = f"{path_below}/{name}" if path_below else name
    return _matches(of_names, name) or _matches(of_paths, path)


@cache
def _sorted(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parts patterns on names from those on paths."""
    names = tuple(pattern for pattern in patterns if "/" not in pattern)
    return names, tuple(pattern.strip("/") for pattern in patterns if "/" in pattern)


def _matches(patterns: Sequence[str], path: str) -> bool:
    return bool(patterns) and glob.globmatch(path, patterns, flags=_FLAGS)
