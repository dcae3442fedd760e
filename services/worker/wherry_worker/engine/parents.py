"""Directories above files to be written: made where they are missing, each once, whoever needs them."""

from __future__ import annotations

from collections.abc import Callable

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import Refused, UnfitName

from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import parent

Then = Callable[[DoorError | None], None]
_NOT_FOUND = 2


class Parents:
    """The directories of one task; what could not be made is not tried again."""

    def __init__(self, connection: Connection, door: GridFtpDoor) -> None:
        self._connection = connection
        self._door = door
        self._known: dict[str, DoorError | None] = {}
        self._waiting: dict[str, list[Then]] = {}

    def ensure(self, directory: str, then: Then) -> None:
        """Calls `then` once a directory is there, or with why it is not."""
        if directory in self._known:
            then(self._known[directory])
        elif directory in self._waiting:
            self._waiting[directory].append(then)
        else:
            self._waiting[directory] = [then]
            self._make(directory, above_made=False)

    def _make(self, directory: str, *, above_made: bool) -> None:
        path = self._door.path(directory)

        def made(answer: Refused | None) -> None:
            if answer is None:
                self._settle(directory, None)
            elif answer.reply.errno == _NOT_FOUND and not above_made and parent(directory) != directory:
                self.ensure(parent(directory), above)
            else:
                # Servers differ in what they say for a directory that is there and may not be written: look.
                operations.stat(self._connection, path, lambda found: looked(answer, found))

        def above(error: DoorError | None) -> None:
            if error is None:
                self._make(directory, above_made=True)
            else:
                self._settle(directory, error)

        def looked(answer: Refused, found: Entry | Refused | None) -> None:
            if isinstance(found, Entry):
                error = None if found.kind == "directory" else DoorError("mkdir", 17, "File exists")
                self._settle(directory, error)
            else:
                self._settle(directory, door_error("mkdir", answer))

        try:
            operations.make_directory(self._connection, path, made)
        except UnfitName as error:
            self._settle(directory, door_error("mkdir", error))

    def _settle(self, directory: str, error: DoorError | None) -> None:
        self._known[directory] = error
        for then in self._waiting.pop(directory, ()):
            then(error)
