"""Operations on names. Each is submitted, and its answer given to a function: a value, or the refusal.

Paths are absolute and bytes as they are: the protocol needs no quoting. All of these raise UnfitName at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from wherry_gridftp.connection import Connection, check_fit
from wherry_gridftp.entries import Entry, entry_of, time_value
from wherry_gridftp.errors import Refused
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.replies import Garbled, Reply

T = TypeVar("T")
Then = Callable[[T | Refused], None]
"""Gets what came of an operation."""
_NOT_FOUND = 2
_CHECKSUM = re.compile(rb"213[ -] *([0-9A-Fa-f]+) *")
_SIZE = re.compile(rb"213 (\d{1,19})")
_ADLER32_DIGITS = 8


def stat(connection: Connection, path: bytes, then: Then[Entry | None]) -> None:
    """Looks at a path, links followed; None: nothing is there."""

    def take(reply: Reply) -> None:
        if not reply.done:
            then(None if reply.errno == _NOT_FOUND else Refused(reply))
            return
        line = next((line for line in reply.lines if line.startswith(b" ")), b" ")
        try:
            found = entry_of(line[1:])
        except Garbled:
            then(Refused(reply))
        else:
            then(found)

    connection.submit(b"MLST " + path, take)


def size(connection: Connection, path: bytes, then: Then[int | None]) -> None:
    """Asks for a file's size in bytes (RFC 3659, 4), cheaper for both sides than `stat`; None: nothing is there."""

    def take_entry(answer: Entry | Refused | None) -> None:
        then(answer.size_bytes if isinstance(answer, Entry) else answer)

    def take(reply: Reply) -> None:
        match = _SIZE.fullmatch(reply.lines[-1])
        if match is not None:
            then(int(match[1]))
        elif reply.not_understood:
            stat(connection, path, take_entry)
        else:
            then(None if reply.errno == _NOT_FOUND else Refused(reply))

    connection.submit(b"SIZE " + path, take)


def checksum(
    connection: Connection,
    path: bytes,
    algorithm: str,
    then: Then[str],
    *,
    patience_s: float | None = None,
    length: int = -1,
) -> None:
    """Has the server compute a file's checksum (GFD.47, 4.1); the answer is lower-case hexadecimal.

    Args:
        algorithm: as `adler32`, `md5`.
        patience_s: reading a large file takes its time, in which a server may say nothing.
        length: of so many bytes from the first one on; -1: of all. Where there are fewer, servers sum these.
    """

    def take(reply: Reply) -> None:
        match = _CHECKSUM.fullmatch(reply.lines[-1])
        if match is None:
            then(Refused(reply))
            return
        value = match[1].decode("ascii").lower()
        # Some servers leave an adler32's zeros out.
        then(value.rjust(_ADLER32_DIGITS, "0") if algorithm == "adler32" else value)

    connection.submit(f"CKSM {algorithm.upper()} 0 {length} ".encode() + path, take, patience_s=patience_s)


def rename(connection: Connection, path: bytes, new_path: bytes, then: Then[None]) -> None:
    """Renames; what is at the new path is replaced in silence, by most servers."""
    refusals: list[Refused] = []

    def first(reply: Reply) -> None:
        if reply.code >= 400:
            refusals.append(Refused(reply))

    def second(reply: Reply) -> None:
        if not reply.done:
            refusals.append(Refused(reply))
        then(refusals[0] if refusals else None)

    # Both, before the first is sent: a server that waits for the second half would take the next rename's for it.
    check_fit(b"RNTO " + new_path)
    connection.submit(b"RNFR " + path, first)
    connection.submit(b"RNTO " + new_path, second)


def remove(connection: Connection, path: bytes, then: Then[None]) -> None:
    """Removes a file or a link."""
    _plain(connection, b"DELE " + path, then)


def make_directory(connection: Connection, path: bytes, then: Then[None]) -> None:
    """Makes one directory."""
    _plain(connection, b"MKD " + path, then)


def remove_directory(connection: Connection, path: bytes, then: Then[None]) -> None:
    """Removes an empty directory."""
    _plain(connection, b"RMD " + path, then)


def remove_tree(connection: Connection, path: bytes, then: Then[None]) -> None:
    """Removes a directory with all that it holds, links as links; few servers can (SITE RDEL)."""
    _plain(connection, b"SITE RDEL " + path, then)


def set_mode(connection: Connection, path: bytes, mode: int, then: Then[None]) -> None:
    """Sets permission bits."""
    _plain(connection, f"SITE CHMOD {mode:04o} ".encode() + path, then)


def set_modify_time(connection: Connection, path: bytes, seconds: int, then: Then[None]) -> None:
    """Sets the time of the last modification, in seconds since the epoch (draft-somers-ftp-mfxx)."""
    _plain(connection, b"SITE UTIME " + time_value(seconds) + b" " + path, then)


def _plain(connection: Connection, line: bytes, then: Then[None]) -> None:
    connection.submit(line, lambda reply: then(None if reply.done else Refused(reply)))


def ask(connection: Connection, submit: Callable[[Then[T]], None]) -> T:
    """Submits one operation and waits: `ask(a, partial(stat, a, b"/x"))`.

    Raises:
        Refused, ConnectionLost, UnfitName.
    """
    answers: list[T | Refused] = []
    submit(answers.append)
    try:
        pump([connection], lambda: bool(answers))
    except Broken as broken:
        raise broken.cause from broken
    if isinstance(answers[0], Refused):
        raise answers[0]
    return answers[0]
