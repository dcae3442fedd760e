"""What a worker is asked to do and what it answers, in the worker's own words.

Paths and names are text with odd bytes as lone surrogates (engine/paths.py). reading.py makes these from the
contracts' messages and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from wherry_worker.engine.messages import (
    Comparison,
    Entry,
    EntryKind,
    Overwrite,
    Problem,
    Protection,
    Verification,
)
from wherry_worker.filtering import EVERYTHING, Filters

#: At most so much of an attempt's log goes up.
LOG_MAX_BYTES = 64 * 1024


class WorkClass(Enum):
    """How urgent a task is."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """A task, `jobs/{job}/tasks/{task}`, and the fence under which it is held."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class DestinationFile:
    """A file that was at the destination when both ends were listed."""

    size_bytes: int
    modify_time_s: int


@dataclass(frozen=True, slots=True)
class ChunkItem:
    """A file of a chunk. `destination_name` is empty where it is the same as `name`.

    Both are paths below the chunk's directories where the chunk says `make_parents`. `destination` None: nothing was
    there, or nobody looked.
    """

    name: str
    destination_name: str = ""
    size_bytes: int = 0
    modify_time_s: int = 0
    mode: int = 0
    destination: DestinationFile | None = None


@dataclass(frozen=True, slots=True)
class CopyRules:
    """How a copy is made; the contracts' CopyOptions says what each means.

    `protection` None: as the sites have it; `protocols` empty: as the worker prefers.
    """

    overwrite: Overwrite = "never"
    comparison: Comparison = "size_and_time"
    verification: Verification = "checksum"
    algorithm: str = "adler32"
    follow_links: bool = False
    keep_times: bool = True
    filters: Filters = EVERYTHING
    protection: Protection | None = None
    delete_extraneous: bool = False
    dry_run: bool = False
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WalkCopy:
    """List one directory of a copy and make it at the destination. `path_below` is its path below the named item."""

    source_path: str
    destination_path: str
    root: bool
    recursive: bool
    cursor: str
    rules: CopyRules = CopyRules()
    path_below: str = ""


@dataclass(frozen=True, slots=True)
class WalkTree:
    """List one directory of files to be worked on; with `directories_too` it is to be worked on itself.

    With `directories_only` files are left as they are.
    """

    path: str
    root: bool
    recursive: bool
    cursor: str
    directories_too: bool = False
    directories_only: bool = False


@dataclass(frozen=True, slots=True)
class WalkRemove:
    """List one directory of a removal; in a dry run nothing is removed, a link that stands for it neither."""

    path: str
    root: bool
    recursive: bool
    cursor: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class CopyChunk:
    """Copy a chunk of files; `done` has a bit for each item. `make_parents`: see ChunkItem."""

    source_directory: str
    destination_directory: str
    items: tuple[ChunkItem, ...]
    done: bytes
    rules: CopyRules = CopyRules()
    make_parents: bool = False


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Remove what attempts at the copy `task`, `jobs/{job}/tasks/{task}`, up to `fence` may have left in a directory.

    With `items` they may lie below it, beside the files that these name.
    """

    task: str
    fence: int
    directory: str
    items: tuple[ChunkItem, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveChunk:
    """Remove a chunk of files."""

    directory: str
    items: tuple[ChunkItem, ...]
    done: bytes


@dataclass(frozen=True, slots=True)
class ChangeModes:
    """Set the permission bits of a chunk of files."""

    directory: str
    items: tuple[ChunkItem, ...]
    done: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class SumChunk:
    """Have the checksums of a chunk of files computed."""

    directory: str
    items: tuple[ChunkItem, ...]
    done: bytes
    algorithm: str


@dataclass(frozen=True, slots=True)
class ChangeModeOfDirectory:
    """Set the permission bits of a directory."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class RemoveOneDirectory:
    """Remove an empty directory."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeOneDirectory:
    """Make a directory."""

    path: str
    parents: bool


@dataclass(frozen=True, slots=True)
class RenameOne:
    """Rename within a site."""

    path: str
    new_path: str


@dataclass(frozen=True, slots=True)
class ListOne:
    """List a directory for somebody who waits, to so many levels."""

    path: str
    depth: int = 1


Work = (
    WalkCopy
    | WalkRemove
    | WalkTree
    | CopyChunk
    | CleanUp
    | RemoveChunk
    | ChangeModes
    | SumChunk
    | ChangeModeOfDirectory
    | RemoveOneDirectory
    | MakeOneDirectory
    | RenameOne
    | ListOne
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a task. `deadline` is this process's monotonic clock; `token` is a secret."""

    ref: LeaseRef
    deadline: float
    token: str = field(repr=False)
    work_class: WorkClass
    user: str
    source_site: str
    destination_site: str
    attempt: int
    work: Work


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that goes on."""

    ref: LeaseRef
    deadline: float
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A user's session at a site that has ended."""

    user: str
    site: str


class Outcome(Enum):
    """How an attempt ended; the contracts' Outcome says what each means."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item that failed: its place in the chunk, its whole path, why."""

    index: int
    path: str
    problem: Problem
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ItemResult:
    """An item that was done in this attempt."""

    index: int
    size_bytes: int
    checksum: str
    duration_s: float
    adopted: bool
    algorithm: str = "adler32"
    left_alone: bool = False
    kept_beside: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of a lease. `done` has a bit for each item of a chunk, earlier attempts' included.

    `sign_in_site` is where the user has to sign in before a returned task can go on. `left_behind` says that temporary
    files of the task may lie at the destination still, for the next attempt to go on from, or since they could not be
    removed.
    """

    ref: LeaseRef
    outcome: Outcome
    problem: Problem | None = None
    done: bytes = b""
    files_done: int = 0
    bytes_done: int = 0
    failures: tuple[ItemFailure, ...] = ()
    results: tuple[ItemResult, ...] = ()
    retry_after_s: float = 0.0
    log: str = ""
    sign_in_site: str = ""
    protection: Protection | None = None
    left_behind: bool = False

    @property
    def files_unchanged(self) -> int:
        """Of the files done, those that were there already or were left alone."""
        return sum(result.adopted or result.left_alone for result in self.results)

    @property
    def bytes_unchanged(self) -> int:
        """Bytes of those."""
        return sum(result.size_bytes for result in self.results if result.adopted or result.left_alone)


@dataclass(frozen=True, slots=True)
class Found:
    """A batch of what a walk or a listing found; the contracts' ReportEntriesRequest says what each field means."""

    after: str
    cursor: str
    chunks: tuple[tuple[ChunkItem, ...], ...] = ()
    directories: tuple[str, ...] = ()
    remove_directory: bool = False
    entries: tuple[Entry, ...] = ()
    failures: tuple[ItemFailure, ...] = ()
    directories_done: int = 0
    chunk_source_directory: str = ""
    chunk_destination_directory: str = ""
    listed_kind: EntryKind = "directory"
    listed_depth: int = 0
    skipped: tuple[ItemFailure, ...] = ()
    files_unchanged: int = 0
    bytes_unchanged: int = 0
    extraneous_chunks: tuple[tuple[ChunkItem, ...], ...] = ()
    extraneous_directories: tuple[str, ...] = ()
    inner_directories: int = 0
    below: bool = False


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a lease's attempt is."""

    ref: LeaseRef
    measured_at_s: float
    transferred_bytes: int
    files_done: int
