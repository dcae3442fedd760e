"""Files of which a part is at the destination already: taken over under a new name, and only the rest is sent.

What an older server process may still be writing to stays out of the way by its name: right bytes at the right place
do no harm, and a file that it makes anew is nobody's. What is known from the destination's own markers is believed; of
what another engine has left, both servers sum as much as is there, and not by adler32, which does not tell an edited
source from the one before (of `0.131` and `0.212`). A whole checksum at the end decides in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from wherry_gridftp import operations
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import Refused
from wherry_gridftp.markers import Range

from wherry_worker.engine.messages import CopyFiles, Side
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.stale import Stale, largest_of_each

if TYPE_CHECKING:
    from wherry_worker.engine.crew import Crew
    from wherry_worker.engine.file_course import Course

_PART_BYTES = 1 << 20
"""What is believed of a file is a multiple of this; nothing shorter is worth the questions."""


@dataclass(frozen=True, slots=True)
class PartialFile:
    """What is there of a file.

    Attributes:
        path: where.
        ranges: which bytes are right; empty: that is to be found out.
        of: the source as it was then; None: nobody knows.
    """

    path: bytes
    ranges: tuple[Range, ...] = ()
    of: Entry | None = None

    @property
    def size_bytes(self) -> int:
        """How much is believed."""
        return sum(last - first for first, last in self.ranges)


def whole_but_the_end(size_bytes: int) -> tuple[Range, ...]:
    """Returns what is there of a file that has arrived: servers need not know how to send nothing."""
    return ((0, size_bytes - _PART_BYTES),) if size_bytes > _PART_BYTES else ()


def prefix_to_prove(written_bytes: int, size_bytes: int, slack_bytes: int) -> int:
    """Returns how much of the beginning of a partial file is worth a look; 0: nothing.

    Args:
        written_bytes: its size.
        size_bytes: the source's. A file that is larger than that is of another.
        slack_bytes: so much at the end may have holes.
    """
    if written_bytes > size_bytes:
        return 0
    return max(written_bytes - slack_bytes, 0) // _PART_BYTES * _PART_BYTES


def is_worth_keeping(stale: Stale, slack_bytes: int) -> bool:
    """Tells whether a copy could go on from what is there."""
    return prefix_to_prove(stale.size_bytes, stale.size_bytes, slack_bytes) > 0


def keep_resumable(found: Sequence[Stale], slack_bytes: int) -> Sequence[Stale]:
    """Returns what is kept for another copy."""
    return largest_of_each(stale for stale in found if is_worth_keeping(stale, slack_bytes))


def keep_needed(found: Sequence[Stale], task: CopyFiles, slack_bytes: int) -> Sequence[Stale]:
    """Returns what a task can go on from, and what is left for later.

    The whole of a file's temporary is never larger than what the listing said of it, or the file is another by now.
    """
    if task.verification != "checksum":
        return ()
    places = {
        item.index: parent(join(task.destination_directory, item.destination_name))
        for item in task.items
        if item.size_bytes >= slack_bytes
    }
    later = set(task.later)
    return largest_of_each(
        stale
        for stale in found
        if is_worth_keeping(stale, slack_bytes)
        and (stale.name.index in later or places.get(stale.name.index) == stale.directory)
    )


class TakingOver:
    """Makes a partial file one's own; nothing here waits.

    Args:
        then: gets the file under its new name with what is believed of it; None: it is sent from the start.
    """

    def __init__(
        self, crew: Crew, course: Course, found: PartialFile, then: Callable[[PartialFile | None], None]
    ) -> None:
        self._crew = crew
        self._course = course
        self._found = found
        self._then = then
        self._sums: dict[Side, str] = {}
        self._path = b""

    def begin(self) -> None:
        """Renames first: then it is nobody else's."""
        self._path = self._course.next_temporary()
        names = self._crew.names("destination")
        operations.rename(names, self._found.path, self._path, self._course.heard(self._renamed))

    def _renamed(self, answer: Refused | None) -> None:
        if answer is not None:
            self._reject()
        elif self._found.ranges:
            self._believe(self._found.ranges)
        else:
            names = self._crew.names("destination")
            operations.stat(names, self._path, self._course.heard(self._looked_at))

    def _looked_at(self, answer: Entry | Refused | None) -> None:
        size_bytes = 0
        if isinstance(answer, Entry) and answer.kind == "file":
            size_bytes = prefix_to_prove(answer.size_bytes, self._course.size_bytes, self._crew.resume_bytes)
        if not size_bytes:
            self._reject()
            return
        self._crew.tell(self._course, "verifying", 0)
        asked = self._crew.task.algorithm
        paths: Mapping[Side, bytes] = {"source": self._course.source, "destination": self._path}
        for side, path in paths.items():
            operations.checksum(
                self._crew.names(side),
                path,
                "md5" if asked == "adler32" else asked,
                self._course.heard(partial(self._summed, size_bytes, side)),
                patience_s=self._crew.checksum_patience_s,
                length=size_bytes,
            )

    def _summed(self, size_bytes: int, side: Side, answer: str | Refused) -> None:
        self._sums[side] = f"not told by the {side}" if isinstance(answer, Refused) else answer
        if len(self._sums) < 2:
            return
        if self._sums["source"] == self._sums["destination"]:
            self._believe(((0, size_bytes),))
        else:
            self._reject()

    def _believe(self, ranges: tuple[Range, ...]) -> None:
        self._then(PartialFile(self._path, ranges, self._found.of))

    def _reject(self) -> None:
        self._crew.remove([self._found.path, self._path])
        self._then(None)
