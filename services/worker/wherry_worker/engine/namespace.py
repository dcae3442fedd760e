"""Ports below the step-by-step engine: a door's file operations, and a copy between two doors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from wherry_worker.engine.messages import Entry

#: Called with the bytes that are at the destination so far.
OnBytes = Callable[[int], None]


class DoorError(Exception):
    """A door, or the library that talks to it, refused an operation.

    `phase` is what was tried, as in failure_table.py; `errno` and `text` are as the library gave them. `lost` says
    that the connection is of no more use.
    """

    def __init__(self, phase: str, errno: int, text: str, *, lost: bool = False) -> None:
        super().__init__(phase, errno, text)
        self.phase = phase
        self.errno = errno
        self.text = text
        self.lost = lost

    def __str__(self) -> str:
        return f"{self.phase}: [{self.errno}] {self.text}"


class Namespace(Protocol):
    """File operations at one door. All raise DoorError; paths are absolute, without the door's root path."""

    def entries(self, path: str) -> Iterator[Entry]:
        """Yields a directory's entries in any order, without `.` and `..`.

        One without a name, the last, says that the door knows of more than it lists.
        """
        ...

    def stat(self, path: str) -> Entry | None:
        """Returns what is at a path, None where there is nothing; links are followed where the door follows them."""
        ...

    def make_directory(self, path: str) -> None:
        """Makes one directory; errno 17 where something is there, 2 where the parent is missing."""
        ...

    def rename(self, path: str, new_path: str) -> None:
        """Renames, replacing a file that is there."""
        ...

    def unlink(self, path: str) -> None:
        """Removes a file or a link; errno 21 for a directory, 2 for nothing."""
        ...

    def remove_directory(self, path: str) -> None:
        """Removes an empty directory; errno 39 where it is not empty."""
        ...

    def checksum(self, path: str, algorithm: str) -> str:
        """Returns a file's checksum, computed by the server."""
        ...

    def set_mode(self, path: str, mode: int) -> None:
        """Sets permission bits."""
        ...

    def set_modify_time(self, path: str, seconds: int) -> None:
        """Sets the time of change, in seconds since the epoch; errno 95 where the door cannot."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class ThirdParty(Protocol):
    """Copies from door to door."""

    def copy(self, source_path: str, destination_path: str, size_bytes: int, on_bytes: OnBytes) -> None:
        """Has the bytes sent straight from the source's server to the destination's; raises DoorError.

        What lies at the destination may be overwritten: callers give a temporary name that is theirs alone. Returning
        says nothing about the bytes: callers verify.
        """
        ...
