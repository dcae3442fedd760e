"""What a copy leaves at the destination under temporary names: removed at once, and looked for again at the end."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import Refused
from wherry_gridftp.pump import Broken, pump

CLEAN_UP_S = 10.0
_SECOND_LOOK_S = 0.3
"""A server that was stopped may make the file that it was about to write just after that was removed."""
_NOT_FOUND = 2


class Leftovers:
    """Temporary files of a copy that nobody needs any more.

    Attributes:
        remain: whether something may be there still, since a server did not remove it.
    """

    def __init__(self) -> None:
        self.remain = False
        self._suspect: dict[bytes, None] = {}
        self._asked: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        """Whether something is to be looked for at the end."""
        return bool(self._suspect)

    def suspect(self, paths: Iterable[bytes]) -> None:
        """Has paths looked for at the end: a server may only now come to make them."""
        self._suspect.update(dict.fromkeys(paths))

    def remove(self, names: Connection | None, paths: Iterable[bytes]) -> None:
        """Has files removed; without a connection, or where it is lost before it has answered, at the end."""
        for path in paths:
            self._asked[path] = None
            if names is not None:
                self._submit(names, path)

    def of_lost_connection(self) -> None:
        """Has what was asked for and not answered asked for at the end."""
        self.suspect(self._asked)
        self._asked.clear()

    def clear(self, names: Connection | None, spared: Collection[bytes]) -> None:
        """Removes all that is suspect but for what is spared, twice; without a connection it only notes that."""
        self.of_lost_connection()
        paths = [path for path in self._suspect if path not in spared]
        if not paths:
            return
        self.remain = True
        if names is None:
            return
        try:
            self._remove_and_wait(names, paths)
            pump([names], lambda: False, within_s=_SECOND_LOOK_S)
            self.remain = self._remove_and_wait(names, paths)
        except Broken:
            return

    def _remove_and_wait(self, names: Connection, paths: Iterable[bytes]) -> bool:
        """Removes; returns whether something remains."""
        self._asked.clear()
        self.remain = False
        for path in paths:
            self._asked[path] = None
            self._submit(names, path)
        return not pump([names], lambda: not names.busy, within_s=CLEAN_UP_S) or self.remain

    def _submit(self, names: Connection, path: bytes) -> None:
        def take(answer: Refused | None) -> None:
            self._asked.pop(path, None)
            if answer is not None and answer.reply.errno != _NOT_FOUND:
                self.remain = True

        operations.remove(names, path, take)
