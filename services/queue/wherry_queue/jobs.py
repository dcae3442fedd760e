"""What a job begins with, and what a walk adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from wherry_chassis.errors import DomainError, FieldProblem, InvalidFields, Kind

from wherry_queue.paths import above, within
from wherry_queue.settling import FailedEntry
from wherry_queue.states import Hold, TaskKind, WorkClass

REMOVAL_PHASE = 1_000_000
"""Directories are removed, or have their permissions changed, after all files, deepest first: phase = this - depth."""
EXTRANEOUS_PHASE = 500_000
"""What only the destination of a copy has is looked through and removed after all copying, its directories as above."""


class JobNotFound(DomainError):
    """There is no job {job} of yours."""

    kind = Kind.NOT_FOUND
    reason = "JOB_NOT_FOUND"


class JobEnded(DomainError):
    """The job {job} has ended; there is nothing of it left to stop or to start."""

    kind = Kind.FAILED_PRECONDITION
    reason = "JOB_ENDED"


class JobNotEnded(DomainError):
    """The job {job} has not ended yet; cancel it or wait, then retry what is left."""

    kind = Kind.FAILED_PRECONDITION
    reason = "JOB_NOT_ENDED"


class NothingToRetry(DomainError):
    """Nothing of the job {job} has failed or was left undone."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NOTHING_TO_RETRY"


class JobExpired(DomainError):
    """The time that the job {job} is kept for is over, and it is being deleted; make a new one."""

    kind = Kind.FAILED_PRECONDITION
    reason = "JOB_EXPIRED"


class TaskNotFound(DomainError):
    """There is no task {task} of yours."""

    kind = Kind.NOT_FOUND
    reason = "TASK_NOT_FOUND"


class AttemptNotFound(DomainError):
    """The task {task} has no attempt {attempt} that has come to an end."""

    kind = Kind.NOT_FOUND
    reason = "ATTEMPT_NOT_FOUND"


class ListingGone(DomainError):
    """What was found is kept for some minutes only, and they are over; list again."""

    kind = Kind.NOT_FOUND
    reason = "LISTING_GONE"


class CopyForgotten(DomainError):
    """Nothing came for so long that what was sent of the copy before is forgotten; send it again."""

    kind = Kind.ABORTED
    reason = "COPY_FORGOTTEN"


class TooMuchStaged(DomainError):
    """Copies that you are still sending would hold more than the {limit} bytes that one person's may. Let the others
    be complete first, or make several jobs of this one."""

    kind = Kind.RESOURCE_EXHAUSTED
    reason = "TOO_MUCH_STAGED"


class LeaseLost(DomainError):
    """The lease on {task} is no longer this worker's; stop working on it."""

    kind = Kind.FAILED_PRECONDITION
    reason = "LEASE_LOST"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be made.

    Attributes:
        phase: 0 at once; a later one waits until all before have ended.
        root: whether the user named this path; then it may be a file.
        root_length, extraneous, below, cleans, cleans_fence: as `models.Task` has them.
    """

    kind: TaskKind
    source_path: bytes
    destination_path: bytes | None = None
    phase: int = 0
    depth: int = 0
    root: bool = False
    root_length: int = 0
    extraneous: bool = False
    below: bool = False
    payload: bytes | None = None
    entry_count: int = 0
    total_bytes: int = 0
    cleans: str | None = None
    cleans_fence: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made, paths absolute, sites resolved; or `unresolved`.

    Attributes:
        user: `users/{user}`.
        request_id: makes the creation idempotent; None: no protection.
        specification: the contract's message, serialized.
        summary: the same with the first few of its items, where it has more; None: it has not.
        attempts: how often each of its tasks is tried; None: as often as the deployment has it.
        recursive: for MAKE_DIRECTORY: with parents.
        options: how its tasks are done, serialized for their workers.
        dry_run: whether nothing of it but its walks shall ever run.
        delete_extraneous: whether what only the destination has is removed.
        directories_only: whether files are left as they are.
        item_count: items or targets that it names.
        sessions: when the user's sessions end, by site, in milliseconds since the epoch.
        unresolved: nobody could be asked about its sites: paths may be relative, and nothing of it may start before
            `resolving` has made up for it.
        clean_up: whether it removes what copies left behind; see `states.CLEAN_UP`.
    """

    user: str
    source_site: str
    destination_site: str
    operation: str
    specification: bytes
    tasks: Sequence[NewTask]
    summary: bytes | None = None
    request_id: str | None = None
    work_class: WorkClass = WorkClass.BULK
    priority: int = 5
    attempts: int | None = None
    recursive: bool = False
    overwrite: int = 1
    options: bytes = b""
    dry_run: bool = False
    delete_extraneous: bool = False
    directories_only: bool = False
    item_count: int = 1
    sessions: Mapping[str, int] = field(default_factory=dict)
    unresolved: bool = False
    clean_up: bool = False

    @property
    def hold(self) -> Hold:
        """Why its lane is held from the beginning."""
        return Hold.SITES_UNKNOWN if self.unresolved else Hold.NOTHING


