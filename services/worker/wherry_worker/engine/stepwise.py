"""The general engine: each name and each file step by step, over any namespace and any third-party copy.

What it does to one file that is copied is in `stepwise_copy.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

from wherry_worker.engine.failures import Where, explain
from wherry_worker.engine.messages import (
    Changed,
    ChannelUsed,
    ChecksumFile,
    ChecksumFiles,
    ChecksumResult,
    CopyFiles,
    Door,
    Entry,
    EntryBatch,
    ItemDone,
    LeftBehind,
    ListDirectory,
    MakeDirectory,
    Pair,
    Problem,
    Progress,
    RemoveDirectory,
    RemoveFiles,
    RemoveTemporaries,
    Rename,
    SetMode,
    SetModes,
    Setup,
    Side,
    Stat,
    StatResult,
    Unlink,
    UnlinkResult,
)
from wherry_worker.engine.namespace import DoorError, Namespace, ThirdParty
from wherry_worker.engine.paths import byte_order, join, parent
from wherry_worker.engine.port import Copied, Halted, OnProgress, TaskFailed
from wherry_worker.engine.protection import strongest
from wherry_worker.engine.stale import Choose, Stale, Sweep, keep_none
from wherry_worker.engine.stepwise_copy import StepwiseCopy, final_path
from wherry_worker.engine.temporary import TemporaryName
from wherry_worker.engine.verification import leads_nowhere, not_protected

BATCH_ENTRIES = 1000


class StepwiseEngine:
    """Does each operation with the doors' namespaces, and copies file by file."""

    def __init__(
        self, setup: Setup, source: Namespace, destination: Namespace | None, bytes_: ThirdParty | None
    ) -> None:
        self._setup = setup
        self._namespaces: dict[Side, Namespace] = {"source": source}
        self._doors: dict[Side, Door] = {"source": setup.source}
        if destination is not None and setup.destination is not None:
            self._namespaces["destination"] = destination
            self._doors["destination"] = setup.destination
        self._bytes = bytes_

    # --- one path ---

    def stat(self, task: Stat) -> StatResult:
        """Looks at a path."""
        try:
            found = self._namespaces[task.side].stat(task.path)
        except DoorError as error:
            raise TaskFailed(self.explain(error, task.side)) from error
        return StatResult(found)

    def make_directory(self, task: MakeDirectory) -> Changed:
        """Makes a directory, from the top down where parents are asked for."""
        try:
            return Changed(self._make(task.side, task.path, task.parents, task.exist_ok or task.parents))
        except DoorError as error:
            raise TaskFailed(self.explain(error, task.side)) from error

    def rename(self, task: Rename) -> None:
        """Renames after a look at the new name: servers replace in silence, even an empty directory."""
        namespace = self._namespaces["source"]
        try:
            if namespace.stat(task.new_path) is not None:
                raise DoorError("rename", 17, "File exists")
            if namespace.stat(task.path) is None and self._is_missing("source", task.path):
                raise DoorError("rename", 2, "No such file or directory")
            namespace.rename(task.path, task.new_path)
        except DoorError as error:
            raise TaskFailed(self.explain(error, "source")) from error

    def unlink(self, task: Unlink) -> UnlinkResult:
        """Removes a file or a link; servers refuse a real directory, which is what tells it from a link."""
        try:
            self._namespaces["source"].unlink(task.path)
        except DoorError as error:
            if error.errno == 21:
                return UnlinkResult("directory")
            if error.errno == 2:
                return UnlinkResult("absent")
            raise TaskFailed(self.explain(error, "source")) from error
        return UnlinkResult("removed")

    def remove_directory(self, task: RemoveDirectory) -> None:
        """Removes an empty directory; one that is gone counts as removed."""
        try:
            self._namespaces["source"].remove_directory(task.path)
        except DoorError as error:
            if error.errno != 2:
                raise TaskFailed(self.explain(error, "source")) from error

    def remove_files(self, task: RemoveFiles, halted: Halted) -> Iterator[ItemDone]:
        """Removes files; what would fail for all of them ends the task."""
        for index, name in enumerate(task.names, task.first_index):
            if halted():
                return
            started = time.monotonic()
            problem = None
            try:
                self._namespaces["source"].unlink(join(task.directory, name))
            except DoorError as error:
                if error.errno != 2:
                    problem = self.explain(error, "source")
            if problem is not None and problem.stops:
                raise TaskFailed(problem)
            yield ItemDone(index, duration_s=time.monotonic() - started, problem=problem)

    def checksum(self, task: ChecksumFile) -> ChecksumResult:
        """Has a door compute a checksum."""
        try:
            value = self._namespaces[task.side].checksum(task.path, task.algorithm)
        except DoorError as error:
            raise TaskFailed(self.explain(error, task.side)) from error
        return ChecksumResult(task.algorithm, value)

    def checksum_files(self, task: ChecksumFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone]:
        """Has the source's door compute checksums; what would fail for all of them ends the task."""
        namespace = self._namespaces["source"]
        for index, name in enumerate(task.names):
            if halted():
                return
            started = time.monotonic()
            on_progress(Progress(index, "verifying", 0))
            path, problem, value, size_bytes = join(task.directory, name), None, "", 0
            try:
                found = namespace.stat(path)
                if found is None:
                    raise DoorError("stat", 2, "No such file or directory")
                if found.kind != "file":
                    raise DoorError("stat", 21, "Is a directory")
                size_bytes, value = found.size_bytes, namespace.checksum(path, task.algorithm)
            except DoorError as error:
                problem = self.explain(error, "source")
            if problem is not None and problem.stops:
                raise TaskFailed(problem)
            yield ItemDone(index, size_bytes, value, time.monotonic() - started, problem=problem)

    def set_mode(self, task: SetMode) -> None:
        """Sets permission bits."""
        try:
            self._namespaces["source"].set_mode(task.path, task.mode)
        except DoorError as error:
            raise TaskFailed(self.explain(error, "source")) from error

    def set_modes(self, task: SetModes, halted: Halted) -> Iterator[ItemDone]:
        """Sets permission bits of files; what would fail for all of them ends the task."""
        for index, name in enumerate(task.names):
            if halted():
                return
            started = time.monotonic()
            problem = None
            try:
                self._namespaces["source"].set_mode(join(task.directory, name), task.mode)
            except DoorError as error:
                problem = self.explain(error, "source")
            if problem is not None and problem.stops:
                raise TaskFailed(problem)
            yield ItemDone(index, duration_s=time.monotonic() - started, problem=problem)

    # --- listing ---

    def list_directory(self, task: ListDirectory) -> Iterator[EntryBatch]:
        """Lists one directory, or two side by side.

        Servers list in no order, so that the source's entries are held until they are sorted. Of the destination's only
        those are held whose name the source has too, unless the others are asked for as well.
        """
        after = None if task.after is None else byte_order(task.after)
        entries = []
        unlisted = None
        for entry in self._listed(task.path, "source"):
            if not entry.name:
                unlisted = entry.problem
            elif after is None or byte_order(entry.name) > after:
                entries.append(entry)
        if task.follow_links:
            entries = [self._followed(task.path, entry) for entry in entries]
        entries.sort(key=lambda entry: byte_order(entry.name))
        beside: dict[str, Entry | None] = {}
        extraneous: list[Entry] = []
        if task.beside is not None:
            beside = dict.fromkeys(entry.name for entry in entries)
            for there in self._listed(task.beside, "destination"):
                if not there.name:
                    continue
                if there.name in beside:
                    beside[there.name] = there
                elif task.extraneous and (after is None or byte_order(there.name) > after):
                    extraneous.append(there)
        extraneous.sort(key=lambda entry: byte_order(entry.name), reverse=True)  # the next one is the last
        for start in range(0, len(entries), BATCH_ENTRIES):
            part = entries[start : start + BATCH_ENTRIES]
            yield EntryBatch(
                tuple(Pair(entry, beside.get(entry.name)) for entry in part),
                tuple(_up_to(extraneous, byte_order(part[-1].name))),
            )
        while extraneous:
            yield EntryBatch((), tuple(extraneous.pop() for _ in range(min(len(extraneous), BATCH_ENTRIES))))
        if unlisted is not None:
            yield EntryBatch((), unlisted=unlisted)

    def _followed(self, directory: str, entry: Entry) -> Entry:
        """Returns what a link leads to, under its own name."""
        if entry.kind != "symlink":
            return entry
        try:
            found = self._namespaces["source"].stat(join(directory, entry.name))
        except DoorError as error:
            if error.lost:
                raise TaskFailed(self.explain(error, "source")) from error
            return replace(entry, kind="unlistable", problem=self.explain(error, "source"))
        if found is None:
            return replace(entry, kind="unlistable", problem=leads_nowhere())
        return replace(found, name=entry.name, target=entry.target)

    def _listed(self, path: str, side: Side) -> Iterator[Entry]:
        try:
            yield from self._namespaces[side].entries(path)
        except DoorError as error:
            raise TaskFailed(self.explain(error, side)) from error

    # --- copying ---

    def copy_files(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[Copied]:
        """Copies file by file; what would fail for all of them ends the task. The bytes go as they are."""
        if task.remove_stale:
            directories = tuple(dict.fromkeys(parent(final_path(task, item)) for item in task.items))
            yield from self.swept(task, directories, keep_none)
        if strongest(task.protection, task.least_protection) != "clear":
            raise TaskFailed(not_protected())
        yield ChannelUsed("clear")
        if self._bytes is None:
            raise LookupError("a copy for an engine with one door")
        copy = StepwiseCopy(task, self._namespaces, self._doors, self._bytes, self.explain)
        made: dict[str, Problem | None] = {}
        for item in task.items:
            if halted():
                break
            started = time.monotonic()
            problem = self._make_parent(parent(final_path(task, item)), made) if task.make_parents else None
            done = ItemDone(item.index, problem=problem) if problem else copy.copy(item, on_progress)
            if done.problem is not None and done.problem.stops:
                if copy.remains:
                    yield LeftBehind()
                raise TaskFailed(done.problem)
            yield replace(done, duration_s=time.monotonic() - started)
        if copy.remains:
            yield LeftBehind()

    def remove_temporaries(self, task: RemoveTemporaries) -> None:
        """Removes stale temporaries of a task; none is kept, since this engine cannot go on from it."""
        self.sweep(lambda name: name.is_before(task.tag, task.fence + 1), task.directories)

    def swept(
        self, task: CopyFiles, directories: Sequence[str], choose: Choose
    ) -> Generator[LeftBehind, None, Sequence[Stale]]:
        """Removes what was left before a task but for what is chosen, and returns that; tells where it fails."""
        try:
            return self.sweep(
                lambda name: name.is_before(task.tag, task.fence, task.engines_before), directories, choose
            )
        except TaskFailed:
            yield LeftBehind()
            raise

    def sweep(
        self, is_stale: Callable[[TemporaryName], bool], directories: Sequence[str], choose: Choose = keep_none
    ) -> Sequence[Stale]:
        """Removes stale temporaries from directories of the destination but for what is chosen, and returns that.

        Where there is one door, that was a copy's destination.
        """
        side: Side = "destination" if "destination" in self._namespaces else "source"
        sweep = Sweep(self._namespaces[side], lambda error: self.explain(error, side), is_stale)
        return sweep.run(directories, choose)

    def _make_parent(self, directory: str, made: dict[str, Problem | None]) -> Problem | None:
        """Makes the directory of a destination file; `made` has what came of those that were tried before."""
        if directory not in made:
            try:
                self._make("destination", directory, parents=True, exist_ok=True)
                made[directory] = None
            except DoorError as error:
                problem = self.explain(error, "destination")
                if problem.retryable:
                    return problem
                made[directory] = problem
        return made[directory]

    # --- small things ---

    def _make(self, side: Side, path: str, parents: bool, exist_ok: bool) -> bool:
        namespace = self._namespaces[side]
        try:
            namespace.make_directory(path)
        except DoorError as error:
            if error.errno == 2 and parents and parent(path) != path:
                self._make(side, parent(path), parents=True, exist_ok=True)
                return self._make(side, path, parents=False, exist_ok=True)
            # Servers differ in what they say for a directory that is there and may not be written: look.
            found = namespace.stat(path) if exist_ok else None
            if found is not None and found.kind == "directory":
                return False
            if found is not None:
                raise DoorError("mkdir", 17, "File exists") from error
            raise
        return True

    def _is_missing(self, side: Side, path: str) -> bool:
        """Tells a path that is not there from a link that leads nowhere, which `stat` finds as little."""
        name = path.rsplit("/", 1)[-1]
        return all(entry.name != name for entry in self._namespaces[side].entries(parent(path)))

    def explain(self, error: DoorError, where: Where) -> Problem:
        """Returns what an error of one of the doors means."""
        if where == "transfer":
            names = " or ".join(door.site.removeprefix("sites/") for door in self._doors.values())
            return explain(error, self._setup.source.scheme, where, names)
        door = self._doors["destination" if where == "destination" else "source"]
        if "destination" not in self._doors:
            where = "site"
        return explain(error, door.scheme, where, door.site.removeprefix("sites/"))

    def close(self) -> None:
        """Closes the doors' connections."""
        for namespace in self._namespaces.values():
            namespace.close()


def _up_to(entries: list[Entry], last: bytes) -> Iterator[Entry]:
    """Takes from a list in falling order those up to a name."""
    while entries and byte_order(entries[-1].name) <= last:
        yield entries.pop()
