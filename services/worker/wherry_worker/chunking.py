"""Cuts what a walk finds into chunks and batches. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from wherry_worker.engine.paths import to_bytes
from wherry_worker.work import ChunkItem, Found, ItemFailure

#: Bounds of one report; messages may hold 1 MiB, and the packing adds a little.
BATCH_BYTES = 700 * 1024
BATCH_CHUNKS = 10
#: What an item or a failure weighs beside its names.
_ITEM_BYTES = 60
_FAILURE_BYTES = 400


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How large a chunk may be. A single file above `total_bytes` is a chunk of its own.

    Small enough that cancelling, retrying and sharing stay fine-grained, large enough that what a task costs beside its
    files is little: five hundred small ones are a second's work for a pipelined engine. The contract allows 1,000.
    """

    items: int = 500
    total_bytes: int = 2 << 30
    #: Of the names, so that a packed chunk stays below the contract's 256 KiB even where nothing compresses.
    name_bytes: int = 160 << 10


@dataclass(slots=True)
class BatchBuilder:
    """Gathers what a walk finds, in byte order of the names, into batches with a cursor each."""

    cursor: str
    limits: ChunkLimits
    chunk_source_directory: str = ""
    chunk_destination_directory: str = ""
    #: 1 until the first batch has gone: the walk's own directory was made or found.
    directories_done: int = 0
    #: Where the names that are added lie: a sub-directory's name with a slash; and what stands before them in cursors.
    below: str = ""
    cursor_base: str = ""
    _after: str = field(init=False)
    _chunks: list[tuple[ChunkItem, ...]] = field(default_factory=list)
    _open: list[ChunkItem] = field(default_factory=list)
    _open_bytes: int = 0
    _open_name_bytes: int = 0
    _directories: list[str] = field(default_factory=list)
    _failures: list[ItemFailure] = field(default_factory=list)
    _skipped: list[ItemFailure] = field(default_factory=list)
    _files_unchanged: int = 0
    _bytes_unchanged: int = 0
    _extraneous: list[ChunkItem] = field(default_factory=list)
    _extraneous_directories: list[str] = field(default_factory=list)
    _inner_directories: int = 0
    _weight: int = 0
    _taken: int = 0

    def __post_init__(self) -> None:
        self._after = self.cursor

    def add_file(self, item: ChunkItem) -> None:
        """Adds a file to the open chunk, closing it where it is full."""
        if self.below:
            arrival = self.below + item.destination_name if item.destination_name else ""
            item = replace(item, name=self.below + item.name, destination_name=arrival)
        names = len(to_bytes(item.name)) + len(to_bytes(item.destination_name))
        too_large = (
            len(self._open) >= self.limits.items
            or self._open_bytes + item.size_bytes > self.limits.total_bytes
            or self._open_name_bytes + names > self.limits.name_bytes
        )
        if self._open and too_large:
            self._close_chunk()
        self._open.append(item)
        self._open_bytes += item.size_bytes
        self._open_name_bytes += names
        self._passed(item.name.removeprefix(self.below), _ITEM_BYTES)

    def add_directory(self, name: str) -> None:
        """Adds a sub-directory to walk."""
        self._directories.append(self.below + name)
        self._passed(name, _ITEM_BYTES)

    def defer_directories(self) -> Sequence[str]:
        """Takes back the directories that the batch has, for the walk to go into them itself, and returns them.

        From here on cursors have three parts: where the walk's own listing ends, where this batch begins, and how far
        what lies below has come. By them another attempt knows which directories there were.
        """
        deferred, self._directories = self._directories, []
        self.cursor_base = f"{self.cursor}/{self._after}/"
        self.cursor = self.cursor_base
        return deferred

    def enter(self, name: str, *, counted: bool = False) -> None:
        """Goes into a sub-directory, which has been made or found; `counted`: an attempt before has said so."""
        self.below = f"{name}/"
        self._inner_directories += not counted
        self._passed("", _ITEM_BYTES)

    def leave(self) -> None:
        """Comes back from a sub-directory."""
        self.below = ""

    def leave_to_others(self, name: str) -> None:
        """Adds a sub-directory to walk that is not gone into; a cursor that ends so says that of it."""
        self._directories.append(name)
        self._passed(f"{name}//", _ITEM_BYTES)

    @property
    def directories(self) -> int:
        """How many sub-directories the batch has so far."""
        return len(self._directories)

    @property
    def has_failures(self) -> bool:
        """Whether the batch has an entry that cannot be worked on."""
        return bool(self._failures)

    def add_failure(self, name: str, failure: ItemFailure) -> None:
        """Adds an entry that cannot be worked on."""
        self._failures.append(failure)
        self._passed(name, _FAILURE_BYTES + len(failure.path))

    def add_skipped(self, name: str, why: ItemFailure) -> None:
        """Adds an entry that is left out, which is said."""
        self._skipped.append(why)
        self._passed(name, _FAILURE_BYTES + len(why.path))

    def add_unlisted(self, why: ItemFailure) -> None:
        """Adds that the directory holds more than is listed, which is said."""
        self._skipped.append(why)

    def add_unchanged(self, name: str, size_bytes: int) -> None:
        """Adds a file that needs nothing."""
        self._files_unchanged += 1
        self._bytes_unchanged += size_bytes
        self._passed(name, 0)

    def add_extraneous(self, item: ChunkItem) -> None:
        """Adds a file that only the destination has."""
        self._extraneous.append(item)
        self._passed(item.name, _ITEM_BYTES)

    def add_extraneous_directory(self, name: str) -> None:
        """Adds a directory that only the destination has."""
        self._extraneous_directories.append(name)
        self._passed(name, _ITEM_BYTES)

    def skip(self, name: str) -> None:
        """Passes over an entry that needs nothing and is nobody's concern."""
        self._passed(name, 0)

    @property
    def full(self) -> bool:
        """Whether the batch should go before anything is added. The first ones are small: their copying begins soon."""
        filled = len(self._open) >= self.limits.items or self._open_bytes >= self.limits.total_bytes
        return self._weight >= BATCH_BYTES or len(self._chunks) + filled >= min(BATCH_CHUNKS, 1 + self._taken)

    def take(self, *, remove_directory: bool = False) -> Found:
        """Returns the batch and begins the next."""
        self._close_chunk()
        found = Found(
            after=self._after,
            cursor=self.cursor,
            chunks=tuple(self._chunks),
            directories=tuple(self._directories),
            remove_directory=remove_directory,
            failures=tuple(self._failures),
            directories_done=self.directories_done,
            chunk_source_directory=self.chunk_source_directory,
            chunk_destination_directory=self.chunk_destination_directory,
            skipped=tuple(self._skipped),
            files_unchanged=self._files_unchanged,
            bytes_unchanged=self._bytes_unchanged,
            extraneous_chunks=tuple(batched(self._extraneous, self.limits.items)),
            extraneous_directories=tuple(self._extraneous_directories),
            inner_directories=self._inner_directories,
            below=bool(self.cursor_base),
        )
        self._after, self.directories_done, self._weight = self.cursor, 0, 0
        self._taken += 1
        self._chunks, self._directories, self._failures = [], [], []
        self._skipped, self._extraneous, self._extraneous_directories = [], [], []
        self._files_unchanged = self._bytes_unchanged = self._inner_directories = 0
        return found

    def _passed(self, name: str, weight: int) -> None:
        self.cursor = self.cursor_base + self.below + name
        self._weight += weight + len(to_bytes(name))

    def _close_chunk(self) -> None:
        if self._open:
            self._chunks.append(tuple(self._open))
        self._open, self._open_bytes, self._open_name_bytes = [], 0, 0


def batched(items: Sequence[ChunkItem], size: int) -> Iterator[tuple[ChunkItem, ...]]:
    """Cuts items into tuples of at most so many."""
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])
