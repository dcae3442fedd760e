"""Listings over the control channel: no data channel, every byte of a name, sizes and links in one answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wherry_gridftp.connection import Connection
from wherry_gridftp.entries import Entry, entry_of
from wherry_gridftp.errors import Refused
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.replies import Reply


def list_directory(connection: Connection, path: bytes, *, patience_s: float | None = None) -> Iterator[Entry]:
    """Yields a directory's entries as MLSC gives them, in no order, those of the directory itself among them.

    A server that is asked for a file's listing gives the file itself, and no entry that speaks of a directory `itself`.

    Raises:
        Refused, ConnectionLost, UnfitName.
    """
    parts: list[Reply] = []
    ends: list[Reply] = []
    connection.submit(b"MLSC " + path, ends.append, parts.append, patience_s=patience_s)
    try:
        pump([connection], lambda: bool(ends))
    except Broken as broken:
        raise broken.cause from broken
    if ends[0].code >= 400:
        raise Refused(ends[0])
    for raw in _raw_entries([*parts, *ends]):
        yield entry_of(raw)


def _raw_entries(replies: Iterable[Reply]) -> Iterator[bytes]:
    """Yields entries, each with its facts; they may go on over the parts that a long listing comes in."""
    entry: bytes | None = None
    for reply in replies:
        for line in reply.lines[1:-1]:
            if line.startswith(b" "):
                if entry is not None:
                    yield entry
                entry = line[1:]
            elif entry is not None:
                # The server sends a name with CR LF in it as lines of its own.
                entry += b"\r\n" + line
    if entry is not None:
        yield entry
