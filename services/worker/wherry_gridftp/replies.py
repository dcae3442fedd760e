"""Replies, and how they are read off the wire.

After the security exchange each line of a reply comes as one line of its own, `632-` or `632 ` (`631`, `633` likewise) and
a token in base64. Whether a reply has ended is told by that outer line: no name, whatever it holds, can end one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

_MAX_LINE_BYTES = 1 << 20
_PROTECTED = (b"631", b"632", b"633")
_ERRNO = re.compile(rb"GridFTP-Errno: (\d+)")
#: Texts of servers that give no number, as the libraries behind them write them.
_TEXT_ERRNOS = (
    (b"No such file or directory", 2),
    (b"Permission denied", 13),
    (b"File exists", 17),
    (b"Not a directory", 20),
    (b"Is a directory", 21),
    (b"No space left on device", 28),
    (b"Disk quota exceeded", 122),
    (b"Directory not empty", 39),
)
NO_ERRNO = 70
"""EREMOTE-like: the server gave no number, and its words mean none."""


class Garbled(Exception):
    """What came is no reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code and its lines, each without its line end; the first and the last begin with the code."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """All lines as one."""
        return b" ".join(self.lines).decode("utf-8", "replace")

    @property
    def errno(self) -> int:
        """The error number that the server gives, or that its words mean; `NO_ERRNO` where there is none."""
        whole = b"\n".join(self.lines)
        match = _ERRNO.search(whole)
        if match is not None:
            return int(match[1])
        return next((number for words, number in _TEXT_ERRNOS if words in whole), NO_ERRNO)

    @property
    def preliminary(self) -> bool:
        """Whether another reply to the same command follows (RFC 959, 4.2)."""
        return self.code < 200


class ReplyReader:
    """Cuts what comes off the wire into replies.

    Args:
        unwrap: opens a protected line's token; without it lines are read as they are.
    """

    def __init__(self, unwrap: Callable[[bytes], bytes] | None = None) -> None:
        self._unwrap = unwrap
        self._buffer = bytearray()
        self._lines: list[bytes] = []

    def protect(self, unwrap: Callable[[bytes], bytes]) -> None:
        """From now on lines come protected."""
        self._unwrap = unwrap

    def feed(self, data: bytes) -> list[Reply]:
        """Takes bytes and returns the replies that are whole with them; raises Garbled."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise Garbled("the server sent an endless line")
        self._buffer = rest
        replies = []
        for line in lines:
            if (reply := self._take(bytes(line).removesuffix(b"\r"))) is not None:
                replies.append(reply)
        return replies

    def _take(self, line: bytes) -> Reply | None:
        """Adds a line; returns the reply that it ends."""
        if self._unwrap is not None and line[:3] in _PROTECTED:
            try:
                token = base64.b64decode(line[4:], validate=True)
            except binascii.Error as error:
                raise Garbled("a protected line is not base64") from error
            self._lines.append(self._unwrap(token).removesuffix(b"\0").removesuffix(b"\r\n"))
            ended = line[3:4] == b" "
        else:
            self._lines.append(line)
            ended = line[3:4] == b" " and line[:3] == self._lines[0][:3]
        if not ended:
            return None
        found, self._lines = tuple(self._lines), []
        if not found[0][:3].isdigit():
            raise Garbled(f"no reply: {found[0][:80]!r}")
        return Reply(int(found[0][:3]), found)
