"""Which entries a copy takes: patterns on names and paths. Pure.

A pattern with a slash is held against the path below the item that was named, else against the name alone. What
patterns mean is wcmatch's: `*` and `?` stand for characters of one name, `[abc]` and `[!abc]` for one of them, `**` for
any directories, none among them; a leading dot is a character like any other.

Patterns are users', and this runs among everybody's leases: a path is followed part by part, so that no pattern takes
longer than its parts times the path's. As one expression, a few `**` and a deep path took for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from wcmatch import glob

_OF_ONE_NAME = glob.DOTGLOB | glob.CASE
_DIRECTORIES = "**"
_KEPT = 2048
"""Of patterns, and of directories with patterns: many more than are walked at a time."""

PathPattern = tuple[str, ...]
"""A pattern's parts, each for one name, or `**`, after which there is another."""


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
    return any(
        _fits(pattern, name) if "/" not in pattern else _ends_with(_path_pattern(pattern), path_below, name)
        for pattern in patterns
    )


@lru_cache(maxsize=_KEPT)
def _path_pattern(pattern: str) -> PathPattern:
    parts = [part for part in pattern.split("/") if part]
    if parts and parts[-1] == _DIRECTORIES:
        parts.append("*")  # what lies below, and not the directory itself
    return tuple(parts)


def _ends_with(pattern: PathPattern, path_below: str, name: str) -> bool:
    """Tells whether a pattern holds of a path that ends with `name`."""
    return len(pattern) in _after(pattern, _within(pattern, path_below), name)


@lru_cache(maxsize=_KEPT)
def _within(pattern: PathPattern, path_below: str) -> frozenset[int]:
    """Returns how far the pattern may have come when the directory's parts have been met."""
    reached = _with_none(pattern, {0})
    for part in path_below.split("/"):
        if part and reached:
            reached = _after(pattern, reached, part)
    return reached


def _after(pattern: PathPattern, reached: frozenset[int], part: str) -> frozenset[int]:
    """Returns how far the pattern may have come after one more part of a path."""
    further: set[int] = set()
    for place in reached:
        if place == len(pattern):
            continue
        if pattern[place] == _DIRECTORIES:
            further.add(place)
        elif _fits(pattern[place], part):
            further.add(place + 1)
    return _with_none(pattern, further)


def _with_none(pattern: PathPattern, places: set[int]) -> frozenset[int]:
    """Adds those that are reached where `**` stands for no directory."""
    for place in range(len(pattern)):
        if place in places and pattern[place] == _DIRECTORIES:
            places.add(place + 1)
    return frozenset(places)


def _fits(pattern: str, name: str) -> bool:
    return any(one.fullmatch(name) for one in _expressions(pattern))


@lru_cache(maxsize=_KEPT)
def _expressions(pattern: str) -> tuple[re.Pattern[str], ...]:
    expressions, _ = glob.translate(pattern, flags=_OF_ONE_NAME)
    return tuple(re.compile(one) for one in expressions)
