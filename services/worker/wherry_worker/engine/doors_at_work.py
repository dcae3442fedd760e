"""The two doors of a copy: connections for names, and pairs of them that send bytes, protected as asked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from wherry_gridftp.connection import Connection
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.errors import GridFtpError, NotOffered, Refused

from wherry_worker.engine.failures import Where
from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.kept_connections import KeptConnections
from wherry_worker.engine.messages import CopyFiles, Problem, Protection, Side
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.port import TaskFailed
from wherry_worker.engine.protection import strongest
from wherry_worker.engine.verification import not_protected

NEEDED = ("MLST", "CKSM", "DCAU")
"""What both servers must offer; others are left to gfal2."""
SIDES: tuple[Side, Side] = ("source", "destination")
Doors = tuple[GridFtpDoor, GridFtpDoor]
_ENCRYPTED_BYTES = 1_000_000
_LARGE_BYTES = 32 << 20
_STREAMS = 4


class Stopped(Exception):
    """A door could not be worked at."""

    def __init__(self, error: DoorError, where: Where) -> None:
        super().__init__(str(error))
        self.error = error
        self.where: Where = where


class DoorsAtWork:
    """Opens what one copy needs at its two doors.

    Attributes:
        protection: how the bytes go; to be told once there has been a pair.
        bytes_go: whether there has been one: what a server lacks is no reason any more to leave all to gfal2.
        away: at which no connection came about.
    """

    def __init__(self, doors: Doors, kept: KeptConnections, task: CopyFiles, context: str) -> None:
        self.by_side: dict[Side, GridFtpDoor] = dict(zip(SIDES, doors, strict=True))
        self.protection: Protection = "clear"
        self.bytes_go = False
        self.away: set[Side] = set()
        self._kept = kept
        self._task = task
        self._context = context
        self._channel = DataChannel()

    def connect(self, side: Side) -> Connection:
        """Opens a connection.

        Raises:
            Stopped: none came about.
            NotOffered: another engine may do it.
        """
        try:
            return self.by_side[side].connect(NEEDED)
        except NotOffered as error:
            if not self.bytes_go:
                raise
            raise Stopped(door_error("login", error), side) from error
        except DoorError as error:
            self.away.add(side)
            raise Stopped(error, side) from error

    def choose_protection(self) -> Problem | None:
        """Small files are encrypted where both doors offer it: it costs them nothing that could be seen.

        Returns why it cannot be as asked.
        """
        offered = bool(self._context) and all("DCSC" in door.offered for door in self.by_side.values())
        wanted = self._task.protection
        if wanted is None and offered and self._task.items:
            average = sum(item.size_bytes for item in self._task.items) / len(self._task.items)
            wanted = "encrypted" if average <= _ENCRYPTED_BYTES else "clear"
        self.protection = strongest(wanted, self._task.least_protection)
        return not_protected() if self.protection != "clear" and not offered else None

    def open_pair(self, size_bytes: int) -> Sequence[Connection]:
        """Opens the connections that send bytes; what it costs is paid when the first file needs them.

        Args:
            size_bytes: of the first file.

        Raises:
            Stopped, NotOffered: as `connect`.
            TaskFailed: the bytes cannot be protected as asked.
        """
        self._channel = channel = DataChannel(
            streams=_STREAMS if size_bytes >= _LARGE_BYTES else 1,
            context=self._context if self.protection != "clear" else None,
            private=self.protection == "encrypted",
        )
        connections = self._kept.take(channel) or self._set_up(channel)
        if connections is None:
            self.protection = "clear"
            return self.open_pair(size_bytes)
        self.bytes_go = True
        return connections

    def keep_pair(self, connections: Sequence[Connection]) -> None:
        """Leaves a pair to the next task."""
        self._kept.keep(self._channel, connections)

    def _set_up(self, channel: DataChannel) -> Sequence[Connection] | None:
        """Returns a pair that has the channel; None: it cannot be protected, though both said so, and nobody asked."""
        asked = self._task.protection is not None or self._task.least_protection != "clear"
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.connect(side)) for side in SIDES]
            try:
                set_up(connections[0], connections[1], channel)
            except (NotOffered, Refused) as error:
                if channel.context is not None and not asked and not self.bytes_go:
                    return None  # never once it has been told how the bytes go
                if isinstance(error, NotOffered) and channel.context is not None:
                    raise TaskFailed(not_protected()) from error
                if isinstance(error, NotOffered) and not self.bytes_go:
                    raise  # another engine may do it
                raise Stopped(door_error("copy", error), "transfer") from error
            except GridFtpError as error:
                raise Stopped(door_error("copy", error), "transfer") from error
            stack.pop_all()
        return connections
