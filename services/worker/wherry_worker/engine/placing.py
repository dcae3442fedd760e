"""Gives a verified file its name; what has it makes room where the server does not replace, and comes back else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wherry_gridftp import operations
from wherry_gridftp.errors import Refused

from wherry_worker.engine.gridftp_door import door_error
from wherry_worker.engine.namespace import DoorError

if TYPE_CHECKING:
    from wherry_worker.engine.crew import Crew
    from wherry_worker.engine.file_course import Course


class Placing:
    """One file's last step; nothing here waits.

    Args:
        placed: called when it is there.
        failed: called when it is not; what was there is as it was, if the server let it.
    """

    def __init__(
        self, crew: Crew, course: Course, placed: Callable[[], None], failed: Callable[[DoorError], None]
    ) -> None:
        self._crew = crew
        self._course = course
        self._placed = placed
        self._failed = failed

    def begin(self, *, is_taken: bool) -> None:
        """Renames; `is_taken` says whether something has the name."""
        course = self._course
        if not is_taken or self._crew.rename_replaces:
            self._rename(course.temporary, course.final, self._placed, self._failed)
            return
        aside = self._crew.aside(course)

        def back(error: DoorError) -> None:
            self._rename(aside, course.final, lambda: self._failed(error), self._failed)

        def placed() -> None:
            course.left.append(aside)
            self._placed()

        def made_room() -> None:
            self._rename(course.temporary, course.final, placed, back)

        self._rename(course.final, aside, made_room, self._failed)

    def _rename(
        self, path: bytes, new_path: bytes, done: Callable[[], None], failed: Callable[[DoorError], None]
    ) -> None:
        def take(answer: Refused | None) -> None:
            if answer is None:
                done()
            else:
                failed(door_error("rename", answer))

        operations.rename(self._crew.names("destination"), path, new_path, self._course.heard(take))
