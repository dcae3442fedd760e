"""Replies, and how they are read off the wire.

After the security exchange each line of a reply comes as one line of its own, `632-` or `632 ` (`631`, `633` likewise),
and a token in base64 (RFC 2228). Whether a reply has ended is told by that outer line: no name, whatever it holds, can
end one. What comes without protection from then on is no reply, whoever sent it.

A server may be hostile: lines, and replies as a whole, are kept up to a size only.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_LINE_BYTES = 1 << 20
"""Some servers send a whole reply as one line."""
MAX_REPLY_BYTES = 4 << 20
"""Of lines that are kept; those that somebody takes as they come do not count."""
_MAX_TEXT_CHARACTERS = 4096
_COST_OF_A_LINE = 64
_PROTECTED = (b"631", b"632", b"633")
_CODE = re.compile(rb"([1-5]\d\d)(?:[ -]|$)")
_ERRNO = re.compile(rb"GridFTP-Errno: (\d{1,9})")
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
_NOT_UNDERSTOOD = frozenset({500, 502, 504})

TakeLine = Callable[[int, bytes], bool]
"""Gets a reply's code and one of its lines; says whether it has taken it, so that the reply need not keep it."""


class Garbled(Exception):
    """What came is no reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code and its lines, each without its line end; the first and the last begin with the code."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """All lines as one, of an endless reply the beginning."""
        return b" ".join(self.lines).decode("utf-8", "replace")[:_MAX_TEXT_CHARACTERS]

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

    @property
    def done(self) -> bool:
        """Whether it says that what was asked for has been done."""
        return 200 <= self.code < 300

    @property
    def not_understood(self) -> bool:
        """Whether the server does not know the command, or not with such a parameter (RFC 959, 4.2.2)."""
        return self.code in _NOT_UNDERSTOOD


class ReplyReader:
    """Cuts what comes off the wire into replies.

    Args:
        take_line: may take a reply's lines, but for the first and the last, as they come.
    """

    def __init__(self, take_line: TakeLine | None = None) -> None:
        self._take_line = take_line
        self._unwrap: Callable[[bytes], bytes] | None = None
        self._buffer = bytearray()
        self._searched = 0
        self._code = 0
        self._lines: list[bytes] = []
        self._kept_bytes = 0

    def protect(self, unwrap: Callable[[bytes], bytes]) -> None:
        """From now on lines come protected; raises Garbled where more has come than was to come without."""
        if self._buffer or self._lines:
            raise Garbled("the server said more than it was asked before it was protected")
        self._unwrap = unwrap

    def feed(self, data: bytes) -> None:
        """Takes what has come."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """Returns the next reply that is whole, None where there is none yet; raises Garbled."""
        while (line := self._next_line()) is not None:
            if (reply := self._take(line)) is not None:
                return reply
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if (len(self._buffer) if end < 0 else end) > MAX_LINE_BYTES:
            raise Garbled("the server sent an endless line")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _take(self, line: bytes) -> Reply | None:
        """Adds a line; returns the reply that it ends."""
        if self._unwrap is None:
            ended = line[3:4] != b"-" if not self._lines else line[:4] == self._lines[0][:3] + b" "
            self._add(line, ended=ended)
        else:
            if line[:3] not in _PROTECTED or line[3:4] not in (b" ", b"-"):
                raise Garbled(f"a reply without protection: {line[:80].decode('ascii', 'replace')}")
            ended = line[3:4] == b" "
            *others, last = self._opened(line[4:], whole=ended and not self._lines)
            for other in others:
                self._add(other, ended=False)
            self._add(last, ended=ended)
        if not ended:
            return None
        reply, self._lines, self._kept_bytes = Reply(self._code, tuple(self._lines)), [], 0
        return reply

    def _opened(self, token: bytes, *, whole: bool) -> list[bytes]:
        """Returns a token's lines: one, but that a `whole` reply may come in one token."""
        if self._unwrap is None:
            return []
        try:
            text = self._unwrap(binascii.a2b_base64(token, strict_mode=True))
        except binascii.Error as error:
            raise Garbled("a protected line is not base64") from error
        text = text.removesuffix(b"\0").removesuffix(b"\r\n")
        return text.split(b"\r\n") if whole and text[3:4] == b"-" else [text]

    def _add(self, line: bytes, *, ended: bool) -> None:
        if not self._lines:
            match = _CODE.match(line)
            if match is None:
                raise Garbled(f"no reply: {line[:80]!r}")
            self._code = int(match[1])
        elif not ended and self._take_line is not None and self._take_line(self._code, line):
            return
        self._kept_bytes += len(line) + _COST_OF_A_LINE
        if self._kept_bytes > MAX_REPLY_BYTES:
            raise Garbled("the server sent an endless reply")
        self._lines.append(line)
