"""A GridFTP control channel with GSI, on the standard library alone.

The security exchange is TLS inside `ADAT` commands (RFC 2228, and the GSSAPI profile of the Grid's GSI): base64 of the
records that an in-memory TLS object makes. After it every command travels as `ENC` and every line of a reply as one
`632`/`632-` line, a TLS record each: what ends a reply is told by that outer line, so that no name, whatever it holds,
can end one. Credentials are not delegated: the server never gets a usable proxy.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from wherry_worker.engine.messages import Door
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import to_bytes

#: VERIFY_ALLOW_PROXY_CERTS, which Python's ssl does not name before 3.13.
_ALLOW_PROXY_CERTIFICATES = 0x40
#: What the client says in place of a delegated credential: none.
_NO_DELEGATION = b"0"
_MAX_LINE_BYTES = 1 << 20
_MAX_HANDSHAKE_STEPS = 20
_ERRNO = re.compile(rb"GridFTP-Errno: (\d+)")
#: Texts of servers that give no number, as the libraries behind them write them.
_TEXT_ERRNOS = (
    (b"No such file or directory", 2),
    (b"Permission denied", 13),
    (b"File exists", 17),
    (b"Not a directory", 20),
    (b"Is a directory", 21),
    (b"Directory not empty", 39),
)


class NotOffered(Exception):
    """The server does not speak this dialect; another client may do."""


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
        """The error number that the server gives, or that its words mean; 70 where there is none."""
        whole = b"\n".join(self.lines)
        match = _ERRNO.search(whole)
        if match is not None:
            return int(match[1])
        return next((number for words, number in _TEXT_ERRNOS if words in whole), 70)


class ControlChannel:
    """A logged-in control connection. All methods raise DoorError with the phase given."""

    def __init__(self, door: Door, timeout_s: float) -> None:
        self._socket = _connect(door, timeout_s)
        self._buffer = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        try:
            self._log_in(door)
        except (OSError, EOFError, binascii.Error) as error:
            self.close()
            raise _door_error("login", error) from error
        except BaseException:
            self.close()
            raise

    def command(self, phase: str, command: bytes, timeout_s: float | None = None) -> Reply:
        """Sends a command and returns its final reply; raises DoorError for one that refuses."""
        *_, last = self.replies(phase, command, timeout_s)
        return last

    def replies(self, phase: str, command: bytes, timeout_s: float | None = None) -> Iterator[Reply]:
        """Sends a command and yields its replies, the final one last; raises DoorError where that refuses."""
        if b"\r" in command or b"\n" in command:
            raise DoorError(phase, 22, "the name holds a line break, which the protocol cannot carry")
        before = self._socket.gettimeout()
        try:
            if timeout_s is not None:
                self._socket.settimeout(timeout_s)
            self._send(command)
            while True:
                reply = self._reply()
                if reply.code >= 400:
                    raise DoorError(phase, reply.errno, reply.text)
                yield reply
                if reply.code >= 200:
                    return
        except (OSError, EOFError, binascii.Error, ssl.SSLError) as error:
            raise _door_error(phase, error) from error
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(before)

    def close(self) -> None:
        """Closes the connection without a word; the server notices."""
        self._socket.close()

    # --- the security exchange ---

    def _log_in(self, door: Door) -> None:
        banner = self._reply()
        if banner.code != 220:
            raise DoorError("login", banner.errno, banner.text)
        self._send_raw(b"AUTH GSSAPI")
        answer = self._reply()
        if answer.code != 334:
            raise NotOffered(answer.text)
        tls = _tls_context(door).wrap_bio(self._incoming, self._outgoing, server_hostname=door.host)
        code = self._shake_hands(tls)
        if code == 335:
            tls.write(_NO_DELEGATION)
            code = self._adat(self._outgoing.read()).code
        if code != 235:
            raise NotOffered(f"the security exchange ended with {code}")
        self._tls = tls
        self.command("login", b"USER :globus-mapping:")
        self.command("login", b"PASS dummy")

    def _shake_hands(self, tls: ssl.SSLObject) -> int:
        """Returns the code of the reply that followed the last part of the handshake."""
        code = 334
        for _ in range(_MAX_HANDSHAKE_STEPS):
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            out = self._outgoing.read()
            if out:
                reply = self._adat(out)
                code = reply.code
                token = reply.lines[0].partition(b"ADAT=")[2]
                self._incoming.write(base64.b64decode(token))
            if done:
                return code
            if not out:
                break
        raise NotOffered("the security exchange does not end")

    def _adat(self, token: bytes) -> Reply:
        self._send_raw(b"ADAT " + base64.b64encode(token))
        reply = self._reply()
        if reply.code not in (235, 335):
            raise DoorError("login", 13, reply.text)
        return reply

    # --- lines ---

    def _send(self, command: bytes) -> None:
        if self._tls is None:
            self._send_raw(command)
            return
        self._tls.write(command + b"\r\n")
        self._send_raw(b"ENC " + base64.b64encode(self._outgoing.read()))

    def _send_raw(self, line: bytes) -> None:
        self._socket.sendall(line + b"\r\n")

    def _reply(self) -> Reply:
        lines: list[bytes] = []
        while True:
            line = self._line()
            if self._tls is not None and line[:3] in (b"631", b"632", b"633"):
                lines.append(self._decrypted(line[4:]).removesuffix(b"\0").removesuffix(b"\r\n"))
                ended = line[3:4] == b" "
            else:
                lines.append(line)
                ended = line[3:4] == b" " and line[:3] == lines[0][:3]
            if ended:
                break
        if not lines[0][:3].isdigit():
            raise EOFError(f"no reply: {lines[0][:80]!r}")
        return Reply(int(lines[0][:3]), tuple(lines))

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            data = self._socket.recv(65536)
            if not data:
                raise EOFError("the server closed the control connection")
            self._buffer += data
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise EOFError("the server sent an endless line")
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")

    def _decrypted(self, token: bytes) -> bytes:
        tls = self._tls
        if tls is None:
            raise LookupError("nothing to decrypt with")
        self._incoming.write(base64.b64decode(token))
        parts: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := tls.read(65536):
                parts.append(part)
        return b"".join(parts)


def _connect(door: Door, timeout_s: float) -> socket.socket:
    try:
        connection = socket.create_connection((door.host, door.port), timeout_s)
    except socket.gaierror as error:
        raise DoorError("login", 70, f"Name or service not known: {door.host}: {error.strerror}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DoorError("login", 70, f"Unable to connect to {door.host}:{door.port}: {reason}") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _tls_context(door: Door) -> ssl.SSLContext:
    """Believes this site's CAs only, and demands the host's own name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the profile's tokens are those of 1.2
    context.load_verify_locations(capath=door.trust_directory)
    context.load_cert_chain(door.credential_file)
    context.verify_flags |= ssl.VerifyFlags(_ALLOW_PROXY_CERTIFICATES)
    return context


def _door_error(phase: str, error: Exception) -> DoorError:
    if isinstance(error, TimeoutError):
        number, text = 110, "Connection timed out"
    elif isinstance(error, ssl.SSLCertVerificationError):
        number, text = 13, f"the server's certificate: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        number, text = 13, f"gss_init_sec_context failed: {error.reason}"
    else:
        number, text = 70, f"Connection reset: {error}"
    return DoorError(phase, number, text, lost=True)


def path_argument(door: Door, path: str) -> bytes:
    """Returns a path as a command carries it: its bytes as they are, below the door's root path."""
    return to_bytes(door.root_path.rstrip("/") + "/" + path.lstrip("/"))
