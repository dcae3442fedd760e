"""The general engine: each file step by step, over any namespace and any third-party copy.

A copy is: look at the source, look at the destination, copy to a temporary name, look at its size, checksum at both
ends, rename over. Nothing is believed for a return code; a failure at any step removes the temporary.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from wherry_worker.engine.failures import Where, explain
from wherry_worker.engine.messages import (
    Changed,
    ChannelUsed,
    ChecksumFile,
    ChecksumFiles,
    ChecksumResult,
    CopyFiles,
    CopyItem,
    Door,
    Entry,
    EntryBatch,
    ItemDone,
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
from wherry_worker.engine.overwriting import MOST_BESIDE, TIMES_OF_OTHERS, after_difference, decide, name_beside
from wherry_worker.engine.paths import byte_order, join, parent
from wherry_worker.engine.port import Halted, OnProgress, TaskFailed
from wherry_worker.engine.temporary import aside_name, is_stale, temporary_name
from wherry_worker.engine.verification import checksum_differs, leads_nowhere, not_protected, size_differs

BATCH_ENTRIES = 1000
#: Between two looks for temporaries after a kill: a server may create the file just after the first look.
SECOND_LOOK_S = 0.3
_NOT_LISTED = ("_NOT_FOUND", "_NOT_A_DIRECTORY", "_PERMISSION_DENIED", "_NAME_NOT_CARRIED", "_NAME_TOO_LONG")


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
            self._namespaces[task.side].unlink(task.path)
        except DoorError as error:
            if error.errno == 21:
                return UnlinkResult("directory")
            if error.errno == 2:
                return UnlinkResult("absent")
            raise TaskFailed(self.explain(error, task.side)) from error
        return UnlinkResult("removed")

    def remove_directory(self, task: RemoveDirectory) -> None:
        """Removes an empty directory; one that is gone counts as removed."""
        try:
            self._namespaces[task.side].remove_directory(task.path)
        except DoorError as error:
            if error.errno != 2:
                raise TaskFailed(self.explain(error, task.side)) from error

    def remove_files(self, task: RemoveFiles, halted: Halted) -> Iterator[ItemDone]:
        """Removes files; what would fail for all of them ends the task."""
        for index, name in enumerate(task.names, task.first_index):
            if halted():
                return
            started = time.monotonic()
            problem = None
            try:
                self._namespaces[task.side].unlink(join(task.directory, name))
            except DoorError as error:
                if error.errno != 2:
                    problem = self.explain(error, task.side)
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
        entries = [
            entry for entry in self._listed(task.path, task.side) if after is None or byte_order(entry.name) > after
        ]
        if task.follow_links:
            entries = [self._followed(task.path, entry) for entry in entries]
        entries.sort(key=lambda entry: byte_order(entry.name))
        beside: dict[str, Entry | None] = {}
        extraneous: list[Entry] = []
        if task.beside is not None:
            beside = dict.fromkeys(entry.name for entry in entries)
            for there in self._listed(task.beside, "destination"):
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

    def copy_files(self, task: CopyFiles, on_progress: OnProgress, halted: Halted) -> Iterator[ItemDone | ChannelUsed]:
        """Copies file by file; what would fail for all of them ends the task. The bytes go as they are."""
        if task.protection not in (None, "clear"):
            raise TaskFailed(not_protected())
        yield ChannelUsed("clear")
        if task.remove_stale:
            directories = tuple(dict.fromkeys(parent(_final_path(task, item)) for item in task.items))
            self.remove_temporaries(RemoveTemporaries(task.tag, task.fence - 1, directories))
        made: dict[str, Problem | None] = {}
        for item in task.items:
            if halted():
                return
            started = time.monotonic()
            problem = self._make_parent(parent(_final_path(task, item)), made) if task.make_parents else None
            done = ItemDone(item.index, problem=problem) if problem else self._copy_one(task, item, on_progress)
            if done.problem is not None and done.problem.stops:
                raise TaskFailed(done.problem)
            yield replace(done, duration_s=time.monotonic() - started)

    def remove_temporaries(self, task: RemoveTemporaries) -> None:
        """Removes stale temporaries of a task from directories, and looks again; a third time if there were any."""
        for attempt in range(3):
            found = [self._remove_stale(task, directory) for directory in task.directories]
            if not any(found) and attempt:
                return
            time.sleep(SECOND_LOOK_S if not attempt else 0)

    def _remove_stale(self, task: RemoveTemporaries, directory: str) -> bool:
        """Removes what is stale in one directory; returns whether something was.

        One that is missing, or that may be written but not listed, says for itself what it lets a copy do.
        """
        namespace = self._namespaces["destination"]
        try:
            stale = [e.name for e in namespace.entries(directory) if is_stale(e.name, task.tag, task.fence)]
            for name in stale:
                self._unlink_if_there(namespace, join(directory, name))
        except DoorError as error:
            problem = self.explain(error, "destination")
            if not problem.reason.endswith(_NOT_LISTED):
                raise TaskFailed(problem) from error
            return False
        return bool(stale)

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

    def _copy_one(self, task: CopyFiles, item: CopyItem, on_progress: OnProgress) -> ItemDone:
        source_path = join(task.source_directory, item.source_name)
        final_path = _final_path(task, item)
        temporary = join(parent(final_path), temporary_name(task.tag, task.fence, item.index))
        source, destination = self._namespaces["source"], self._namespaces["destination"]
        if self._bytes is None:
            raise LookupError("a copy for an engine with one door")
        side: Where = "source"
        created = False
        on_progress(Progress(item.index, "namespace", 0))
        try:
            found = source.stat(source_path)
            if found is None:
                return ItemDone(item.index, problem=self._lost_source())
            if found.kind != "file":
                raise DoorError("stat", 21, "Is a directory")
            side = "destination"
            existing = destination.stat(final_path)
            if existing is not None:
                if existing.kind != "file":
                    raise DoorError("stat", 21, "Is a directory")
                final_path, existing, ended = self._placed_among(task, item, source_path, found, final_path, existing)
                if ended is not None:
                    return ended
            side, created = "transfer", True
            on_progress(Progress(item.index, "copying", 0))
            self._bytes.copy(
                source_path,
                temporary,
                found.size_bytes,
                lambda count: on_progress(Progress(item.index, "copying", count)),
            )
            on_progress(Progress(item.index, "verifying", found.size_bytes))
            side = "destination"
            written = destination.stat(temporary)
            size = -1 if written is None else written.size_bytes
            if size != found.size_bytes:
                return ItemDone(item.index, problem=self._discard(temporary, size_differs(found.size_bytes, size)))
            value = ""
            if task.verification == "checksum":
                value = destination.checksum(temporary, task.algorithm)
                side = "source"
                at_source = source.checksum(source_path, task.algorithm)
                if at_source != value:
                    problem = checksum_differs(task.algorithm, at_source, value)
                    return ItemDone(item.index, problem=self._discard(temporary, problem))
                side = "destination"
            if task.keep_times:
                self._keep_time(temporary, found)
            if task.overwrite != "always":
                now = destination.stat(final_path)
                if now is not None and now.kind != "file":
                    raise DoorError("stat", 21, "Is a directory")
                if not _as_it_was(now, existing):
                    final_path, existing, ended = self._placed_among(task, item, source_path, found, final_path, now)
                    if ended is not None:
                        self._unlink_if_there(destination, temporary)
                        return ended
            self._put_in_place(task, item, temporary, final_path, existing is not None)
        except DoorError as error:
            where = side if side != "transfer" else self._where(error, source_path, temporary)
            problem = self.explain(error, where)
            if created:
                problem = self._discard(temporary, problem)
            return ItemDone(item.index, problem=problem)
        beside = "" if final_path == _final_path(task, item) else final_path.rsplit("/", 1)[-1]
        return ItemDone(item.index, found.size_bytes, value, kept_beside=beside)

    def _placed_among(
        self, task: CopyFiles, item: CopyItem, source_path: str, found: Entry, final_path: str, existing: Entry | None
    ) -> tuple[str, Entry | None, ItemDone | None]:
        """Returns what is at the destination's path, which may be another than asked for, or that all is done.

        Raises DoorError where something is there that shall stay.
        """
        wanted = final_path
        for number in range(1, MOST_BESIDE + 1):
            decision = decide(task.overwrite, task.comparison, found, existing)
            if decision == "leave":
                return final_path, existing, ItemDone(item.index, found.size_bytes, left_alone=True)
            if decision == "compare" and existing is not None:
                same = self._same_bytes(task, source_path, found, final_path, existing)
                if same is not None:
                    if task.keep_times and task.overwrite in TIMES_OF_OTHERS:
                        self._keep_time(final_path, found)
                    beside = "" if final_path == wanted else final_path.rsplit("/", 1)[-1]
                    done = ItemDone(item.index, found.size_bytes, same, adopted=True, kept_beside=beside)
                    return final_path, existing, done
                decision = after_difference(task.overwrite)
            if decision == "copy":
                return final_path, existing, None
            if decision == "refuse":
                break
            name = wanted.rsplit("/", 1)[-1]
            final_path = join(parent(wanted), name_beside(name, number))
            existing = self._namespaces["destination"].stat(final_path)
            if existing is not None and existing.kind != "file":
                existing = replace(existing, kind="file", size_bytes=-1)  # a directory keeps its name like another file
        raise DoorError("stat", 17, "File exists")

    def _keep_time(self, path: str, found: Entry) -> None:
        """Sets the time of change, where it is told and the door can."""
        if found.modify_time_s:
            with contextlib.suppress(DoorError):
                self._namespaces["destination"].set_modify_time(path, found.modify_time_s)

    def _same_bytes(
        self, task: CopyFiles, source_path: str, found: Entry, final_path: str, existing: Entry
    ) -> str | None:
        """Returns the checksum where both ends hold the same bytes already."""
        if found.size_bytes != existing.size_bytes:
            return None
        at_destination = self._namespaces["destination"].checksum(final_path, task.algorithm)
        at_source = self._namespaces["source"].checksum(source_path, task.algorithm)
        return at_source if at_source == at_destination else None

    def _put_in_place(self, task: CopyFiles, item: CopyItem, temporary: str, final: str, exists: bool) -> None:
        destination = self._namespaces["destination"]
        if not exists or self._doors["destination"].rename_replaces:
            destination.rename(temporary, final)
            return
        aside = join(parent(final), aside_name(task.tag, task.fence, item.index))
        destination.rename(final, aside)
        try:
            destination.rename(temporary, final)
        except DoorError:
            destination.rename(aside, final)
            raise
        self._unlink_if_there(destination, aside)

    def _discard(self, temporary: str, problem: Problem) -> Problem:
        """Removes a temporary after a failure; where that fails too, the problem says so."""
        try:
            self._unlink_if_there(self._namespaces["destination"], temporary)
        except DoorError as error:
            left = f"{problem.message} The temporary file {temporary} is left behind: {error.text[:100]}"
            return replace(problem, message=left)
        return problem

    def _lost_source(self) -> Problem:
        error = DoorError("stat", 2, "No such file or directory")
        return self.explain(error, "source")

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

    def _unlink_if_there(self, namespace: Namespace, path: str) -> None:
        try:
            namespace.unlink(path)
        except DoorError as error:
            if error.errno != 2:
                raise

    def _where(self, error: DoorError, source_path: str, temporary: str) -> Where:
        """Finds out from a copy's error which door it comes from."""
        source, destination = self._doors["source"], self._doors["destination"]
        if temporary in error.text:
            return "destination"
        if source_path in error.text:
            return "source"
        addresses = [f"{door.host}:{door.port}" for door in (source, destination)]
        if addresses[0] != addresses[1]:
            for where, address in zip(("source", "destination"), addresses, strict=True):
                if address in error.text:
                    return "source" if where == "source" else "destination"
        return "transfer"

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


def _as_it_was(now: Entry | None, before: Entry | None) -> bool:
    if now is None or before is None:
        return now is before
    return (now.kind, now.size_bytes, now.modify_time_s) == (before.kind, before.size_bytes, before.modify_time_s)


def _up_to(entries: list[Entry], last: bytes) -> Iterator[Entry]:
    """Takes from a list in falling order those up to a name."""
    while entries and byte_order(entries[-1].name) <= last:
        yield entries.pop()


def _final_path(task: CopyFiles, item: CopyItem) -> str:
    return join(task.destination_directory, item.destination_name)
