"""Listings over the control channel: no data channel, every byte of a name, sizes and links in one answer.

Entries are handed on as they come. What has not been taken yet stays with the server: a directory of any size costs no
more memory here than one read from the socket.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from wherry_gridftp.connection import Connection
from wherry_gridftp.entries import Entry, entry_of
from wherry_gridftp.errors import ConnectionLost, Refused
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.replies import MAX_LINE_BYTES, Garbled, Reply

MAX_WAITING_BYTES = 64 << 20
"""Of entries that have come and were not taken: they pile up only where the connection is pumped for something else."""
_COST_OF_AN_ENTRY = 400
_HAS_FACTS = re.compile(rb" [A-Za-z][A-Za-z0-9._-]*=[^;]*;")


def list_directory(connection: Connection, path: bytes, *, patience_s: float | None = None) -> Iterator[Entry]:
    """Yields a directory's entries as MLSC gives them, in no order, those of the directory itself among them.

    A server that is asked for a file's listing gives the file itself, and no entry that speaks of a directory `itself`.
    A name with CR LF in it comes as a name with CR LF, unless what follows those looks like an entry: nobody can tell.

    Raises:
        Refused, ConnectionLost, UnfitName: when the first entry is asked for, or any other.
    """
    listing = _Listing()
    connection.submit(b"MLSC " + path, listing.end, on_line=listing.take, patience_s=patience_s)
    try:
        while not listing.over:
            pump([connection], lambda: listing.over or bool(listing.ready))
            yield from listing.taken()
    except Broken as broken:
        raise broken.cause from broken
    finally:
        listing.abandon()
    if listing.refusal is not None:
        raise listing.refusal


class _Listing:
    """Entries from the lines that they come in."""

    def __init__(self) -> None:
        self.ready: deque[Entry] = deque()
        self.over = False
        self.refusal: Refused | None = None
        self._line: bytearray | None = None
        self._waiting_bytes = 0
        self._abandoned = False

    def take(self, line: bytes) -> None:
        """Takes a line between the first and the last of a part."""
        if self._abandoned:
            return
        if _HAS_FACTS.match(line):
            self._finish()
            self._line = bytearray(line[1:])
        elif self._line is not None:
            # The server sends a name with CR LF in it as lines of its own, and such a one may go on in another part.
            self._line += b"\r\n" + line
            if len(self._line) > MAX_LINE_BYTES:
                raise ConnectionLost("Connection reset: the server sent an endless name")
        elif line.startswith(b" "):
            raise ConnectionLost("Connection reset: the server sent an entry without facts")

    def end(self, reply: Reply) -> None:
        """Takes the final reply."""
        if reply.done:
            self._finish()
        else:
            self.refusal = Refused(reply)
        self.over = True

    def taken(self) -> Iterator[Entry]:
        """Yields what is ready."""
        while self.ready:
            entry = self.ready.popleft()
            self._waiting_bytes -= _cost(entry)
            yield entry

    def abandon(self) -> None:
        """Has what still comes forgotten: nobody takes it."""
        self._abandoned = True
        self.ready.clear()

    def _finish(self) -> None:
        if self._line is None or self._abandoned:
            return
        try:
            entry = entry_of(bytes(self._line))
        except Garbled as error:
            raise ConnectionLost(f"Connection reset: {error}") from error
        self._waiting_bytes += _cost(entry)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise ConnectionLost("Connection reset: more entries came than were taken")
        self._line = None
        self.ready.append(entry)


def _cost(entry: Entry) -> int:
    return _COST_OF_AN_ENTRY + len(entry.name) + len(entry.target or b"")