@dataclass(frozen=True, slots=True)
class Chunk:
    """Files of one directory, packed."""

    payload: bytes
    entry_count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """A batch of what a walk or a listing found.

    Attributes:
        after: the cursor before the batch; it joins the batch to what is durable.
        thumbprint: of the certificate of the worker whose word it is.
        cursor: the last name in it.
        chunk_directories: for a root that is a file: the directories (source, destination) of its chunk.
        entries: a listing's entries, packed as they are kept.
        skipped: entries that are left out as the options say; no failures.
        files_unchanged, bytes_unchanged: of files that need nothing.
        extraneous_chunks, extraneous_directories: files and names of directories that only the destination has.
        inner_directories: that the walk goes into itself, made or found by now.
        below: whether names in the chunks may lie below the walk's directory.
    """

    task_id: int
    fence: int
    after: bytes
    cursor: bytes
    thumbprint: str | None = None
    chunks: Sequence[Chunk] = ()
    directories: Sequence[bytes] = ()
    remove_directory: bool = False
    entries: bytes = b""
    failures: Sequence[FailedEntry] = ()
    directories_done: int = 0
    chunk_directories: tuple[bytes, bytes] | None = None
    skipped: Sequence[FailedEntry] = ()
    files_unchanged: int = 0
    bytes_unchanged: int = 0
    extraneous_chunks: Sequence[Chunk] = ()
    extraneous_directories: Sequence[bytes] = ()
    inner_directories: int = 0
    below: bool = False


def copy_tasks(items: Sequence[tuple[bytes, bytes]], *, same_site: bool, deletes: bool = False) -> list[NewTask]:
    """Returns the first tasks of a copy of (source, destination) paths.

    Args:
        deletes: whether what only the destinations have is removed.

    Raises:
        InvalidFields: a directory would be copied into itself, or the copy would remove what it has copied or copies.
    """
    for index, (source, destination) in enumerate(items):
        if same_site and within(destination, source):
            field_name = f"job.copy.items[{index}].destination.path"
            raise InvalidFields(FieldProblem(field_name, "lies within the source; choose a place outside it"))
    if deletes:
        _check_apart(items, same_site=same_site)
    return [NewTask(TaskKind.WALK_COPY, source, destination, root=True) for source, destination in items]


def _check_apart(items: Sequence[tuple[bytes, bytes]], *, same_site: bool) -> None:
    """Refuses items of which one would find only at its destination, and remove, what another copies or has copied."""
    places: dict[bytes, int] = {}
    for index, (_, destination) in enumerate(items):
        if (other := places.setdefault(destination, index)) != index:
            problem = f"is that of items[{other}] too, and what only it has is removed; make another job of it"
            _refuse_item(index, "destination", problem)
    for index, (source, destination) in enumerate(items):
        around = [("destination", [*above(destination)]), ("source", [source, *above(source)] if same_site else [])]
        for end, directories in around:
            outer = next((places[directory] for directory in directories if directory in places), None)
            if outer == index:
                _refuse_item(index, end, "lies within its own destination, and would be removed from there")
            if outer is not None:
                problem = f"lies within the destination of items[{outer}], where what only that has is removed"
                _refuse_item(index, end, f"{problem}; make another job of it")


def _refuse_item(index: int, end: str, problem: str) -> NoReturn:
    raise InvalidFields(FieldProblem(f"job.copy.items[{index}].{end}.path", problem))


def remove_tasks(paths: Sequence[bytes]) -> list[NewTask]:
    """Returns the first tasks of a removal.

    Raises:
        InvalidFields: the root of a file system.
    """
    for index, path in enumerate(paths):
        if path == b"/":
            raise InvalidFields(FieldProblem(f"job.remove.targets[{index}].path", "the root cannot be removed"))
    return [NewTask(TaskKind.WALK_REMOVE, path, root=True) for path in paths]


def tree_tasks(kind: TaskKind, paths: Sequence[bytes]) -> list[NewTask]:
    """Returns the first tasks of a change of permissions or of checksums."""
    return [NewTask(kind, path, root=True) for path in paths]


def rename_tasks(source: bytes, destination: bytes) -> list[NewTask]:
    """Returns the task of a rename.

    Raises:
        InvalidFields: something would be moved into itself.
    """
    if within(destination, source):
        raise InvalidFields(FieldProblem("job.rename.destination.path", "lies within the source, or is the same"))
    return [NewTask(TaskKind.RENAME, source, destination)]
