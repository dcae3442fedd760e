"""How the files of a job stand, one by one: a pure decision from what is kept of their chunk."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_queue.states import TaskState


class FileState(enum.IntEnum):
    """How a file stands; the numbers are the contract's."""

    WAITING = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5
    SKIPPED = 6
    PLANNED = 7


class ChunkFacts(Protocol):
    """What a file's state follows from; `models.Task` has it."""

    @property
    def state(self) -> int: ...  # noqa: D102  # named as in the schema
    @property
    def entry_count(self) -> int: ...  # noqa: D102
    @property
    def settled(self) -> bytes | None: ...  # noqa: D102


_UNDONE = {
    TaskState.RUNNING: FileState.RUNNING,
    TaskState.FAILED: FileState.FAILED,
    TaskState.CANCELLED: FileState.CANCELLED,
    TaskState.SUCCEEDED: FileState.DONE,
    TaskState.PLANNED: FileState.PLANNED,
}
"""What a file is that is not settled, by its chunk's state; in all others it waits."""


def kinds_in(chunk: ChunkFacts, failed: Collection[int]) -> set[FileState]:
    """Returns in which states there are files of a chunk, without going through them. `failed` as in `states_in`."""
    every = (1 << chunk.entry_count) - 1
    settled = int.from_bytes(chunk.settled or b"", "little")
    lost = sum(1 << index for index in set(failed) if 0 <= index < chunk.entry_count)
    found = set()
    if lost:
        found.add(FileState.FAILED)
    if settled & every & ~lost:
        found.add(FileState.DONE)
    if every & ~settled & ~lost:
        found.add(_undone(chunk))
    return found


def states_in(chunk: ChunkFacts, failed: Collection[int]) -> Iterator[FileState]:
    """Gives the states of a chunk's files, in their order.

    Args:
        failed: the places of those that have failed for good by themselves; `settled` has them too.
    """
    settled = int.from_bytes(chunk.settled or b"", "little")
    undone = _undone(chunk)
    for index in range(chunk.entry_count):
        if index in failed:
            yield FileState.FAILED
        else:
            yield FileState.DONE if settled >> index & 1 else undone


def _undone(chunk: ChunkFacts) -> FileState:
    return _UNDONE.get(TaskState(chunk.state), FileState.WAITING)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of files begins.

    Attributes:
        task_id: at this task.
        index: at this place in it, for a chunk; behind this failure, for a walk, which has files that it could not put
            into a chunk.
    """

    task_id: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """Why a file failed for good, as it is kept."""

    path: bytes
    size_bytes: int
    failure: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ChunkPart:
    """Files of a chunk that belong on a page.

    Attributes:
        payload: the chunk's entries, packed.
        results: what attempts told of its files, packed, oldest first; empty where no file here is done.
        files: places in the chunk, and states.
        failures: by place; at -1 that of all that have none of their own.
        extraneous: whether only the destination has them.
    """

    task_id: int
    source_path: bytes
    destination_path: bytes | None
    payload: bytes
    results: Sequence[bytes]
    files: Sequence[tuple[int, FileState]]
    failures: Mapping[int, StoredFailure]
    extraneous: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that a walk could not put into a chunk: it has failed, or was skipped.

    Attributes:
        failure_id: of its failure; a walk's are in the order of these.
    """

    task_id: int
    failure_id: int
    failure: StoredFailure
    state: FileState = FileState.FAILED

    @property
    def cursor(self) -> Cursor:
        """Where a page begins that has it first."""
        return Cursor(self.task_id, self.failure_id - 1)


@dataclass(frozen=True, slots=True)
class FilePage:
    """Some files of a job.

    Attributes:
        next: where the next page begins; None: there is none.
    """

    parts: Sequence[ChunkPart | LeftOut]
    next: Cursor | None
