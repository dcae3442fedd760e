"""Connections that one task leaves to the next: logging in to both doors takes as long as a hundred small files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import GridFtpError
from wherry_gridftp.pump import command

_IDLE_S = 15.0
"""A connection idle for longer is asked for a sign of life before it is trusted with a command."""


class KeptConnections:
    """Sets of connections by what they were set up for; each is given out once."""

    def __init__(self) -> None:
        self._kept: dict[object, tuple[float, Sequence[Connection]]] = {}

    def take(self, purpose: object) -> Sequence[Connection] | None:
        """Returns what was kept for a purpose, if it still lives."""
        kept_s, connections = self._kept.pop(purpose, (0.0, ()))
        if not connections:
            return None
        if time.monotonic() - kept_s > _IDLE_S:
            try:
                for connection in connections:
                    command(connection, b"NOOP")
            except GridFtpError:
                _close(connections)
                return None
        return connections

    def keep(self, purpose: object, connections: Sequence[Connection]) -> None:
        """Keeps connections on which nothing is under way."""
        _, before = self._kept.pop(purpose, (0.0, ()))
        _close(before)
        if any(connection.busy for connection in connections):
            _close(connections)
            return
        self._kept[purpose] = time.monotonic(), connections

    def close(self) -> None:
        """Closes all."""
        for _, connections in self._kept.values():
            _close(connections)
        self._kept.clear()


def _close(connections: Sequence[Connection]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.close()
