"""What `ls` writes of a listing to a depth: a heading for each directory, as `ls -R` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from wherry.queue.v1 import file_service_pb2
from wherry.type.v1 import entry_pb2

from wherry_client.command import console
from wherry_client.names import show_text
from wherry_client.paths import RemotePath, raw_name

#: The most that a listing goes down.
MOST_LEVELS = 32

Batches = Iterable[file_service_pb2.ListDirectoryResponse]
ShowEntry = Callable[[entry_pb2.Entry, bytes], None]


class Directories:
    """In which order a listing to a depth comes to the directories that it has told: empty ones show by nothing else.

    Attributes:
        current: the one whose entries come now, as a path below the listing's own.
    """

    def __init__(self, depth: int) -> None:
        self.current = b""
        self._depth = depth
        self._waiting: list[bytes] = []
        self._found: list[bytes] = []

    def found(self, path: bytes) -> None:
        """A directory has been told among the entries of the current one."""
        if path.count(b"/") + 1 < self._depth:
            self._found.append(path)

    def passed(self) -> Iterator[bytes]:
        """Goes on directory by directory, yielding each, to the end."""
        while self._found or self._waiting:
            self._waiting.extend(reversed(self._found))
            self._found = []
            self.current = self._waiting.pop()
            yield self.current


def show_tree(place: RemotePath, batches: Batches, depth: int, show: ShowEntry) -> bool:
    """Writes a listing to a depth as it comes; returns whether all of it could be listed. `show` writes an entry."""
    directories = Directories(depth)
    whole, is_directory = True, True
    headed = False
    for batch in batches:
        if batch.kind not in (entry_pb2.ENTRY_KIND_UNSPECIFIED, entry_pb2.ENTRY_KIND_DIRECTORY):
            is_directory = False
        for entry in batch.entries:
            path = raw_name(entry)
            above, _, name = path.rpartition(b"/")
            if is_directory and not headed:
                console.say(f"{place}:")
                headed = True
            if is_failed_directory(entry):
                _go_to(place, directories, path)
                console.note(f"{place.child(path)}: {show_text(entry.failure.message)}")
                whole = False
                continue
            if is_directory:
                _go_to(place, directories, above)
            if entry.kind == entry_pb2.ENTRY_KIND_DIRECTORY:
                directories.found(path)
            show(entry, name)
    if is_directory and not headed:
        console.say(f"{place}:")
    for path in directories.passed():
        _head(place, path)
    return whole


def is_failed_directory(entry: entry_pb2.Entry) -> bool:
    """Tells whether an entry says of a directory, told before, that it could not be listed."""
    return entry.kind == entry_pb2.ENTRY_KIND_DIRECTORY and entry.HasField("failure")


def tree_as_json(batches: Batches) -> tuple[str, list[dict[str, object]], bool]:
    """Returns path and entries of a listing, and whether all of it could be listed; each entry stands there once."""
    listed, whole = "", True
    entries: list[dict[str, object]] = []
    places: dict[bytes, int] = {}
    for batch in batches:
        listed = batch.path or listed
        for entry in batch.entries:
            path = raw_name(entry)
            if is_failed_directory(entry) and path in places:
                entries[places[path]]["failure"] = console.as_json(entry.failure)
                whole = False
                continue
            if entry.kind == entry_pb2.ENTRY_KIND_DIRECTORY:
                places[path] = len(entries)
            entries.append(console.as_json(entry))
    return listed, entries, whole


def _go_to(place: RemotePath, directories: Directories, goal: bytes) -> None:
    if directories.current == goal:
        return
    for path in directories.passed():
        _head(place, path)
        if path == goal:
            return


def _head(place: RemotePath, path: bytes) -> None:
    console.say(f"\n{place.child(path)}:")
