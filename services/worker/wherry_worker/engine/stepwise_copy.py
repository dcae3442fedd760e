"""One file after the other: look, bytes to a temporary name, look, checksums at both ends, rename.

Nothing is believed for a return code; a failure at any step removes the temporary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from wherry_worker.engine.failures import Where
from wherry_worker.engine.messages import CopyFiles, CopyItem, Door, Entry, ItemDone, Problem, Progress, Side
from wherry_worker.engine.namespace import DoorError, Namespace, ThirdParty
from wherry_worker.engine.overwriting import (
    MOST_BESIDE,
    TIMES_OF_OTHERS,
    after_difference,
    algorithm_to_compare,
    decide,
    name_beside,
)
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.port import OnProgress
from wherry_worker.engine.temporary import MOST_AGAIN, aside_name, temporary_name
from wherry_worker.engine.verification import checksum_differs, size_differs

Explain = Callable[[DoorError, Where], Problem]


@dataclass(slots=True)
class _Place:
    """Where a file is to be, and what is there: the policy may choose another name than was asked for."""

    path: str
    existing: Entry | None


class StepwiseCopy:
    """The files of one task.

    Args:
        namespaces, doors: of both sides.
        bytes_: moves them.
        explain: says what an error means for people.
    """

    def __init__(
        self,
        task: CopyFiles,
        namespaces: Mapping[Side, Namespace],
        doors: Mapping[Side, Door],
        bytes_: ThirdParty,
        explain: Explain,
    ) -> None:
        self._task = task
        self._source, self._destination = namespaces["source"], namespaces["destination"]
        self._doors = doors
        self._bytes = bytes_
        self._explain = explain
        #: Whether a temporary file could not be removed.
        self.remains = False

    def copy(self, item: CopyItem, on_progress: OnProgress) -> ItemDone:
        """Copies one file; returns what came of it."""
        task = self._task
        source_path = join(task.source_directory, item.source_name)
        wanted = final_path(task, item)
        again = task.engines_before * MOST_AGAIN
        temporary = join(parent(wanted), temporary_name(task.tag, task.fence, item.index, again))
        side: Where = "source"
        created = False
        on_progress(Progress(item.index, "namespace", 0))
        try:
            found = self._source.stat(source_path)
            if found is None:
                raise DoorError("stat", 2, "No such file or directory")
            if found.kind != "file":
                raise DoorError("stat", 21, "Is a directory")
            side = "destination"
            place = _Place(wanted, self._looked_at(wanted))
            if (done := self._decided(item, source_path, found, place)) is not None:
                return done
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
            written = self._destination.stat(temporary)
            size = -1 if written is None else written.size_bytes
            if size != found.size_bytes:
                return ItemDone(item.index, problem=self._discard(temporary, size_differs(found.size_bytes, size)))
            value = ""
            if task.verification == "checksum":
                value = self._destination.checksum(temporary, task.algorithm)
                side = "source"
                at_source = self._source.checksum(source_path, task.algorithm)
                if at_source != value:
                    problem = checksum_differs(task.algorithm, at_source, value)
                    return ItemDone(item.index, problem=self._discard(temporary, problem))
                side = "destination"
            if task.keep_times:
                self._keep_time(temporary, found)
            if task.overwrite != "always":
                now = self._looked_at(place.path)
                if not _as_it_was(now, place.existing):
                    place.existing = now
                    if (done := self._decided(item, source_path, found, place)) is not None:
                        unlink_if_there(self._destination, temporary)
                        return done
            self._put_in_place(item, temporary, place)
        except DoorError as error:
            where = side if side != "transfer" else self._where(error, source_path, temporary)
            problem = self._explain(error, where)
            if created:
                problem = self._discard(temporary, problem)
            return ItemDone(item.index, problem=problem)
        return ItemDone(item.index, found.size_bytes, value, kept_beside=_beside(place, wanted))

    def _looked_at(self, path: str) -> Entry | None:
        found = self._destination.stat(path)
        if found is not None and found.kind != "file":
            raise DoorError("stat", 21, "Is a directory")
        return found

    def _decided(self, item: CopyItem, source_path: str, found: Entry, place: _Place) -> ItemDone | None:
        """Finds the place of a file, or that all is done.

        Raises DoorError where something is there that shall stay.
        """
        task, wanted = self._task, final_path(self._task, item)
        for number in range(1, MOST_BESIDE + 1):
            decision = decide(task.overwrite, task.comparison, found, place.existing)
            if decision == "leave":
                return ItemDone(item.index, found.size_bytes, left_alone=True)
            if decision == "compare" and place.existing is not None:
                algorithm = algorithm_to_compare(task.algorithm, task.comparison, found, place.existing)
                same = self._same_bytes(source_path, place.path, algorithm)
                if same is not None:
                    if task.keep_times and task.overwrite in TIMES_OF_OTHERS:
                        self._keep_time(place.path, found)
                    beside = _beside(place, wanted)
                    return ItemDone(
                        item.index, found.size_bytes, same, adopted=True, kept_beside=beside, algorithm=algorithm
                    )
                decision = after_difference(task.overwrite)
            if decision == "copy":
                return None
            if decision == "refuse":
                break
            place.path = join(parent(wanted), name_beside(wanted.rsplit("/", 1)[-1], number))
            place.existing = self._destination.stat(place.path)
            if place.existing is not None and place.existing.kind != "file":
                # A directory keeps its name like another file.
                place.existing = replace(place.existing, kind="file", size_bytes=-1)
        raise DoorError("stat", 17, "File exists")

    def _same_bytes(self, source_path: str, path: str, algorithm: str) -> str | None:
        """Returns the checksum where both ends hold the same bytes already; where a door cannot tell, they do not."""
        try:
            at_destination = self._destination.checksum(path, algorithm)
            at_source = self._source.checksum(source_path, algorithm)
        except DoorError as error:
            if error.lost or algorithm == self._task.algorithm:
                raise
            return None
        return at_source if at_source == at_destination else None

    def _keep_time(self, path: str, found: Entry) -> None:
        """Sets the time of change, where it is told and the door can."""
        if found.modify_time_s:
            with contextlib.suppress(DoorError):
                self._destination.set_modify_time(path, found.modify_time_s)

    def _put_in_place(self, item: CopyItem, temporary: str, place: _Place) -> None:
        if place.existing is None or self._doors["destination"].rename_replaces:
            self._destination.rename(temporary, place.path)
            return
        aside = join(parent(place.path), aside_name(self._task.tag, self._task.fence, item.index))
        self._destination.rename(place.path, aside)
        try:
            self._destination.rename(temporary, place.path)
        except DoorError:
            self._destination.rename(aside, place.path)
            raise
        unlink_if_there(self._destination, aside)

    def _discard(self, temporary: str, problem: Problem) -> Problem:
        """Removes a temporary after a failure; where that fails too, the problem says so."""
        try:
            unlink_if_there(self._destination, temporary)
        except DoorError as error:
            self.remains = True
            left = f"{problem.message} The temporary file {temporary} is left behind: {error.text[:100]}"
            return replace(problem, message=left)
        return problem

    def _where(self, error: DoorError, source_path: str, temporary: str) -> Where:
        """Finds out from a copy's error which door it comes from."""
        if temporary in error.text:
            return "destination"
        if source_path in error.text:
            return "source"
        source, destination = (f"{self._doors[side].host}:{self._doors[side].port}" for side in _SIDES)
        if source != destination and source in error.text:
            return "source"
        if source != destination and destination in error.text:
            return "destination"
        return "transfer"


_SIDES: tuple[Side, Side] = ("source", "destination")


def final_path(task: CopyFiles, item: CopyItem) -> str:
    """Returns the path that a file is asked to have."""
    return join(task.destination_directory, item.destination_name)


def unlink_if_there(namespace: Namespace, path: str) -> None:
    """Removes a file; one that is gone is no error. Raises DoorError."""
    try:
        namespace.unlink(path)
    except DoorError as error:
        if error.errno != 2:
            raise


def _beside(place: _Place, wanted: str) -> str:
    return "" if place.path == wanted else place.path.rsplit("/", 1)[-1]


def _as_it_was(now: Entry | None, before: Entry | None) -> bool:
    if now is None or before is None:
        return now is before
    return (now.size_bytes, now.modify_time_s) == (before.size_bytes, before.modify_time_s)
