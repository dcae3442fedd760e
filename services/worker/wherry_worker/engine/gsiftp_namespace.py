"""File operations at a GridFTP door by our own client.

Against gfal2's listings it tells links, keeps every byte of a name, needs no data channel, and logs in in 30 ms.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from wherry_gridftp import entries, operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import GridFtpError, Refused
from wherry_gridftp.listing import list_directory
from wherry_gridftp.pump import command

from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.messages import Door, Entry, Problem, Setup
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import to_text

T = TypeVar("T")
_Listed = entries.Entry
#: What this client needs; a server that lacks one is left to gfal2.
_NEEDED = ("MLSC", "CKSM", "MLST")
#: A connection idle for longer is asked for a sign of life before it is trusted with a command.
_IDLE_S = 20.0
#: Operations that can be asked for twice.
_HARMLESS = frozenset({"stat", "list", "checksum"})


class ControlNamespace:
    """A door's file operations. Connects when first needed; raises NotOffered then where the server lacks something."""

    def __init__(self, setup: Setup, door: Door) -> None:
        self._setup = setup
        self._door = GridFtpDoor(door, setup.namespace_timeout_s)
        self._connection: Connection | None = None
        self._used_at = 0.0

    def connect(self) -> None:
        """Connects, logs in and looks at what the server offers. Raises DoorError, NotOffered."""
        self._connected()

    def stat(self, path: str) -> Entry | None:
        """Returns what is at a path, links followed."""

        def submit(connection: Connection, then: operations.Then[entries.Entry | None]) -> None:
            operations.stat(connection, self._door.path(path), then)

        found = self._ask("stat", submit)
        return None if found is None else _entry(path.rstrip("/").rsplit("/", 1)[-1], found, None)

    def entries(self, path: str) -> Iterator[Entry]:
        """Yields a directory's entries; a name with a line break in it is an unlistable one."""
        found: list[Entry] = []
        itself = False
        held = 0
        listed = self._listed(path)
        for entry in listed:
            if entry.itself:
                itself = True
                held = held if entry.name == b".." else entry.count
            else:
                name = to_text(entry.name)
                if _leads_out(name):
                    found.append(Entry(name, "unlistable", problem=_LINE_BREAK))
                else:
                    target = None if entry.target is None else self._door.target(entry.target)
                    found.append(_entry(name, entry, target))
        if not itself:
            self._refuse_file(path)
        yield from found
        if held > len(listed):
            yield Entry("", "unlistable", problem=not_listed(held - len(listed)))

    def make_directory(self, path: str) -> None:
        """Makes one directory."""
        self._do("mkdir", lambda c, then: operations.make_directory(c, self._door.path(path), then))

    def rename(self, path: str, new_path: str) -> None:
        """Renames."""
        self._do("rename", lambda c, then: operations.rename(c, self._door.path(path), self._door.path(new_path), then))

    def unlink(self, path: str) -> None:
        """Removes a file or a link."""
        self._do("unlink", lambda c, then: operations.remove(c, self._door.path(path), then))

    def remove_directory(self, path: str) -> None:
        """Removes an empty directory, or one that holds only what the server does not list: links that lead nowhere."""
        try:
            self._do("rmdir", lambda c, then: operations.remove_directory(c, self._door.path(path), then))
        except DoorError as error:
            if error.errno != errno.ENOTEMPTY or any(not entry.itself for entry in self._listed(path)):
                raise
            try:
                self._do("rmdir", lambda c, then: operations.remove_tree(c, self._door.path(path), then))
            except DoorError as second:
                raise (second if second.lost else error) from second

    def checksum(self, path: str, algorithm: str) -> str:
        """Returns a checksum, lower case, with the zeros that some servers leave out."""
        patience_s = self._setup.checksum_timeout_s

        def submit(connection: Connection, then: operations.Then[str]) -> None:
            operations.checksum(connection, self._door.path(path), algorithm, then, patience_s=patience_s)

        return self._ask("checksum", submit)

    def set_mode(self, path: str, mode: int) -> None:
        """Sets permission bits."""
        self._do("chmod", lambda c, then: operations.set_mode(c, self._door.path(path), mode, then))

    def set_modify_time(self, path: str, seconds: int) -> None:
        """Sets the time of change."""
        self._do("utime", lambda c, then: operations.set_modify_time(c, self._door.path(path), seconds, then))

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listed(self, path: str) -> list[_Listed]:
        return self._try("list", lambda c: list(list_directory(c, self._door.path(path))))

    def _do(self, phase: str, submit: Callable[[Connection, operations.Then[None]], None]) -> None:
        self._ask(phase, submit)

    def _ask(self, phase: str, submit: Callable[[Connection, operations.Then[T]], None]) -> T:
        def work(connection: Connection) -> T:
            def submit_here(then: operations.Then[T]) -> None:
                submit(connection, then)

            return operations.ask(connection, submit_here)

        return self._try(phase, work)

    def _try(self, phase: str, work: Callable[[Connection], T]) -> T:
        warm = self._connection is not None
        try:
            return self._attempt(phase, work)
        except DoorError as error:
            if not (error.lost and warm and phase in _HARMLESS):
                raise
            # The server has dropped a connection that we had kept: that says nothing about the operation.
            return self._attempt(phase, work)

    def _attempt(self, phase: str, work: Callable[[Connection], T]) -> T:
        connection = self._connected()
        in_order = False
        try:
            answer = work(connection)
            in_order = True
        except GridFtpError as error:
            translated = door_error(phase, error)
            in_order = not translated.lost
            raise translated from error
        finally:
            self._used_at = time.monotonic()
            if not in_order:
                self.close()
        return answer

    def _connected(self) -> Connection:
        if self._connection is not None and time.monotonic() - self._used_at > _IDLE_S:
            try:
                command(self._connection, b"NOOP")
            except Refused:
                pass
            except GridFtpError:
                self.close()
        if self._connection is None:
            self._connection = self._door.connect(_NEEDED)
        self._used_at = time.monotonic()
        return self._connection

    def _refuse_file(self, path: str) -> None:
        """A server lists a file as itself: raises where this is one."""
        found = self.stat(path)
        if found is not None and found.kind != "directory":
            raise DoorError("list", 20, "Not a directory")


def _entry(name: str, found: entries.Entry, target: str | None) -> Entry:
    """Returns an entry; with a target a link is told as one, without as what it leads to."""
    if "\r" in name or "\n" in name:
        return Entry(name, "unlistable", problem=_LINE_BREAK)
    kind = "symlink" if found.target is not None and target is not None else found.kind
    return Entry(
        name=name,
        kind=kind,
        size_bytes=found.size_bytes if kind == "file" else 0,
        modify_time_s=found.modify_time_s,
        mode=found.mode,
        target=(target or "") if kind == "symlink" else "",
    )


def _leads_out(name: str) -> bool:
    """Tells whether a name is none of an entry: what follows a line break in a real one can look like an entry's line.

    Nobody who may write to a directory may so have its removal go on in the directory above.
    """
    return name in ("", ".", "..") or "/" in name or "\0" in name


def not_listed(count: int) -> Problem:
    """What it means that a server says of a directory that it holds more than it lists."""
    what = "an entry" if count == 1 else f"{count} entries"
    return Problem(
        "ENTRIES_NOT_LISTED",
        f"The directory holds {what} that its server does not list, as symbolic links that lead nowhere.",
        "user",
        help="Look at it at the site itself.",
    )


_LINE_BREAK = Problem(
    "SOURCE_NAME_NOT_CARRIED",
    "GridFTP cannot carry this name: it holds a line break.",
    "user",
    help="Rename it at the site.",
)
