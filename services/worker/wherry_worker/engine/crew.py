"""What a file on its way needs of the copy that it is part of; `pipelined_copy.py` has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from wherry_gridftp.connection import Connection

from wherry_worker.engine.failures import Where
from wherry_worker.engine.messages import CopyFiles, CopyPhase, ItemDone, Problem, Side
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.parents import Parents

if TYPE_CHECKING:
    from wherry_worker.engine.file_course import Course


class Crew(Protocol):
    """What a file needs of the copy that it is part of."""

    @property
    def task(self) -> CopyFiles:
        """What was asked for."""
        ...

    @property
    def parents(self) -> Parents | None:
        """Makes directories; None: they are there."""
        ...

    @property
    def checksum_patience_s(self) -> float:
        """How long a server may think about a checksum."""
        ...

    @property
    def rename_replaces(self) -> bool:
        """Whether a rename at the destination replaces what is there."""
        ...

    @property
    def resume_bytes(self) -> int:
        """The least size of a file that goes on from what is there; of that, so much at the end is not believed."""
        ...

    def aside(self, course: Course) -> bytes:
        """Where a file that is in the way may stand for a moment."""
        ...

    def beside(self, course: Course, name: str) -> bytes:
        """The path of another name in the directory of a file's destination."""
        ...

    def claim(self, course: Course, path: bytes) -> bool:
        """Takes a path for a file, unless another file of the copy has, had or is to have it; tells whether it did."""
        ...

    def names(self, side: Side) -> Connection:
        """The connection for names and checksums at a door."""
        ...

    def explain(self, error: DoorError, where: Where) -> Problem:
        """What an error means for people."""
        ...

    def send(self, course: Course) -> None:
        """Has the bytes sent once it is its turn; calls `sent` when both servers have confirmed them."""
        ...

    def temporary(self, course: Course) -> bytes:
        """A path for a file's bytes that has not been used before."""
        ...

    def remove(self, paths: Iterable[bytes]) -> None:
        """Has temporary files of the destination removed, and looked for again at the end."""
        ...

    def tell(self, course: Course, phase: CopyPhase, count: int) -> None:
        """Tells how far the file is."""
        ...

    def end(self, course: Course, done: ItemDone) -> None:
        """Takes the file's end."""
        ...
