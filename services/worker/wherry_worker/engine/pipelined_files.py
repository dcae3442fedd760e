"""Does one thing to each file of a chunk, with everything under way at once: removes it, sets its mode, or has its
checksum computed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import ConnectionLost, Refused, UnfitName
from wherry_gridftp.pump import Broken, pump

from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.messages import ItemDone, Problem
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import join
from wherry_worker.engine.port import Halted, TaskFailed

_MOST_LOSSES = 3
_NOT_FOUND = 2


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one file; `error` None: it is done."""

    error: DoorError | None = None
    size_bytes: int = 0
    checksum: str = ""


Explain: TypeAlias = Callable[[DoorError], Problem]
Act: TypeAlias = Callable[[Connection, bytes, Callable[[Done], None]], None]
"""Submits what is to be done to a path, and tells what came of it; raises UnfitName."""


@dataclass(frozen=True, slots=True)
class Chore:
    """What is done to each file.

    Attributes:
        phase: as in the failure table.
        act: does it.
        under_way: how many at a time.
    """

    phase: str
    act: Act
    under_way: int = 256


def removing() -> Chore:
    """Removes; a file that is gone counts as removed."""

    def act(connection: Connection, path: bytes, end: Callable[[Done], None]) -> None:
        def take(answer: Refused | None) -> None:
            gone = answer is None or answer.reply.errno == _NOT_FOUND
            end(Done() if gone or answer is None else Done(door_error("unlink", answer)))

        operations.remove(connection, path, take)

    return Chore("unlink", act)


def setting_mode(mode: int) -> Chore:
    """Sets permission bits."""

    def act(connection: Connection, path: bytes, end: Callable[[Done], None]) -> None:
        operations.set_mode(
            connection, path, mode, lambda answer: end(Done(None if answer is None else door_error("chmod", answer)))
        )

    return Chore("chmod", act)


def summing(algorithm: str, patience_s: float) -> Chore:
    """Has checksums computed; only of files."""

    def act(connection: Connection, path: bytes, end: Callable[[Done], None]) -> None:
        def seen(answer: Entry | Refused | None) -> None:
            if isinstance(answer, Refused):
                end(Done(door_error("stat", answer)))
            elif answer is None:
                end(Done(DoorError("stat", _NOT_FOUND, "No such file or directory")))
            elif answer.kind != "file":
                end(Done(DoorError("stat", 21, "Is a directory")))
            else:
                operations.checksum(
                    connection, path, algorithm, lambda value: summed(answer, value), patience_s=patience_s
                )

        def summed(found: Entry, value: str | Refused) -> None:
            if isinstance(value, Refused):
                end(Done(door_error("checksum", value)))
            else:
                end(Done(None, found.size_bytes, value))

        operations.stat(connection, path, seen)

    # Servers read files one after the other on a connection: more at a time would be no quicker.
    return Chore("checksum", act, under_way=64)


class PipelinedFiles:
    """One task.

    Args:
        directory, names: the files.
        explain: says what an error at the door means for people.
        first_index: the index of the first of them.
    """

    def __init__(
        self,
        door: GridFtpDoor,
        chore: Chore,
        directory: str,
        names: Sequence[str],
        explain: Explain,
        halted: Halted,
        *,
        first_index: int = 0,
    ) -> None:
        self._door = door
        self._chore = chore
        self._directory = directory
        self._explain = explain
        self._halted = halted
        self._todo = deque(enumerate(names, first_index))
        self._under_way: dict[int, str] = {}
        self._ended: deque[ItemDone] = deque()
        self._fatal: Problem | None = None
        self._began_s = time.monotonic()

    def results(self, connect: Callable[[], Connection]) -> Iterator[ItemDone]:
        """Yields each file as it is done or has failed; over as many connections, one after the other, as it takes.

        Raises:
            TaskFailed: what would happen to every further file; too many connections were lost.
            DoorError: no connection comes about.
        """
        losses = 0
        while True:
            connection = connect()
            try:
                for done in self._over(connection):
                    losses = 0
                    yield done
                return
            except Broken as broken:
                losses += 1
                if losses >= _MOST_LOSSES:
                    raise TaskFailed(self._explain(self._lost(broken.cause))) from broken
            finally:
                connection.close()

    def _over(self, connection: Connection) -> Iterator[ItemDone]:
        self._todo.extendleft(sorted(self._under_way.items(), reverse=True))
        self._under_way.clear()
        while self._fatal is None:
            self._begin(connection)
            if not self._under_way and not self._ended:
                return
            pump([connection], lambda: bool(self._ended or self._fatal), within_s=1.0)
            while self._ended:
                yield self._ended.popleft()
        raise TaskFailed(self._fatal)

    def _begin(self, connection: Connection) -> None:
        if self._halted():
            self._todo.clear()
        while self._todo and len(self._under_way) < self._chore.under_way:
            index, name = self._todo.popleft()
            self._under_way[index] = name
            try:
                self._chore.act(connection, self._door.path(join(self._directory, name)), self._taker(index))
            except UnfitName as error:
                self._end(index, Done(door_error(self._chore.phase, error)))

    def _taker(self, index: int) -> Callable[[Done], None]:
        return lambda done: self._end(index, done)

    def _end(self, index: int, done: Done) -> None:
        del self._under_way[index]
        problem = None if done.error is None else self._explain(done.error)
        if problem is not None and problem.stops:
            self._fatal = self._fatal or problem
        else:
            duration_s = time.monotonic() - self._began_s
            self._ended.append(ItemDone(index, done.size_bytes, done.checksum, duration_s, problem=problem))

    def _lost(self, cause: ConnectionLost) -> DoorError:
        return door_error(self._chore.phase, cause)
