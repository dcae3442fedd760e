"""What a server says of a path: the facts of MLST and MLSC (RFC 3659, 7; GFD.20)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote_to_bytes

from wherry_gridftp.replies import Garbled

Kind = Literal["file", "directory", "symlink", "other"]
_KINDS: dict[bytes, Kind] = {b"file": "file", b"dir": "directory", b"cdir": "directory", b"pdir": "directory"}
_MAX_DIGITS = 19
_TIME_DIGITS = 14
_OCTAL = b"01234567"
_EPOCH = date(1970, 1, 1).toordinal()
_REMEMBERED = 1024
"""Directories hold many files of few modes and days."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path.

    Attributes:
        name: as the server gave it: a path for MLST, a name for a listing. It is what the server says: who builds a
            path on it looks for slashes first.
        size_bytes: a file's; 0 otherwise.
        modify_time_s: seconds since the epoch; 0: not told.
        mode: permission bits; 0: not told.
        target: what a symbolic link says, as far as the server tells; its other facts are then the target's.
        itself: whether a listing speaks of its own directory, or the one above.
        count: how many entries a directory holds, itself and the one above included; 0: not told. A listing of it may
            have fewer: servers leave out what they cannot look at, as links that lead nowhere.
    """

    name: bytes
    kind: Kind
    size_bytes: int = 0
    modify_time_s: int = 0
    mode: int = 0
    target: bytes | None = None
    itself: bool = False
    count: int = 0


def entry_of(line: bytes) -> Entry:
    """Reads a line `fact=value;fact=value; name`; raises Garbled.

    Facts end at the first semicolon that a space follows: some servers have spaces in the values.
    """
    if line.startswith(b" "):
        text, name = b"", line[1:]
    else:
        text, _, name = line.partition(b"; ")
    if not name:
        raise Garbled("an entry without a name")
    facts: dict[bytes, bytes] = {}
    for fact in text.split(b";"):
        key, _, value = fact.partition(b"=")
        facts[key.lower()] = value
    kind_fact = facts.get(b"type", b"").lower()
    kind: Kind = _KINDS.get(kind_fact, "other")
    size, link = facts.get(b"size", b""), facts.get(b"unix.slink")
    return Entry(
        name=name,
        kind=kind,
        size_bytes=int(size) if kind == "file" and size.isdigit() and len(size) <= _MAX_DIGITS else 0,
        modify_time_s=_seconds(facts.get(b"modify", b"")),
        mode=_mode(facts.get(b"unix.mode", b"")),
        target=b"" if link is None and b"slink" in kind_fact else link and unquote_to_bytes(link),
        itself=kind_fact in (b"cdir", b"pdir"),
        count=int(count) if (count := facts.get(b"x.count", b"")).isdigit() and len(count) <= _MAX_DIGITS else 0,
    )


@lru_cache(_REMEMBERED)
def _mode(text: bytes) -> int:
    is_octal = 0 < len(text) <= _MAX_DIGITS and not text.strip(_OCTAL)
    return int(text, 8) & 0o7777 if is_octal else 0


def _seconds(modified: bytes) -> int:
    """Reads `YYYYMMDDHHMMSS`, a fraction left out; by hand: a listing is full of them, and `strptime` is slow."""
    digits = modified[:_TIME_DIGITS]
    if len(digits) < _TIME_DIGITS or not digits.isdigit():
        return 0
    hour, minute, second = int(digits[8:10]), int(digits[10:12]), int(digits[12:])
    midnight = _midnight(digits[:8])
    if midnight is None or hour > 23 or minute > 59 or second > 60:
        return 0
    return midnight + (hour * 60 + minute) * 60 + second


@lru_cache(_REMEMBERED)
def _midnight(day: bytes) -> int | None:
    """Returns when a day `YYYYMMDD` began (UTC); None where there is no such day."""
    try:
        return (date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal() - _EPOCH) * 86_400
    except ValueError:
        return None


def time_value(seconds: int) -> bytes:
    """Returns a time as MFMT and the facts write it (UTC)."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds)).encode()
