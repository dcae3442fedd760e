"""What the batches of walks add to their jobs: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_queue.jobs import EXTRANEOUS_PHASE, REMOVAL_PHASE, Chunk, Found, NewTask
from wherry_queue.paths import join
from wherry_queue.states import TaskKind

_FILES_OF = {
    TaskKind.WALK_COPY: TaskKind.COPY_FILES,
    TaskKind.WALK_REMOVE: TaskKind.REMOVE_FILES,
    TaskKind.WALK_CHANGE_MODE: TaskKind.CHANGE_MODE_OF_FILES,
    TaskKind.WALK_CHECKSUM: TaskKind.CHECKSUM_FILES,
}
_DIRECTORY_OF = {
    TaskKind.WALK_REMOVE: TaskKind.REMOVE_DIRECTORY,
    TaskKind.WALK_CHANGE_MODE: TaskKind.CHANGE_MODE_OF_DIRECTORY,
}
"""What is done with a directory itself, after all that it holds."""


class Walk(Protocol):
    """A walk's own task; `models.Task` has it."""

    @property
    def kind(self) -> int: ...  # noqa: D102  # named as in the schema
    @property
    def phase(self) -> int: ...  # noqa: D102
    @property
    def depth(self) -> int: ...  # noqa: D102
    @property
    def root(self) -> bool: ...  # noqa: D102
    @property
    def root_length(self) -> int: ...  # noqa: D102
    @property
    def extraneous(self) -> bool: ...  # noqa: D102
    @property
    def source_path(self) -> bytes: ...  # noqa: D102
    @property
    def destination_path(self) -> bytes | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Grown:
    """What a batch adds to its job.

    Attributes:
        extraneous_total: files and directories that only the destination has; in no other total.
    """

    tasks: Sequence[NewTask]
    directories_total: int = 0
    directories_done: int = 0
    files_total: int = 0
    bytes_total: int = 0
    extraneous_total: int = 0


def grow(walk: Walk, found: Found) -> Grown:
    """Returns what a walk's batch asks for."""
    kind = TaskKind(walk.kind)
    tasks = [*_walks(walk, kind, found), *_chunks(walk, kind, found), *_itself(walk, kind, found)]
    files, size_bytes = _sums(found.chunks)
    if walk.extraneous:
        # The walk was counted with its directory when it was found.
        return Grown(tasks, extraneous_total=len(found.directories) + files)
    copying = kind is TaskKind.WALK_COPY
    if copying:
        directories = len(found.directories) + found.inner_directories + (found.directories_done if walk.root else 0)
    else:
        directories = sum(task.kind in _DIRECTORY_OF.values() for task in tasks)
    return Grown(
        [*tasks, *_extraneous(walk, found)],
        directories_total=directories,
        directories_done=found.directories_done + found.inner_directories if copying else 0,
        files_total=files + found.files_unchanged,
        bytes_total=size_bytes + found.bytes_unchanged,
        extraneous_total=len(found.extraneous_directories) + _sums(found.extraneous_chunks)[0],
    )


def path_below(source_path: bytes, root_length: int) -> bytes:
    """Returns a walk's path below the root that the user named; empty: it is the root itself."""
    return source_path[root_length:].lstrip(b"/") if root_length else b""


def _walks(walk: Walk, kind: TaskKind, found: Found) -> list[NewTask]:
    return [
        NewTask(
            kind,
            join(walk.source_path, name),
            None if walk.destination_path is None else join(walk.destination_path, name),
            phase=walk.phase,
            depth=walk.depth + 1 + name.count(b"/"),
            root_length=len(walk.source_path) if walk.root else walk.root_length,
            extraneous=walk.extraneous,
        )
        for name in found.directories
    ]


def _chunks(walk: Walk, kind: TaskKind, found: Found) -> list[NewTask]:
    source, destination = found.chunk_directories or (walk.source_path, walk.destination_path)
    return [
        NewTask(
            _FILES_OF[kind],
            source,
            destination if kind is TaskKind.WALK_COPY else None,
            phase=walk.phase,
            depth=walk.depth,
            extraneous=walk.extraneous,
            below=found.below,
            payload=chunk.payload,
            entry_count=chunk.entry_count,
            total_bytes=chunk.total_bytes,
        )
        for chunk in found.chunks
        if chunk.entry_count
    ]


def _itself(walk: Walk, kind: TaskKind, found: Found) -> list[NewTask]:
    """Returns what is done with the walk's own directory, once nothing is left to do below it."""
    if not found.remove_directory or kind not in _DIRECTORY_OF:
        return []
    phase = REMOVAL_PHASE - walk.depth
    own = NewTask(_DIRECTORY_OF[kind], walk.source_path, phase=phase, depth=walk.depth, extraneous=walk.extraneous)
    return [own]


def _extraneous(walk: Walk, found: Found) -> list[NewTask]:
    """Returns the removal of what only the destination of a copy has."""
    if not found.extraneous_directories and not found.extraneous_chunks:
        return []
    assert walk.destination_path is not None
    walks = [
        NewTask(
            TaskKind.WALK_REMOVE,
            join(walk.destination_path, name),
            phase=EXTRANEOUS_PHASE,
            depth=walk.depth + 1,
            extraneous=True,
        )
        for name in found.extraneous_directories
    ]
    chunks = [
        NewTask(
            TaskKind.REMOVE_FILES,
            walk.destination_path,
            phase=EXTRANEOUS_PHASE,
            depth=walk.depth,
            extraneous=True,
            payload=chunk.payload,
            entry_count=chunk.entry_count,
            total_bytes=chunk.total_bytes,
        )
        for chunk in found.extraneous_chunks
        if chunk.entry_count
    ]
    return walks + chunks


def _sums(chunks: Sequence[Chunk]) -> tuple[int, int]:
    """Returns files and bytes."""
    return sum(chunk.entry_count for chunk in chunks), sum(chunk.total_bytes for chunk in chunks)
