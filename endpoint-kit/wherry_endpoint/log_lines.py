"""Turns what the servers say into whole lines with the site's and the server's name before them."""

from __future__ import annotations

import os
import re

# RFC 3164 as libc's syslog() writes it: <priority>Mmm dd hh:mm:ss ident[pid]: text
_SYSTEM_LOG_HEAD = re.compile(rb"<\d{1,3}>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?(?:[^\s:\[]+(?:\[\d+\])?: )?")
_STDERR = 2
_MAX_PARTIAL = 64 * 1024


class LogLines:
    """Collects the bytes of one source and writes its complete lines to standard error."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"[{prefix}] ".encode()
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of a stream."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self.line(line)
        if len(self._partial) > _MAX_PARTIAL:
            self.end()

    def end(self) -> None:
        """The stream is over: what is left is a line too."""
        if self._partial:
            self.line(self._partial)
        self._partial = b""

    def system_log(self, datagram: bytes) -> None:
        """Take one message sent with syslog(3)."""
        for line in _SYSTEM_LOG_HEAD.sub(b"", datagram, count=1).rstrip(b"\n\0").split(b"\n"):
            self.line(line)

    def line(self, text: bytes) -> None:
        """Write one line. Control characters from the network must not reach a terminal."""
        plain = bytes(byte if byte >= 32 or byte == 9 else ord("?") for byte in text.rstrip(b"\r"))
        if not plain:
            return
        try:
            os.write(_STDERR, self._prefix + plain + b"\n")
        except BrokenPipeError:
            # Whoever read the log has gone. The site serves on: losing log lines is better than losing transfers.
            return
