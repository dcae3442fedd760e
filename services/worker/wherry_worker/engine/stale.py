"""What earlier beginnings of a task have left at its destination: looked for, removed, or kept to go on from.

A server that served a killed copy may make a file just after a look, so that there is a second one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wherry_worker.engine.messages import Problem
from wherry_worker.engine.namespace import DoorError, Namespace
from wherry_worker.engine.paths import join
from wherry_worker.engine.port import TaskFailed
from wherry_worker.engine.temporary import TemporaryName, parse

SECOND_LOOK_S = 0.3
_NOT_LISTED = ("_NOT_FOUND", "_NOT_A_DIRECTORY", "_PERMISSION_DENIED", "_NAME_NOT_CARRIED", "_NAME_TOO_LONG")


@dataclass(frozen=True, slots=True)
class Stale:
    """A file that an earlier beginning has left.

    Attributes:
        size_bytes: 0 where it is anything but a file: a link that stands there under such a name is nobody's partial.
    """

    directory: str
    text: str
    name: TemporaryName
    size_bytes: int

    @property
    def path(self) -> str:
        """Where it is."""
        return join(self.directory, self.text)


Choose = Callable[[Sequence[Stale]], Sequence[Stale]]
"""Says which of those that were found are kept."""


def keep_none(found: Sequence[Stale]) -> Sequence[Stale]:
    """Has all of them removed."""
    del found
    return ()


def largest_of_each(found: Iterable[Stale]) -> Sequence[Stale]:
    """Returns of each item the one of which the most is there."""
    best: dict[tuple[str, int], Stale] = {}
    for one in found:
        key = one.directory, one.name.index
        if key not in best or best[key].size_bytes < one.size_bytes:
            best[key] = one
    return list(best.values())


class Sweep:
    """Looks for what is stale in directories of a door, and removes it but for what is chosen.

    Args:
        explain: says what an error of the door means.
        is_stale: says of which temporary names this is about.
    """

    def __init__(
        self, namespace: Namespace, explain: Callable[[DoorError], Problem], is_stale: Callable[[TemporaryName], bool]
    ) -> None:
        self._namespace = namespace
        self._explain = explain
        self._is_stale = is_stale

    def run(self, directories: Sequence[str], choose: Choose = keep_none) -> Sequence[Stale]:
        """Removes, and looks again; a third time if there was something. Returns what is kept.

        Raises:
            TaskFailed: the door cannot be worked at.
        """
        kept: Sequence[Stale] = ()
        for attempt in range(3):
            found = [stale for directory in directories for stale in self._look(directory)]
            kept = choose(found)
            unwanted = [stale for stale in found if stale not in kept]
            self._remove(unwanted)
            if not unwanted and attempt:
                break
            time.sleep(SECOND_LOOK_S if not attempt else 0)
        return kept

    def _look(self, directory: str) -> list[Stale]:
        """Returns what is stale in one directory.

        One that is missing, or that may be written but not listed, says for itself what it lets a copy do.
        """
        found = []
        try:
            for entry in self._namespace.entries(directory):
                name = parse(entry.name)
                if name is not None and self._is_stale(name):
                    size_bytes = entry.size_bytes if entry.kind == "file" else 0
                    found.append(Stale(directory, entry.name, name, size_bytes))
        except DoorError as error:
            self._raise_unless_not_listed(error)
            return []
        return found

    def _remove(self, unwanted: Sequence[Stale]) -> None:
        for stale in unwanted:
            try:
                self._namespace.unlink(stale.path)
            except DoorError as error:
                if error.errno != 2:
                    self._raise_unless_not_listed(error)

    def _raise_unless_not_listed(self, error: DoorError) -> None:
        problem = self._explain(error)
        if not problem.reason.endswith(_NOT_LISTED):
            raise TaskFailed(problem) from error
