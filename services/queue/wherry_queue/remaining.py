"""How long a job will still take, as an interval, from the rates at which it has moved lately: pure functions.

The rates of single seconds vary widely, and so does what comes next. What is said is therefore an interval, out of the
rates of the last minutes without their extremes: a tenth of them at either end. Nothing is said where nothing is known.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass

STEP_S = 2.0
"""A rate is measured over so long."""
STEPS = 90
"""So many of them are remembered: three minutes."""
_FEWEST = 2
STALL_S = 30.0
"""A job that has not moved for so long may never move again: nothing is said of it then."""
_SLOWEST = 0.1
"""However unevenly it moves, for long it is not expected to be slower than this part of its average."""
LONGEST_S = 10 * 365 * 86_400.0
"""Longer is not told: what is said stays a number that messages can hold."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a job comes to move in a second, at least and at most; 0: nothing can be said."""

    bytes_least: float = 0.0
    bytes_most: float = 0.0
    files_least: float = 0.0
    files_most: float = 0.0


UNKNOWN = Rates()


@dataclass(frozen=True, slots=True)
class Interval:
    """A time in seconds that is expected to lie between the two."""

    least_s: float
    most_s: float


def remaining(files: int, size_bytes: int, rates: Rates) -> Interval | None:
    """Returns how long it takes to move so many files and bytes; None: nothing can be said.

    Both have to be moved: it takes as long as the slower of the two. Where bytes move and no file has come to its end
    for as long as is remembered, files are so large that the bytes alone decide.
    """
    if files <= 0 and size_bytes <= 0:
        return None
    wanted = [(size_bytes, rates.bytes_least, rates.bytes_most)]
    if size_bytes <= 0 or rates.files_least > 0:
        wanted.append((files, rates.files_least, rates.files_most))
    ends = [(left / most, left / least) for left, least, most in wanted if left > 0 and least > 0 and most > 0]
    if len(ends) < sum(left > 0 for left, _, _ in wanted):
        return None
    least_s, most_s = (min(max(values), LONGEST_S) for values in zip(*ends, strict=True))
    return Interval(least_s, most_s)


def ends_of(rates: Sequence[float]) -> tuple[float, float]:
    """Returns the least and the most that rates come to be, out of equally long times; 0 and 0: nothing can be said."""
    mean = math.fsum(rates) / len(rates) if len(rates) >= _FEWEST else 0.0
    if mean <= 0:
        return 0.0, 0.0
    ordered = sorted(rates)
    tenth = len(ordered) // 10
    # Never without the average between them, which one long stop or one short burst may lie beyond.
    return max(min(ordered[tenth], mean), mean * _SLOWEST), max(ordered[-1 - tenth], mean)


class RateHistory:
    """The rates of one job over the last minutes, out of sums that only grow."""

    def __init__(self) -> None:
        self._begun: tuple[float, int, int] | None = None
        self._steps: collections.deque[tuple[float, float]] = collections.deque(maxlen=STEPS)
        self._moved: tuple[float, int, int] | None = None

    def add(self, now_s: float, size_bytes: int, files: int) -> None:
        """Notes how much has been moved by now in all."""
        if self._begun is None:
            self._begun = self._moved = (now_s, size_bytes, files)
            return
        if self._moved is None or self._moved[1:] != (size_bytes, files):
            self._moved = (now_s, size_bytes, files)
        began_s, bytes_then, files_then = self._begun
        if (passed_s := now_s - began_s) >= STEP_S:
            # An attempt that was given up takes back what it had moved: that is no rate.
            more_bytes, more_files = max(size_bytes - bytes_then, 0), max(files - files_then, 0)
            self._steps.append((more_bytes / passed_s, more_files / passed_s))
            self._begun = (now_s, size_bytes, files)

    def rates(self, now_s: float) -> Rates:
        """Returns what it comes to move."""
        if self._moved is None or now_s - self._moved[0] >= STALL_S:
            return UNKNOWN
        of_bytes = ends_of([rate for rate, _ in self._steps])
        of_files = ends_of([rate for _, rate in self._steps])
        return Rates(*of_bytes, *of_files)
