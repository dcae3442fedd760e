"""Cuts the named pairs of a large copy into chunks, as they come: nothing but the open chunk is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_queue.jobs import Chunk
from wherry_queue.paths import is_absolute, join

CHUNK_FILES = 100
CHUNK_BYTES = 2 << 30
CHUNK_NAME_BYTES = 160 << 10
"""As walks cut theirs: small enough to cancel, retry and share; the names below what a packed chunk may hold."""
PATH_BYTES = 4096
_MOST_BYTES = 1 << 62
SHOWN = 10
"""So many of the pairs stand in the job's specification."""
_UNKNOWN_ROOT = (
    "is absolute, and where the copy's own path begins cannot be asked at the moment; write that absolutely too"
)
Pair = tuple[bytes, bytes, int]
"""A file's path at the source, at the destination (empty: the same below the destination's root), and its size."""
Pack = Callable[[Sequence[Pair]], bytes]
"""Packs (name, name at the destination where that differs, size) into a chunk's payload."""


@dataclass(frozen=True, slots=True)
class PairBounds:
    """How much may be sent.

    Attributes:
        pairs: in a job.
        staged_bytes: packed, in all of a user's copies that are not complete.
    """

    pairs: int
    staged_bytes: int


class PairCutter:
    """Takes pairs and gives chunks.

    Args:
        source, destination: paths below which all files lie: absolute, or relative where it is not known yet where that
            begins; then no file's path may be absolute.
        same_site: whether both are at one site.
        most: so many pairs it takes.

    Attributes:
        count: pairs taken.
        total_bytes: of those.
        shown: the first of them, as whole paths.
    """

    def __init__(self, source: bytes, destination: bytes, pack: Pack, *, same_site: bool, most: int) -> None:
        self.source = source
        self.destination = destination
        self.count = 0
        self.total_bytes = 0
        self.shown: list[tuple[bytes, bytes]] = []
        self._source_prefix = join(source, b"")
        self._destination_prefix = join(destination, b"")
        self._pack = pack
        self._same_site = same_site
        self._most = most
        self._open: list[Pair] = []
        self._open_bytes = 0
        self._open_name_bytes = 0

    def add(self, pairs: Iterable[Pair]) -> list[Chunk]:
        """Takes pairs, and returns the chunks that have become full.

        Raises:
            InvalidFields: a path is unfit, or lies elsewhere, or it is one too many; the pair is named by its place
                among all, from 0.
        """
        full: list[Chunk] = []
        for source, destination, size_bytes in pairs:  # a million times in a stream: hence plain and flat
            if self.count >= self._most:
                problem = f"is one more than the {self._most} that a job may have: make several jobs"
                raise InvalidFields(FieldProblem(f"pairs[{self.count}]", problem))
            name = self._below(source, self._source_prefix, "source_path")
            arrival = self._below(destination, self._destination_prefix, "destination_path") if destination else name
            names = len(name) + len(arrival)
            if (
                len(self._open) >= CHUNK_FILES
                or self._open_bytes + size_bytes > CHUNK_BYTES
                or self._open_name_bytes + names > CHUNK_NAME_BYTES
            ) and self._open:
                full.append(self._close())
            self._open.append((name, arrival if arrival != name else b"", size_bytes))
            self._open_bytes += size_bytes
            self._open_name_bytes += names
            self.total_bytes += size_bytes
            if self._same_site:
                self._check_moves(name, arrival)
            if self.count < SHOWN:
                self.shown.append((self._source_prefix + name, self._destination_prefix + arrival))
            if size_bytes < 0 or self.total_bytes > _MOST_BYTES:
                raise self._problem("size_bytes", "is negative, or with those before it more than can be counted")
            self.count += 1
        return full

    def rest(self) -> list[Chunk]:
        """Returns what is left in a last chunk, if anything is."""
        return [self._close()] if self._open else []

    def _close(self) -> Chunk:
        files = sorted(self._open)  # in the order in which a walk's chunks have them
        chunk = Chunk(self._pack(files), len(files), self._open_bytes)
        self._open, self._open_bytes, self._open_name_bytes = [], 0, 0
        return chunk

    def _below(self, path: bytes, prefix: bytes, field: str) -> bytes:
        """Returns a path's part below a root."""
        if len(path) > PATH_BYTES:
            raise self._problem(field, f"is longer than {PATH_BYTES} bytes")
        if path[:1] == b"/":
            if not is_absolute(prefix):
                raise self._problem(field, _UNKNOWN_ROOT)
            if not path.startswith(prefix):
                shown = prefix.decode("utf-8", "backslashreplace")
                raise self._problem(field, f"is absolute and does not lie in {shown}")
            path = path[len(prefix) :]
        parts = path.split(b"/")
        if b"" in parts or b".." in parts or b"." in parts or b"\0" in path:
            raise self._problem(field, "write the path without NUL, and without empty parts, '.' and '..'")
        return path

    def _check_moves(self, name: bytes, arrival: bytes) -> None:
        if self._source_prefix + name == self._destination_prefix + arrival:
            raise self._problem("destination_path", "is the source itself; choose another place")

    def _problem(self, field: str, problem: str) -> InvalidFields:
        return InvalidFields(FieldProblem(f"pairs[{self.count}].{field}", problem))
