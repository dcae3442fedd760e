"""The engine for GridFTP: names one by one, files all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wherry_gridftp.errors import NotOffered

from wherry_worker.engine.gridftp_door import GridFtpDoor
from wherry_worker.engine.kept_connections import KeptConnections
from wherry_worker.engine.messages import (
    Changed,
    ChannelUsed,
    ChecksumFile,
    ChecksumResult,
    CopyFiles,
    EntryBatch,
    ItemDone,
    ListDirectory,
    MakeDirectory,
    RemoveDirectory,
    RemoveFiles,
    RemoveTemporaries,
    Rename,
    Setup,
    Stat,
    StatResult,
    Unlink,
    UnlinkResult,
)
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.pipelined_copy import PipelinedCopy
from wherry_worker.engine.pipelined_removal import remove_files
from wherry_worker.engine.port import Halted, OnProgress, TaskFailed
from wherry_worker.engine.stepwise import StepwiseEngine


class PipelinedEngine:
    """Copies with `PipelinedCopy`; leaves what a server cannot do so, and all else, to another engine.

    Args:
        names: for the operations on names.
        fallback: makes the engine that copies where a server lacks what the pipelined way needs.
    """

    def __init__(self, setup: Setup, names: StepwiseEngine, fallback: Callable[[], StepwiseEngine]) -> None:
        self._setup = setup
        self._names = names
        self._fallback = fallback
        self._kept = KeptConnections()
        self._copier: StepwiseEngine | None = None
        self._doors = None
        if setup.destination is not None:
            timeout_s = setup.namespace_timeout_s
            self._doors = GridFtpDoor(setup.source, timeout_s), GridFtpDoor(setup.destination, timeout_s)

    def copy_files(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone | ChannelUsed]:
        """Copies all files at once."""
        if self._doors is None:
            raise LookupError("a copy for an engine with one door")
        if self._copier is None:
            try:
                yield from self._copied(task, on_progress, halted)
                return
            except NotOffered:
                self._copier = self._fallback()
        yield from self._copier.copy_files(task, on_progress, halted)

    def _copied(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone | ChannelUsed]:
        if self._doors is None:
            raise LookupError("a copy for an engine with one door")
        if task.remove_stale:
            directories = dict.fromkeys(
                parent(join(task.destination_directory, item.destination_name)) for item in task.items
            )
            self.remove_temporaries(RemoveTemporaries(task.tag, task.fence - 1, tuple(directories)))
        run = PipelinedCopy(self._setup, self._doors, self._kept, task, self._names.explain, on_progress, halted)
        try:
            yield from run.results()
        except DoorError as error:
            raise TaskFailed(self._names.explain(error, "transfer")) from error

    def stat(self, task: Stat) -> StatResult:
        """As the port says."""
        return self._names.stat(task)

    def list_directory(self, task: ListDirectory) -> Iterator[EntryBatch]:
        """As the port says."""
        return self._names.list_directory(task)

    def make_directory(self, task: MakeDirectory) -> Changed:
        """As the port says."""
        return self._names.make_directory(task)

    def rename(self, task: Rename) -> None:
        """As the port says."""
        self._names.rename(task)

    def unlink(self, task: Unlink) -> UnlinkResult:
        """As the port says."""
        return self._names.unlink(task)

    def remove_files(self, task: RemoveFiles, halted: Halted) -> Iterator[ItemDone]:
        """Removes all files at once."""
        door = GridFtpDoor(self._setup.source, self._setup.namespace_timeout_s)
        try:
            yield from remove_files(
                door, task, lambda error: self._names.explain(error, "source"), halted, lambda: door.connect(("MLST",))
            )
        except NotOffered:
            yield from self._names.remove_files(task, halted)
        except DoorError as error:
            raise TaskFailed(self._names.explain(error, "source")) from error

    def remove_directory(self, task: RemoveDirectory) -> None:
        """As the port says."""
        self._names.remove_directory(task)

    def checksum(self, task: ChecksumFile) -> ChecksumResult:
        """As the port says."""
        return self._names.checksum(task)

    def remove_temporaries(self, task: RemoveTemporaries) -> None:
        """As the port says."""
        self._names.remove_temporaries(task)

    def close(self) -> None:
        """As the port says."""
        self._kept.close()
        self._names.close()
        if self._copier is not None:
            self._copier.close()
