"""A logged-in control connection with any number of commands under way.

Commands are submitted with a function that gets the final reply. Answers come in the order of the commands (RFC 959), so
that a connection is a queue: what is beyond its window waits here, not in the server's buffers. Nothing happens until
the connection is pumped (`pump.py`), in one thread.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from wherry_gridftp.errors import (
    ConnectionLost,
    NotOffered,
    Refused,
    SecurityFailed,
    TimedOut,
    UnfitName,
    Unreachable,
)
from wherry_gridftp.gsi import NO_DELEGATION, Credential, Gsi
from wherry_gridftp.replies import Garbled, Reply, ReplyReader

DEFAULT_PORT = 2811
DEFAULT_WINDOW = 128
"""Commands under way; servers have been seen to reset connections at 1,200."""
_MAX_HANDSHAKE_STEPS = 20
_RECEIVE_BYTES = 1 << 18

OnReply = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens."""

    host: str
    port: int = DEFAULT_PORT


@dataclass(slots=True)
class _Command:
    line: bytes
    on_final: OnReply
    on_preliminary: OnReply | None
    patience_s: float
    sent_s: float = 0.0


class Connection:
    """See the module.

    Args:
        timeout_s: for connecting, for each step of the login, and for every answer to which nothing else applies.
        window: commands under way at most.

    Raises:
        Unreachable, SecurityFailed, NotOffered, Refused, ConnectionLost: when it is opened.
    """

    def __init__(
        self, endpoint: Endpoint, credential: Credential, *, timeout_s: float = 60.0, window: int = DEFAULT_WINDOW
    ) -> None:
        self.endpoint = endpoint
        self.window = window
        self._timeout_s = timeout_s
        self._reader = ReplyReader()
        self._waiting: deque[_Command] = deque()
        self._under_way: deque[_Command] = deque()
        self._out = bytearray()
        self._heard_s = time.monotonic()
        gsi = Gsi(credential, endpoint.host)
        self._socket = _connect(endpoint, timeout_s)
        try:
            self._log_in(gsi)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def peer(self) -> str:
        """The server's address."""
        return str(self._socket.getpeername()[0])

    @property
    def is_ipv6(self) -> bool:
        """Whether it goes over IPv6."""
        return self._socket.family == socket.AF_INET6

    @property
    def busy(self) -> bool:
        """Whether commands are under way or waiting."""
        return bool(self._under_way or self._waiting)

    @property
    def load(self) -> int:
        """Commands under way and waiting."""
        return len(self._under_way) + len(self._waiting)

    def submit(
        self,
        command: bytes,
        on_final: OnReply,
        on_preliminary: OnReply | None = None,
        *,
        patience_s: float | None = None,
    ) -> None:
        """Has a command sent; the functions get its replies, refusals too.

        Args:
            patience_s: so long the server may say nothing once it is this command's turn.

        Raises:
            UnfitName: it holds what ends a command.
        """
        if b"\r" in command or b"\n" in command or b"\0" in command:
            raise UnfitName("the name holds a line break, which the protocol cannot carry")
        patience = self._timeout_s if patience_s is None else patience_s
        self._waiting.append(_Command(command, on_final, on_preliminary, patience))

    def forget(self) -> None:
        """Drops what has been submitted and was not sent yet."""
        self._waiting.clear()

    def close(self) -> None:
        """Closes the connection without a word; the server notices."""
        self._socket.close()

    # --- for the pump ---

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether there is something to send."""
        return bool(self._out) or (bool(self._waiting) and len(self._under_way) < self.window)

    def write(self) -> None:
        """Sends what the window allows, as far as the socket takes it; raises ConnectionLost."""
        now_s = time.monotonic()
        while self._waiting and len(self._under_way) < self.window:
            command = self._waiting.popleft()
            command.sent_s = now_s
            self._under_way.append(command)
            self._out += self._gsi.command_line(command.line)
        if not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectionLost(f"Connection reset: {error.strerror}") from error
        del self._out[:sent]

    def read(self) -> None:
        """Takes what has come and calls who waits for it; raises ConnectionLost."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectionLost(f"Connection reset: {error.strerror}") from error
        if not data:
            raise ConnectionLost("Connection reset: the server closed the control connection")
        self._heard_s = time.monotonic()
        try:
            replies = self._reader.feed(data)
        except (Garbled, SecurityFailed) as error:
            raise ConnectionLost(f"Connection reset: {error}") from error
        for reply in replies:
            self._answer(reply)

    def overdue(self, now_s: float) -> bool:
        """Tells whether the server has been silent for longer than the command whose turn it is allows."""
        if not self._under_way:
            return False
        first = self._under_way[0]
        return now_s - max(self._heard_s, first.sent_s) > first.patience_s

    def _answer(self, reply: Reply) -> None:
        if not self._under_way:
            # 421 and the like, unasked: the server takes its leave.
            raise ConnectionLost(f"Connection reset: {reply.text}")
        if reply.preliminary:
            if (on_preliminary := self._under_way[0].on_preliminary) is not None:
                on_preliminary(reply)
            return
        self._under_way.popleft().on_final(reply)

    # --- logging in, step by step ---

    def _log_in(self, gsi: Gsi) -> None:
        banner = self._next_reply()
        if banner.code != 220:
            raise Refused(banner)
        if (answer := self._say(b"AUTH GSSAPI\r\n")).code != 334:
            raise NotOffered(answer.text)
        code, token = 334, b""
        for _ in range(_MAX_HANDSHAKE_STEPS):
            out = gsi.step(token)
            if out:
                code, token = self._adat(out)
            if gsi.done or not out:
                break
        if code == 335 and gsi.done:
            code, _ = self._adat(gsi.wrap(NO_DELEGATION))
        if code != 235:
            raise NotOffered(f"the security exchange ended with {code}")
        self._gsi = gsi
        self._reader.protect(gsi.unwrap)
        for command in (b"USER :globus-mapping:", b"PASS dummy"):
            reply = self._say(gsi.command_line(command))
            if reply.code >= 400:
                raise Refused(reply)

    def _adat(self, token: bytes) -> tuple[int, bytes]:
        reply = self._say(b"ADAT " + base64.b64encode(token) + b"\r\n")
        if reply.code not in (235, 335):
            raise SecurityFailed(reply.text, at_server=True)
        try:
            return reply.code, base64.b64decode(reply.lines[0].partition(b"ADAT=")[2])
        except binascii.Error as error:
            raise ConnectionLost("a token is not base64") from error

    def _say(self, line: bytes) -> Reply:
        try:
            self._socket.sendall(line)
        except TimeoutError as error:
            raise TimedOut("Connection timed out") from error
        except OSError as error:
            raise ConnectionLost(f"Connection reset: {error.strerror}") from error
        return self._next_reply()

    def _next_reply(self) -> Reply:
        """Waits for the next final reply; nothing else is under way."""
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError as error:
                raise TimedOut("Connection timed out") from error
            except OSError as error:
                raise ConnectionLost(f"Connection reset: {error.strerror}") from error
            if not data:
                raise ConnectionLost("Connection reset: the server closed the control connection")
            try:
                for reply in self._reader.feed(data):
                    if not reply.preliminary:
                        return reply
            except (Garbled, SecurityFailed) as error:
                raise ConnectionLost(f"Connection reset: {error}") from error
        raise TimedOut("Connection timed out")


def _connect(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    try:
        connection = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
    except socket.gaierror as error:
        raise Unreachable(f"Name or service not known: {endpoint.host}: {error.strerror}") from error
    except TimeoutError as error:
        raise TimedOut("Connection timed out") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unreachable(f"Unable to connect to {endpoint.host}:{endpoint.port}: {reason}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection
