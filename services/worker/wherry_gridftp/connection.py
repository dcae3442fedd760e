"""A logged-in control connection with any number of commands under way.

Commands are submitted with a function that gets the final reply. Answers come in the order of the commands (RFC 959),
so that a connection is a queue: what is beyond its window waits here, not in the server's buffers. Nothing happens
until the connection is pumped (`pump.py`), in one thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from wherry_gridftp.errors import ConnectionLost, SecurityFailed, TimedOut, UnfitName, Unreachable
from wherry_gridftp.gsi import Credential, Gsi
from wherry_gridftp.login import log_in
from wherry_gridftp.replies import Garbled, Reply, ReplyReader

DEFAULT_PORT = 2811
DEFAULT_WINDOW = 128
"""Commands under way; servers have been seen to reset connections at 1,200."""
MAX_COMMAND_BYTES = 1 << 16
"""More than any path, and than the context of a data channel."""
_RECEIVE_BYTES = 1 << 18
_CLOSING = 421
_KEEP_ALIVE_S = 60

OnReply = Callable[[Reply], None]
OnLine = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        host: a name or an address, for which the server's certificate has to be.
    """

    host: str
    port: int = DEFAULT_PORT


@dataclass(slots=True)
class _Command:
    line: bytes = field(repr=False)  # it may hold a key
    on_final: OnReply
    on_preliminary: OnReply | None
    on_line: OnLine | None
    patience_s: float
    sent_s: float = 0.0


class Connection:
    """See the module.

    Args:
        timeout_s: for each address of the host to connect to, for the login, and for every answer to which nothing else
            applies.
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
        self._reader = ReplyReader(self._take_line)
        self._waiting: deque[_Command] = deque()
        self._under_way: deque[_Command] = deque()
        self._out = bytearray()
        self._gsi = Gsi(credential, endpoint.host)
        self._socket = _connect(endpoint, timeout_s)
        try:
            self._address = _address(self._socket)
            log_in(self._socket, self._reader, self._gsi, timeout_s)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._heard_s = time.monotonic()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection to {self.endpoint.host}:{self.endpoint.port}, {self.load} commands>"

    @property
    def peer(self) -> str:
        """The server's address, without a zone."""
        return str(self._address)

    @property
    def is_ipv6(self) -> bool:
        """Whether it goes over IPv6."""
        return self._address.version == 6

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
        on_line: OnLine | None = None,
        patience_s: float | None = None,
    ) -> None:
        """Has a command sent; the functions get its replies, refusals too.

        What the functions raise goes through to whoever pumps, and closes the connection: answers that have come may be
        lost with it.

        Args:
            on_line: gets the lines of its replies as they come, but for each reply's first and last, which alone are
                kept then; not those of refusals.
            patience_s: so long the server may say nothing once it is this command's turn.

        Raises:
            UnfitName: it holds what ends a command, or is too long.
        """
        check_fit(command)
        patience = self._timeout_s if patience_s is None else patience_s
        self._waiting.append(_Command(command, on_final, on_preliminary, on_line, patience))

    def note_life(self) -> None:
        """Counts as a word of the server's: somebody else has told that what is under way here goes on."""
        self._heard_s = time.monotonic()

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
        try:
            while self._waiting and len(self._under_way) < self.window:
                command = self._waiting.popleft()
                command.sent_s = now_s
                self._under_way.append(command)
                self._out += self._gsi.command_line(command.line)
            if self._out:
                del self._out[: self._socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectionLost(f"Connection reset: {error.strerror}") from error
        except SecurityFailed as error:
            raise ConnectionLost(f"Connection reset: {error}") from error

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
            self._reader.feed(data)
            while (reply := self._reader.next_reply()) is not None:
                self._answer(reply)
        except (Garbled, SecurityFailed) as error:
            self.close()
            raise ConnectionLost(f"Connection reset: {error}") from error
        except BaseException:
            self.close()
            raise

    def overdue(self, now_s: float) -> bool:
        """Tells whether the server has been silent for longer than the command whose turn it is allows."""
        if not self._under_way:
            return False
        first = self._under_way[0]
        return now_s - max(self._heard_s, first.sent_s) > first.patience_s

    def _answer(self, reply: Reply) -> None:
        if not self._under_way or reply.code == _CLOSING:
            # The server takes its leave, whatever was asked last.
            raise ConnectionLost(f"Connection reset: {reply.text}")
        if reply.preliminary:
            if (on_preliminary := self._under_way[0].on_preliminary) is not None:
                on_preliminary(reply)
            return
        self._under_way.popleft().on_final(reply)

    def _take_line(self, code: int, line: bytes) -> bool:
        """Hands a line to whom it is for; tells whether it need not be kept."""
        if not self._under_way or code >= 400 or (on_line := self._under_way[0].on_line) is None:
            return False
        on_line(line)
        return True


def check_fit(command: bytes) -> None:
    """Raises UnfitName for what cannot be a command, or part of one."""
    if b"\r" in command or b"\n" in command or b"\0" in command:
        raise UnfitName("the name holds a line break, which the protocol cannot carry")
    if len(command) > MAX_COMMAND_BYTES:
        raise UnfitName("the name is longer than a command may be")


def _connect(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    try:
        connection = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
    except (socket.gaierror, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no host's name"
        raise Unreachable(f"Name or service not known: {endpoint.host}: {reason}") from error
    except TimeoutError as error:
        raise TimedOut("Connection timed out") from error
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"Unable to connect to {endpoint.host}:{endpoint.port}: {reason}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError, AttributeError):  # not every system can set the times
        # A source says nothing for as long as it sends; what is in between forgets a silent connection long before the
        # system's own two hours.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_ALIVE_S)
    return connection


def _address(connection: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(str(connection.getpeername()[0]).partition("%")[0])
    except OSError as error:
        raise ConnectionLost(f"Connection reset: {error.strerror}") from error
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
