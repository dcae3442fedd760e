"""The engine for GridFTP: names one by one, files all at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from wherry_gridftp.errors import NotOffered

from wherry_worker.engine.gridftp_door import GridFtpDoor
from wherry_worker.engine.kept_connections import KeptConnections
from wherry_worker.engine.messages import (
    Changed,
    ChecksumFile,
    ChecksumFiles,
    ChecksumResult,
    CopyFiles,
    EntryBatch,
    ItemDone,
    LeftBehind,
    ListDirectory,
    MakeDirectory,
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
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.partial_files import keep_needed, keep_resumable
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.pipelined_copy import PipelinedCopy
from wherry_worker.engine.pipelined_files import Chore, PipelinedFiles, removing, setting_mode, summing
from wherry_worker.engine.port import Copied, Halted, OnProgress, TaskFailed
from wherry_worker.engine.stale import Stale
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

    def copy_files(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[Copied]:
        """Copies all files at once."""
        if self._doors is None:
            raise LookupError("a copy for an engine with one door")
        if self._copier is None:
            ended: set[int] = set()
            try:
                with closing(self._copied(task, on_progress, halted)) as messages:
                    for message in messages:
                        if isinstance(message, ItemDone):
                            ended.add(message.index)
                        yield message
                return
            except NotOffered:
                self._copier = self._fallback()
                task = replace(task, items=tuple(item for item in task.items if item.index not in ended))
        yield from self._copier.copy_files(task, on_progress, halted)

    def _copied(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Generator[Copied, None, None]:
        if self._doors is None:
            raise LookupError("a copy for an engine with one door")
        stale: Sequence[Stale] = ()
        if task.remove_stale:
            directories = dict.fromkeys(
                parent(join(task.destination_directory, item.destination_name)) for item in task.items
            )
            stale = yield from self._names.swept(
                task, tuple(directories), lambda found: keep_needed(found, task, self._setup.resume_bytes)
            )
        explain = self._names.explain
        run = PipelinedCopy(self._setup, self._doors, self._kept, task, explain, on_progress, halted, stale)
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
        run = self._for_each(removing(), task.directory, task.names, halted, task.first_index)
        yield from self._or_else(run, lambda: self._names.remove_files(task, halted))

    def set_mode(self, task: SetMode) -> None:
        """As the port says."""
        self._names.set_mode(task)

    def set_modes(self, task: SetModes, halted: Halted) -> Iterator[ItemDone]:
        """Sets the modes of all files at once."""
        run = self._for_each(setting_mode(task.mode), task.directory, task.names, halted)
        yield from self._or_else(run, lambda: self._names.set_modes(task, halted))

    def checksum_files(self, task: ChecksumFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone]:
        """Asks for all checksums at once."""
        chore = summing(task.algorithm, float(self._setup.checksum_timeout_s))
        on_progress(Progress(0, "verifying", 0))
        run = self._for_each(chore, task.directory, task.names, halted)
        yield from self._or_else(run, lambda: self._names.checksum_files(task, on_progress, halted))

    def _for_each(
        self, chore: Chore, directory: str, names: Sequence[str], halted: Halted, first_index: int = 0
    ) -> Iterator[ItemDone]:
        door = GridFtpDoor(self._setup.source, self._setup.namespace_timeout_s)
        files = PipelinedFiles(
            door,
            chore,
            directory,
            names,
            lambda error: self._names.explain(error, "source"),
            halted,
            first_index=first_index,
        )
        return files.results(lambda: door.connect(("MLST",)))

    def _or_else(self, run: Iterator[ItemDone], other: Callable[[], Iterator[ItemDone]]) -> Iterator[ItemDone]:
        """Has the other engine do it where the server lacks something: before anything is done."""
        try:
            yield from run
        except NotOffered:
            yield from other()
        except DoorError as error:
            raise TaskFailed(self._names.explain(error, "source")) from error

    def remove_directory(self, task: RemoveDirectory) -> None:
        """As the port says."""
        self._names.remove_directory(task)

    def checksum(self, task: ChecksumFile) -> ChecksumResult:
        """As the port says."""
        return self._names.checksum(task)

    def remove_temporaries(self, task: RemoveTemporaries) -> LeftBehind | None:
        """As the port says."""
        if not task.keep_resumable or self._copier is not None:
            self._names.remove_temporaries(task)
            return None
        kept = self._names.sweep(
            lambda name: name.is_before(task.tag, task.fence + 1),
            task.directories,
            lambda found: keep_resumable(found, self._setup.resume_bytes),
        )
        return LeftBehind() if kept else None

    def close(self) -> None:
        """As the port says."""
        self._kept.close()
        self._names.close()
        if self._copier is not None:
            self._copier.close()
