"""The engine port: what every engine can do, whatever drives the bytes.

An engine holds one user's credentials for a source and a destination and does one task at a time, in one thread. What
fails as a whole raises TaskFailed; what fails for one item is told in its ItemDone. The conformance suite
(tests/support/wherry_testing/engine_conformance.py) says what every implementation must do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from wherry_worker.engine.messages import (
    Changed,
    ChannelUsed,
    ChecksumFile,
    ChecksumFiles,
    ChecksumResult,
    CopyFiles,
    EntryBatch,
    ItemDone,
    LeftBehind,
    ListDirectory,
    MakeDirectory,
    Problem,
    Progress,
    RemoveDirectory,
    RemoveFiles,
    RemoveTemporaries,
    Rename,
    SetMode,
    SetModes,
    Setup,
    Stat,
    StatResult,
    Unlink,
    UnlinkResult,
)

OnProgress = Callable[[Progress], None]
#: Tells whether no further file shall be begun; asked before each.
Halted = Callable[[], bool]
Copied = ItemDone | ChannelUsed | LeftBehind


class TaskFailed(Exception):
    """The task failed as a whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


class Engine(Protocol):
    """Does file operations at one or two doors, and copies between them without touching the bytes."""

    def stat(self, task: Stat) -> StatResult:
        """Looks at a path; links are followed where the door follows them."""
        ...

    def list_directory(self, task: ListDirectory) -> Iterator[EntryBatch]:
        """Yields a directory's entries in byte order; names that the door cannot carry are unlistable entries."""
        ...

    def make_directory(self, task: MakeDirectory) -> Changed:
        """Makes a directory."""
        ...

    def rename(self, task: Rename) -> None:
        """Renames; never replaces what is there."""
        ...

    def unlink(self, task: Unlink) -> UnlinkResult:
        """Removes a file or a link; leaves a real directory alone."""
        ...

    def remove_files(self, task: RemoveFiles, halted: Halted) -> Iterator[ItemDone]:
        """Removes files, yielding each as it is gone or has failed; ends early once it is halted."""
        ...

    def remove_directory(self, task: RemoveDirectory) -> None:
        """Removes an empty directory."""
        ...

    def checksum(self, task: ChecksumFile) -> ChecksumResult:
        """Has a door compute a file's checksum."""
        ...

    def checksum_files(self, task: ChecksumFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone]:
        """Has checksums computed, yielding each as it is known or has failed; ends early once it is halted."""
        ...

    def set_mode(self, task: SetMode) -> None:
        """Sets the permission bits of one path."""
        ...

    def set_modes(self, task: SetModes, halted: Halted) -> Iterator[ItemDone]:
        """Sets permission bits of files, yielding each as it is done or has failed; ends early once it is halted."""
        ...

    def copy_files(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[Copied]:
        """Copies files from door to door, yielding each as it is verified and in place, or has failed; in any order.

        Before the first bytes it says how they go; at the end, also before it fails, whether something is left behind.

        Once it is halted it finishes the files that it has begun, and ends.
        """
        ...

    def remove_temporaries(self, task: RemoveTemporaries) -> LeftBehind | None:
        """Removes what a killed copy left behind; tells where something stays."""
        ...

    def close(self) -> None:
        """Ends connections where that is quick; the process ends right after."""
        ...


#: Makes an engine for the doors of a Setup; connects nothing yet.
EngineFactory = Callable[[Setup], Engine]
