"""What a server says of a path: the facts of MLST and MLSC (RFC 3659, 7; GFD.20)."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "directory", "symlink", "other"]
_KINDS: dict[bytes, Kind] = {b"file": "file", b"dir": "directory", b"cdir": "directory", b"pdir": "directory"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path.

    Attributes:
        name: as the server gave it: a path for MLST, a name for a listing.
        size_bytes: a file's; 0 otherwise.
        modify_time_s: seconds since the epoch; 0: not told.
        mode: permission bits; 0: not told.
        target: what a symbolic link says, as far as the server tells; its other facts are then the target's.
        itself: whether a listing speaks of its own directory, or the one above.
    """

    name: bytes
    kind: Kind
    size_bytes: int = 0
    modify_time_s: int = 0
    mode: int = 0
    target: bytes | None = None
    itself: bool = False


def entry_of(line: bytes) -> Entry:
    """Reads a line `fact=value;fact=value; name`."""
    text, _, name = line.partition(b"; ")
    facts: dict[bytes, bytes] = {}
    for fact in text.split(b";"):
        key, _, value = fact.partition(b"=")
        facts[key.lower()] = value
    kind_fact = facts.get(b"type", b"").lower()
    kind: Kind = _KINDS.get(kind_fact, "other")
    size, mode = facts.get(b"size", b"0"), facts.get(b"unix.mode", b"0")
    return Entry(
        name=name,
        kind=kind,
        size_bytes=int(size) if kind == "file" and size.isdigit() else 0,
        modify_time_s=_seconds(facts.get(b"modify", b"")),
        mode=int(mode, 8) & 0o7777 if mode.isdigit() else 0,
        target=facts.get(b"unix.slink", b"") if b"unix.slink" in facts or b"slink" in kind_fact else None,
        itself=kind_fact in (b"cdir", b"pdir"),
    )


def _seconds(modified: bytes) -> int:
    try:
        return calendar.timegm(time.strptime(modified[:14].decode("ascii", "replace"), "%Y%m%d%H%M%S"))
    except ValueError:
        return 0


def time_value(seconds: int) -> bytes:
    """Returns a time as MFMT and the facts write it (UTC)."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds)).encode()
