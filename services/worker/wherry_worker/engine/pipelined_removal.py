"""Removes a chunk of files with everything under way at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import ConnectionLost, Refused, UnfitName
from wherry_gridftp.pump import Broken, pump

from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.messages import ItemDone, Problem, RemoveFiles
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import join
from wherry_worker.engine.port import Halted, TaskFailed

_UNDER_WAY = 256
_MOST_LOSSES = 3
_NOT_FOUND = 2

Explain: TypeAlias = Callable[[DoorError], Problem]


class PipelinedRemoval:
    """One task of removing files; a file that is gone counts as removed.

    Args:
        explain: says what an error at the door means for people.
    """

    def __init__(self, door: GridFtpDoor, task: RemoveFiles, explain: Explain, halted: Halted) -> None:
        self._door = door
        self._task = task
        self._explain = explain
        self._halted = halted
        self._todo = deque(enumerate(task.names, task.first_index))
        self._under_way: dict[int, str] = {}
        self._ended: deque[ItemDone] = deque()
        self._fatal: Problem | None = None
        self._began_s = time.monotonic()

    def results(self, connection: Connection) -> Iterator[ItemDone]:
        """Removes, yielding each file as it is gone or has failed; the connection is the caller's to close.

        Raises:
            TaskFailed: what would happen to every further file.
            Broken: the connection is lost; called again with another one it goes on.
        """
        self._todo.extendleft(reversed(sorted(self._under_way.items())))
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
        while self._todo and len(self._under_way) < _UNDER_WAY:
            index, name = self._todo.popleft()
            self._under_way[index] = name
            try:
                operations.remove(
                    connection, self._door.path(join(self._task.directory, name)), self._taker(index)
                )
            except UnfitName as error:
                self._end(index, self._explain(door_error("unlink", error)))

    def _taker(self, index: int) -> operations.Then[None]:
        def take(answer: Refused | None) -> None:
            gone = answer is None or answer.reply.errno == _NOT_FOUND
            self._end(index, None if gone or answer is None else self._explain(door_error("unlink", answer)))

        return take

    def _end(self, index: int, problem: Problem | None) -> None:
        del self._under_way[index]
        if problem is not None and problem.stops:
            self._fatal = self._fatal or problem
        else:
            self._ended.append(ItemDone(index, duration_s=time.monotonic() - self._began_s, problem=problem))


def remove_files(
    door: GridFtpDoor, task: RemoveFiles, explain: Explain, halted: Halted, connect: Callable[[], Connection]
) -> Iterator[ItemDone]:
    """Removes files over as many connections, one after the other, as it takes.

    Raises:
        TaskFailed: what would happen to every further file; too many connections were lost.
        DoorError: no connection comes about.
    """
    removal = PipelinedRemoval(door, task, explain, halted)
    losses = 0
    while True:
        connection = connect()
        try:
            for done in removal.results(connection):
                losses = 0
                yield done
            return
        except Broken as broken:
            losses += 1
            if losses >= _MOST_LOSSES:
                raise TaskFailed(explain(_lost(broken.cause))) from broken
        finally:
            connection.close()


def _lost(cause: ConnectionLost) -> DoorError:
    return door_error("unlink", cause)
