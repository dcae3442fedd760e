"""A GridFTP server that says what a test has it say, after a real security exchange.

    def script(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"MLST "):
            session.reply(b"250-status of it", b" Type=file;Size=3; /it", b"250 End.")

    with ScriptedGridFtp(pki.files("storage"), script) as server:
        connection = Connection(server.endpoint, credential)

What the script does not answer is answered as `answer_plainly` does. `SpeakingServer` is for what goes wrong before
there is a session: it says bytes, and knows nothing.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol

from wherry_gridftp.connection import Connection, Endpoint
from wherry_testing.pki import HostFiles

Script = Callable[[bytes, "ScriptedSession"], None]
FEATURES = (b"MLST Type*;Size*;", b"MLSC", b"CKSM MD5:10;ADLER32:10;", b"DCAU", b"DCSC P,D", b"UTF8")


class ScriptedSession:
    """One control connection, as the script sees it.

    Attributes:
        number: its place among the server's connections, from 0.
        commands: what has come so far.
    """

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, number: int, said_too_early: bytes = b""
    ) -> None:
        self.number = number
        self._said_too_early = said_too_early
        self.commands: list[bytes] = []
        self.delegated = b""
        self._socket = connection
        self._file = connection.makefile("rb")
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._answered = False

    def reply(self, *lines: bytes) -> None:
        """Sends one reply; all but the last line are parts of it."""
        self._answered = True
        out = b""
        for index, line in enumerate(lines):
            self._tls.write(line + b"\r\n")
            outer = b"632 " if index == len(lines) - 1 else b"632-"
            out += outer + base64.b64encode(self._outgoing.read()) + b"\r\n"
        self.raw(out)

    def reply_at_once(self, *lines: bytes) -> None:
        """Sends one reply as a single protected line, as some servers do."""
        self._answered = True
        self._tls.write(b"\r\n".join(lines) + b"\r\n")
        self.raw(b"632 " + base64.b64encode(self._outgoing.read()) + b"\r\n")

    def raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def hold(self) -> None:
        """Leaves the command unanswered."""
        self._answered = True

    def drop(self) -> None:
        """Ends the connection."""
        self._answered = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, script: Script) -> None:
        """Serves it to its end."""
        self._shake_hands()
        for line in self._file:
            verb, _, token = line.rstrip(b"\r\n").partition(b" ")
            if verb != b"ENC":
                self.raw(b"533 protect yourself\r\n")
                continue
            self._incoming.write(base64.b64decode(token))
            command = b""
            while not command.endswith(b"\r\n"):  # one record holds 16 KiB
                command += self._tls.read(1 << 20)
            command = command.removesuffix(b"\r\n")
            self.commands.append(command)
            self._answered = False
            script(command, self)
            if not self._answered:
                answer_plainly(command, self)

    def close(self) -> None:
        """Closes it; its own thread does."""
        self._file.close()
        self._socket.close()

    def _shake_hands(self) -> None:
        self.raw(b"220 scripted\r\n")
        assert self._file.readline().startswith(b"AUTH GSSAPI")
        self.raw(b"334 go on\r\n")
        done = False
        while not done:
            self._incoming.write(self._token())
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                # What TLS has to say of the client's certificate goes out as a token, too.
                self._say_token()
                raise
            self._say_token()
        self._incoming.write(self._token())
        self.delegated = self._tls.read(10)
        self.raw(b"235 done\r\n" + self._said_too_early)

    def _say_token(self) -> None:
        self.raw(b"335 ADAT=" + base64.b64encode(self._outgoing.read()) + b"\r\n")

    def _token(self) -> bytes:
        line = self._file.readline()
        if not line.startswith(b"ADAT "):
            raise EOFError
        return base64.b64decode(line.split()[1])


def answer_plainly(command: bytes, session: ScriptedSession) -> None:
    """What a server says when all is well; of files it says that they have three bytes."""
    verb = command.split(b" ")[0]
    match verb:
        case b"FEAT":
            session.reply(b"211-Extensions", *(b" " + feature for feature in FEATURES), b"211 End.")
        case b"PASS":
            session.reply(b"230 logged in")
        case b"PASV":
            session.reply(b"227 Entering Passive Mode (127,0,0,1,200,1)")
        case b"EPSV":
            session.reply(b"229 Entering Extended Passive Mode (|||51201|)")
        case b"MLST":
            session.reply(b"250-status", b" Type=file;Size=3;Modify=20260102030405;UNIX.mode=0644; /it", b"250 End.")
        case b"SIZE":
            session.reply(b"213 3")
        case b"CKSM":
            session.reply(b"213 024d0127")
        case b"RNFR":
            session.reply(b"350 ready")
        case b"STOR" | b"RETR":
            session.reply(b"150 opening")
            session.reply(b"226 done")
        case _:
            session.reply(b"200 fine")


class ScriptedGridFtp:
    """See the module.

    Args:
        address: of this machine, `::1` for one that is reached over IPv6.
        said_too_early: what is said, without protection, together with the last word of the security exchange.
    """

    def __init__(
        self,
        files: HostFiles,
        script: Script = answer_plainly,
        *,
        address: str = "127.0.0.1",
        said_too_early: bytes = b"",
    ) -> None:
        self._script = script
        self._said_too_early = said_too_early
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(files.certificate, files.key)
        self._context.load_verify_locations(files.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = _Listener(self._serve, address)
        self.sessions: list[ScriptedSession] = []
        self.endpoint = Endpoint("localhost" if address == "127.0.0.1" else address, self._listener.port)

    def __enter__(self) -> ScriptedGridFtp:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends every session, and listens no more."""
        self._listener.close()
        for session in self.sessions:
            session.drop()
        self._listener.join()

    def _serve(self, connection: socket.socket) -> None:
        session = ScriptedSession(connection, self._context, len(self.sessions), self._said_too_early)
        self.sessions.append(session)
        # A client that leaves in the middle, or does not believe us, is what some tests are about.
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError, ValueError):
                session.run(self._script)
        finally:
            session.close()


class Serve(Protocol):
    """Starts a server with a script and connects to it; the fixture `serve` ends both with the test."""

    def __call__(
        self,
        script: Script = answer_plainly,
        *,
        timeout_s: float = 30,
        window: int = 128,
        address: str = "127.0.0.1",
    ) -> tuple[ScriptedGridFtp, Connection]:
        """Returns the server, and a connection that is logged in."""
        ...


Speak = Callable[[socket.socket], None]


class SpeakingServer:
    """Listens on this machine and has `speak` deal with each connection, which ends with it."""

    def __init__(self, speak: Speak) -> None:
        self._speak = speak
        self._listener = _Listener(self._serve, "127.0.0.1")
        self.endpoint = Endpoint("localhost", self._listener.port)

    def __enter__(self) -> SpeakingServer:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._listener.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            self._speak(connection)


class _Listener:
    """Takes connections and has each dealt with in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None], address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family)
        self._serve = serve
        self._threads: list[threading.Thread] = []
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        self._run(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._run(partial(self._serve, connection))

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)
