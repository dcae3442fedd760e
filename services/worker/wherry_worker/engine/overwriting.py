"""What becomes of a file that is at the destination already. Pure; both engines and the walk ask it.

An entry is looked at twice, when it is listed and when it is copied, and once more before the rename: what has changed
meanwhile is decided anew.
"""

from __future__ import annotations

from typing import Literal, Protocol

from wherry_worker.engine.messages import Comparison, Overwrite
from wherry_worker.engine.paths import to_bytes, to_text

Decision = Literal["copy", "leave", "compare", "refuse", "beside"]
"""`compare`: the bytes may be the same, which their checksums tell; `after_difference` says what becomes of it else."""
MOST_BESIDE = 1000
"""So many names are tried for a file that is put beside another."""
_MOST_NAME_BYTES = 255
TIMES_OF_OTHERS: frozenset[Overwrite] = frozenset({"always", "if_different"})
"""A file that holds the same bytes already gets the source's time, so that it is told to be the same at a glance; with
other policies what is there is left as it is."""


class Seen(Protocol):
    """What is known of a file."""

    @property
    def size_bytes(self) -> int:
        """Its size."""
        ...

    @property
    def modify_time_s(self) -> int:
        """Its time of change, in seconds since the epoch; 0: not told."""
        ...


def decide(overwrite: Overwrite, comparison: Comparison, source: Seen, existing: Seen | None) -> Decision:
    """Returns what becomes of a file whose destination has been looked at."""
    if existing is None:
        return "copy"
    if overwrite == "if_newer" and 0 < source.modify_time_s <= existing.modify_time_s:
        return "leave"
    if source.size_bytes != existing.size_bytes:
        return after_difference(overwrite)
    if overwrite == "if_different" and comparison == "size_and_time" and same_time(source, existing):
        return "leave"
    return "compare"


def after_difference(overwrite: Overwrite) -> Decision:
    """Returns what becomes of a file that differs from the one at the destination."""
    if overwrite == "never":
        return "refuse"
    return "beside" if overwrite == "keep_both" else "copy"


def algorithm_to_compare(asked: str, comparison: Comparison, source: Seen, existing: Seen) -> str:
    """Returns the checksum by which two files of one size are told to be the same.

    A copy is made sure of by `asked`. Of what is there already nobody knows where it comes from: it may be the source
    before somebody edited it, and adler32 is the same for many such (of `0.131` and `0.212`). It is believed of a file
    that has the source's time too, as our own copies have, unless it is the checksum that is to decide.
    """
    ours = comparison != "checksum" and same_time(source, existing)
    return asked if asked != "adler32" or ours else "md5"


def same_time(one: Seen, other: Seen) -> bool:
    """Tells whether two files were changed in the same second, as far as that is told."""
    return one.modify_time_s == other.modify_time_s > 0


def name_beside(name: str, number: int) -> str:
    """Returns the name of a file that is put beside one that keeps `name`: `a.tar.gz` becomes `a (1).tar.gz`.

    It is never longer than file systems allow.
    """
    stem, dot, extension = name.partition(".") if not name.startswith(".") else (name, "", "")
    tail = to_bytes(f" ({number}){dot}{extension}")
    if len(tail) >= _MOST_NAME_BYTES // 2:
        stem, tail = name, to_bytes(f" ({number})")
    return to_text(_cut(to_bytes(stem), _MOST_NAME_BYTES - len(tail)) + tail)


def _cut(name: bytes, most: int) -> bytes:
    """Shortens a name without leaving half a character of UTF-8 behind."""
    if len(name) <= most:
        return name
    while most and name[most] & 0xC0 == 0x80:
        most -= 1
    return name[:most]
