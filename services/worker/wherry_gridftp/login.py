"""From a connected socket to a session: banner, security exchange, mapping to an account. One step after the other."""

from __future__ import annotations

import base64
import binascii
import socket
import time

from wherry_gridftp.errors import ConnectionLost, NotOffered, Refused, SecurityFailed, TimedOut
from wherry_gridftp.gsi import NO_DELEGATION, Gsi, refused_by_server
from wherry_gridftp.replies import Garbled, Reply, ReplyReader

_MAX_HANDSHAKE_STEPS = 20
_RECEIVE_BYTES = 1 << 16
_PLEASE_PROCEED, _DONE, _GO_ON, _READY = 334, 235, 335, 220


def log_in(connection: socket.socket, reader: ReplyReader, gsi: Gsi, timeout_s: float) -> None:
    """Logs in; the reader expects protected lines then.

    Args:
        timeout_s: for all of it.

    Raises:
        Refused, NotOffered, SecurityFailed, ConnectionLost.
    """
    try:
        _Login(connection, reader, gsi, time.monotonic() + timeout_s).run()
    except Garbled as error:
        raise ConnectionLost(f"Connection reset: {error}") from error


class _Login:
    def __init__(self, connection: socket.socket, reader: ReplyReader, gsi: Gsi, deadline_s: float) -> None:
        self._socket = connection
        self._reader = reader
        self._gsi = gsi
        self._deadline_s = deadline_s

    def run(self) -> None:
        banner = self._next_reply()
        if banner.code != _READY:
            raise Refused(banner)
        answer = self._say(b"AUTH GSSAPI\r\n")
        if 400 <= answer.code < 500:
            raise Refused(answer)
        if answer.code != _PLEASE_PROCEED:
            raise NotOffered(answer.text)
        self._exchange()
        self._reader.protect(self._gsi.unwrap)
        # Which account it is, the server decides by the certificate (GFD.20).
        for command in (b"USER :globus-mapping:", b"PASS dummy"):
            try:
                reply = self._say(self._gsi.command_line(command))
            except SecurityFailed as error:
                raise ConnectionLost(f"Connection reset: {error}") from error
            if reply.code >= 400:
                raise Refused(reply)

    def _exchange(self) -> None:
        code, token = _PLEASE_PROCEED, b""
        for _ in range(_MAX_HANDSHAKE_STEPS):
            out = self._gsi.step(token)
            if out:
                code, token = self._adat(out)
            if self._gsi.done or not out:
                break
        if code == _GO_ON and self._gsi.done:
            code, _ = self._adat(self._gsi.wrap(NO_DELEGATION))
        if code != _DONE or not self._gsi.done:
            raise NotOffered(f"the security exchange ended with {code}")

    def _adat(self, token: bytes) -> tuple[int, bytes]:
        reply = self._say(b"ADAT " + base64.b64encode(token) + b"\r\n")
        if 400 <= reply.code < 500:
            raise Refused(reply)
        if reply.code not in (_DONE, _GO_ON):
            raise refused_by_server(reply.text)
        try:
            return reply.code, base64.b64decode(reply.lines[0].partition(b"ADAT=")[2], validate=True)
        except binascii.Error as error:
            raise Garbled("a token is not base64") from error

    def _say(self, line: bytes) -> Reply:
        try:
            self._socket.settimeout(self._left_s())
            self._socket.sendall(line)
        except TimeoutError as error:
            raise TimedOut("Connection timed out") from error
        except OSError as error:
            raise ConnectionLost(f"Connection reset: {error.strerror}") from error
        return self._next_reply()

    def _next_reply(self) -> Reply:
        """Waits for the next final reply; nothing else is under way."""
        while True:
            while (reply := self._reader.next_reply()) is not None:
                if not reply.preliminary:
                    return reply
            try:
                self._socket.settimeout(self._left_s())
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError as error:
                raise TimedOut("Connection timed out") from error
            except OSError as error:
                raise ConnectionLost(f"Connection reset: {error.strerror}") from error
            if not data:
                raise ConnectionLost("Connection reset: the server closed the control connection")
            self._reader.feed(data)

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimedOut("Connection timed out")
        return left_s
