"""Connections to a GridFTP door, and its refusals in the engine's words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wherry_gridftp.connection import DEFAULT_WINDOW, Connection, Endpoint
from wherry_gridftp.errors import (
    CredentialUnusable,
    GridFtpError,
    HostNotTrusted,
    NotOffered,
    Refused,
    SecurityFailed,
    TimedOut,
    UnfitName,
)
from wherry_gridftp.features import features
from wherry_gridftp.gsi import Credential
from wherry_gridftp.pump import command

from wherry_worker.engine.messages import Door
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.paths import to_bytes, to_text


class GridFtpDoor:
    """Opens connections to one door, and knows paths there."""

    def __init__(self, door: Door, timeout_s: float) -> None:
        self.door = door
        self._timeout_s = timeout_s
        self._credential = Credential(Path(door.credential_file), Path(door.trust_directory))
        self._offered: frozenset[str] | None = None

    def connect(self, needed: Iterable[str] = (), window: int = DEFAULT_WINDOW) -> Connection:
        """Opens a connection and logs in.

        Raises:
            DoorError: with the phase `login`.
            NotOffered: the server lacks one of `needed` (names of FEAT), or does not speak GSI.
        """
        try:
            connection = Connection(
                Endpoint(self.door.host, self.door.port), self._credential, timeout_s=self._timeout_s, window=window
            )
        except NotOffered:
            raise
        except GridFtpError as error:
            raise door_error("login", error) from error
        try:
            self._look_at(connection, needed)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def offered(self) -> frozenset[str]:
        """What the server offers, by the names of FEAT; known once there has been a connection."""
        return self._offered or frozenset()

    def path(self, path: str) -> bytes:
        """Returns a path as a command carries it: its bytes as they are, below the door's root path."""
        return to_bytes(self.door.root_path.rstrip("/") + "/" + path.lstrip("/"))

    def target(self, target: bytes) -> str:
        """Returns where a symbolic link leads, as paths are given here; above the root path that is `/`.

        Servers tell of some links as they stand and of others where they lead to.
        """
        text, root = to_text(target), self.door.root_path.rstrip("/")
        if not text.startswith("/") or not root:
            return text
        if root == text or root.startswith(text.rstrip("/") + "/"):
            return "/"
        return text.removeprefix(root) if text.startswith(root + "/") else text

    def _look_at(self, connection: Connection, needed: Iterable[str]) -> None:
        try:
            if self._offered is None:
                self._offered = features(connection)
            if "UTF8" in self._offered:
                command(connection, b"OPTS UTF8 ON")
        except Refused:
            self._offered = self._offered or frozenset()
        except GridFtpError as error:
            raise door_error("login", error) from error
        if missing := sorted(set(needed) - self._offered):
            raise NotOffered(f"{', '.join(missing)} is missing")


def door_error(phase: str, error: GridFtpError) -> DoorError:
    """Returns an error of the client's as the failure table reads it."""
    match error:
        case Refused():
            return DoorError(phase, error.reply.errno, error.reply.text)
        case UnfitName():
            return DoorError(phase, 22, str(error))
        case TimedOut():
            # In words of its own: "connection timed out" is also what is said of a way that is closed.
            return DoorError(phase, 110, "no answer in time", lost=True)
        case HostNotTrusted():
            return DoorError(phase, 13, f"the server's certificate: {error}", lost=True)
        case SecurityFailed(at_server=True):
            return DoorError(phase, 13, str(error), lost=True)
        case SecurityFailed() | CredentialUnusable():
            return DoorError(phase, 13, f"gss_init_sec_context failed: {error}", lost=True)
        case _:
            return DoorError(phase, 70, str(error), lost=True)
