"""Which files of a copy are on their way, and which wait: for room, or for another that is to have the same place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from wherry_worker.engine.file_course import Course

_FILES_UNDER_WAY = 384
_BYTES_UNDER_WAY = 512 << 20
"""Beyond this only the file that moves and the one behind it: a pause finishes what has been begun."""


class FilesInTurn:
    """See the module.

    Attributes:
        under_way: by index.
    """

    def __init__(self) -> None:
        self.under_way: dict[int, Course] = {}
        self._todo: deque[Course] = deque()
        self._in_turn: deque[Course] = deque()
        """Those that have the destination of one before them: each would find nothing there, and replace the other."""
        self._places: dict[bytes, int] = {}
        """Which item is to be, or to be tried, at a path."""
        self._bytes = 0

    def add(self, courses: Iterable[Course]) -> None:
        """Takes files, each once."""
        for course in courses:
            (self._todo if self.claim(course, course.final) else self._in_turn).append(course)

    def claim(self, course: Course, path: bytes) -> bool:
        """Takes a path for a file; tells whether it has it."""
        return self._places.setdefault(path, course.item.index) == course.item.index

    def admitted(self) -> Iterator[Course]:
        """Yields those that are under way from now on, as many as may be."""
        if not self._todo and not self.under_way:
            self._take_turns()
        while self._todo and len(self.under_way) < _FILES_UNDER_WAY:
            if len(self.under_way) >= 2 and self._bytes + self._todo[0].size_bytes > _BYTES_UNDER_WAY:
                return
            course = self._todo.popleft()
            self.under_way[course.item.index] = course
            self._bytes += course.item.size_bytes
            yield course

    def drop(self, course: Course) -> None:
        """Notes that a file is under way no more."""
        if self.under_way.pop(course.item.index, None) is not None:
            self._bytes -= course.item.size_bytes

    def halt(self) -> None:
        """Leaves those that wait."""
        self._todo.clear()
        self._in_turn.clear()

    def begin_anew(self) -> list[Course]:
        """Has all that are under way wait again, before the others; returns them."""
        again = sorted(self.under_way.values(), key=lambda course: course.item.index)
        self.under_way.clear()
        self._bytes = 0
        self._todo.extendleft(reversed(again))
        return again

    def _take_turns(self) -> None:
        """Has the next file of each destination that several have begin."""
        places: set[bytes] = set()
        for _ in range(len(self._in_turn)):
            course = self._in_turn.popleft()
            (self._in_turn if course.final in places else self._todo).append(course)
            places.add(course.final)
