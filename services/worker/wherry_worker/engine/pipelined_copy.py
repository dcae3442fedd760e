"""Copies a chunk of files with everything under way at once: looks, checksums, bytes, renames.

Four connections: a pair that has the bytes sent, and one to each door beside it for names and checksums. Each file
goes its own way (`file_course.py`); here is decided how many are on their way, and what becomes of them when a
connection, or the belief in one, is lost.

A file whose bytes cannot be sent costs the pair of connections, since the servers may then have taken one file's bytes
for another's: what was not confirmed before goes again under another temporary name, and the old ones are removed.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.errors import ConnectionLost, GridFtpError, NotOffered, Refused, TimedOut
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.replies import Reply
from wherry_gridftp.third_party import ANSWER_OF_THE_OTHER_S, Failure, ThirdParty

from wherry_worker.engine.failures import Where
from wherry_worker.engine.file_course import Course
from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.kept_connections import KeptConnections
from wherry_worker.engine.messages import (
    ChannelUsed,
    CopyFiles,
    CopyItem,
    CopyPhase,
    ItemDone,
    Problem,
    Progress,
    Protection,
    Setup,
    Side,
)
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.parents import Parents
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.port import Halted, OnProgress, TaskFailed
from wherry_worker.engine.protection import strongest
from wherry_worker.engine.temporary import MOST_AGAIN, aside_name, temporary_name
from wherry_worker.engine.verification import not_protected

NEEDED = ("MLST", "CKSM", "DCAU")
"""What both servers must offer; others are left to gfal2."""
_FILES_UNDER_WAY = 384
_FILES_SENDING = 128
_BYTES_UNDER_WAY = 512 << 20
"""Beyond this only the file that moves and the one behind it: a pause finishes what has been begun."""
_ENCRYPTED_BYTES = 1_000_000
_LARGE_BYTES = 32 << 20
_STREAMS = 4
_TELL_BYTES = 4 << 20
_TELL_S = 1.0
"""Progress is told of files that are at least so large, and of one a second of the smaller ones."""
_MOST_LOSSES = 3
"""So many connections may be lost one after the other, without a file that came to its end between them."""
_NAMES = "names"
_CLEAN_UP_S = 10.0
_FOR_EVER_S = float("inf")
_SIGN_OF_LIFE_S = 60.0
"""Servers end a connection on which nothing is asked for, many after ten minutes; a large file takes longer."""
_THOSE_BEFORE_S = 30.0
_SECOND_LOOK_S = 0.3
"""A server that was stopped may make the file that it was about to write just after that was removed."""

Explain = Callable[[DoorError, Where], Problem]
Doors = tuple[GridFtpDoor, GridFtpDoor]
_SIDES: tuple[Side, Side] = ("source", "destination")


class PipelinedCopy:
    """One task of copying; see the module.

    Args:
        kept: connections of the task before, and for the next.
        explain: says what an error means for people, as `failures.explain`.
    """

    def __init__(
        self,
        setup: Setup,
        doors: Doors,
        kept: KeptConnections,
        task: CopyFiles,
        explain: Explain,
        on_progress: OnProgress,
        halted: Halted,
    ) -> None:
        self.task = task
        self.explain = explain
        self.checksum_patience_s = float(setup.checksum_timeout_s)
        self.parents: Parents | None = None
        self._patience_s = float(setup.marker_timeout_s)
        self._doors: dict[Side, GridFtpDoor] = dict(zip(_SIDES, doors, strict=True))
        self._kept = kept
        self._on_progress = on_progress
        self._halted = halted
        self._todo: deque[Course] = deque()
        self._in_turn: deque[Course] = deque()
        """Those that have the destination of one before them: each would find nothing there, and replace the other."""
        self._places: dict[bytes, int] = {}
        """Which item is to be, or to be tried, at a path."""
        for item in task.items:
            course = self._course(item)
            (self._todo if self.claim(course, course.final) else self._in_turn).append(course)
        self._open: dict[int, Course] = {}
        self._open_bytes = 0
        self._to_send: deque[Course] = deque()
        self._ended: deque[ItemDone] = deque()
        self._suspect: list[bytes] = []
        self._astray: list[Course] = []
        """Those that have come to their end while their bytes were still on their way."""
        self._away: set[Side] = set()
        self._losses = 0
        self._news_s = 0.0
        self._told_s = float("-inf")
        self._lived_s = time.monotonic()
        self._told_phase: CopyPhase | None = None
        self._fatal: Problem | None = None
        self._names: dict[Side, Connection] = {}
        self._pair: ThirdParty[int] | None = None
        self._context = setup.channel_context
        self._protection: Protection = "clear"
        self._bytes_go = self._told_protection = False
        self._channel = DataChannel()

    def results(self) -> Iterator[ItemDone | ChannelUsed]:
        """Copies, yielding each file as it is in place or has failed, and how bytes go before the first of them.

        Raises:
            TaskFailed: what would happen to every further file.
            NotOffered: a server lacks something; no bytes have been sent.
        """
        try:
            self._open_names()
            self._choose_protection()
            while self._fatal is None:
                self._admit()
                if not self._open and not self._ended:
                    self._keep()
                    return
                self._go_on()
                if self._bytes_go and not self._told_protection:
                    self._told_protection = True
                    yield ChannelUsed(self._protection)
                while self._ended:
                    self._losses = 0
                    yield self._ended.popleft()
                self._tell_of_waiting()
            raise TaskFailed(self._fatal)
        finally:
            self._clean_up()

    # --- what a course needs of it ---

    @property
    def rename_replaces(self) -> bool:
        """As Crew says."""
        return self._doors["destination"].door.rename_replaces

    def names(self, side: Side) -> Connection:
        """As Crew says."""
        return self._names[side]

    def aside(self, course: Course) -> bytes:
        """As Crew says."""
        return self.beside(course, aside_name(self.task.tag, self.task.fence, course.item.index))

    def claim(self, course: Course, path: bytes) -> bool:
        """As Crew says."""
        return self._places.setdefault(path, course.item.index) == course.item.index

    def send(self, course: Course) -> None:
        """As Crew says."""
        self._to_send.append(course)
        self._send_more()

    def tell(self, course: Course, phase: CopyPhase, count: int) -> None:
        """As Crew says."""
        now_s = time.monotonic()
        if course.size_bytes >= _TELL_BYTES or len(self._open) == 1 or now_s >= self._told_s + _TELL_S:
            self._told_s, self._told_phase = now_s, phase
            self._on_progress(Progress(course.item.index, phase, count))

    def _tell_of_waiting(self) -> None:
        """Tells where only checksums are waited for: that may take long, and of small files not each step is told."""
        sends = self._to_send or (self._pair is not None and self._pair.load)
        if self._told_phase == "copying" and self._open and not sends:
            course = next(iter(self._open.values()))
            self._told_phase = "verifying"
            self._on_progress(Progress(course.item.index, "verifying", course.size_bytes if course.left else 0))

    def end(self, course: Course, done: ItemDone) -> None:
        """As Crew says; what it has left is removed."""
        self._drop(course)
        if done.problem is not None and done.problem.stops:
            self._fatal = self._fatal or done.problem
        else:
            self._ended.append(replace(done, duration_s=course.duration_s))
        if course.left and self._pair is not None and course.item.index in self._pair.unconfirmed():
            self._astray.append(course)
            return
        self._remove_left(course)
        if len(course.left) > 1 or course.generation:
            self._suspect += course.left

    # --- beginning ---

    def _course(self, item: CopyItem) -> Course:
        final = join(self.task.destination_directory, item.destination_name)
        source = self._doors["source"].path(join(self.task.source_directory, item.source_name))
        return Course(self, item, source, self._doors["destination"].path(final), parent(final))

    def beside(self, course: Course, name: str) -> bytes:
        """As Crew says."""
        return self._doors["destination"].path(join(course.directory, name))

    def _admit(self) -> None:
        """Begins as many files as may be under way; none once it is halted, and only what is sent already goes on."""
        if self._halted():
            self._todo.clear()
            self._in_turn.clear()
            sending = set(self._pair.unconfirmed()) if self._pair is not None else set()
            waiting = {course.item.index for course in self._to_send}
            for index, course in list(self._open.items()):
                if index in waiting or (index not in sending and not course.left):
                    course.over = True
                    self._suspect += course.left
                    self._drop(course)
            self._to_send.clear()
        if not self._todo and not self._open:
            self._take_turns()
        while self._todo and len(self._open) < _FILES_UNDER_WAY:
            size_bytes = self._todo[0].size_bytes
            if len(self._open) >= 2 and self._open_bytes + size_bytes > _BYTES_UNDER_WAY:
                break
            course = self._todo.popleft()
            self._open[course.item.index] = course
            self._open_bytes += course.item.size_bytes
            course.begin()
        self._send_more()

    def _take_turns(self) -> None:
        """Has the next file of each destination that several have begin."""
        places: set[bytes] = set()
        for _ in range(len(self._in_turn)):
            course = self._in_turn.popleft()
            (self._in_turn if course.final in places else self._todo).append(course)
            places.add(course.final)

    def _drop(self, course: Course) -> None:
        if self._open.pop(course.item.index, None) is not None:
            self._open_bytes -= course.item.size_bytes

    # --- bytes ---

    def _send_more(self) -> None:
        pair = self._pair
        while self._to_send and pair is not None and not pair.failed and pair.load < _FILES_SENDING:
            course = self._to_send.popleft()
            if course.over:
                continue
            again = self.task.engines_before * MOST_AGAIN + course.generation
            name = temporary_name(self.task.tag, self.task.fence, course.item.index, again)
            course.temporary = self.beside(course, name)
            course.left.append(course.temporary)
            self.tell(course, "copying", 0)
            if not pair.load:
                self._news_s = time.monotonic()
            pair.submit(course.item.index, course.source, course.temporary)

    def _choose_protection(self) -> None:
        """Small files are encrypted where both doors offer it: it costs them nothing that could be seen."""
        if self._fatal is not None:
            return
        offered = bool(self._context) and all("DCSC" in door.offered for door in self._doors.values())
        wanted = self.task.protection
        if wanted is None and offered and self.task.items:
            average = sum(item.size_bytes for item in self.task.items) / len(self.task.items)
            wanted = "encrypted" if average <= _ENCRYPTED_BYTES else "clear"
        self._protection = strongest(wanted, self.task.least_protection)
        if self._protection != "clear" and not offered:
            self._fatal = not_protected()

    def _open_pair(self) -> None:
        """Opens the connections that send bytes; what it costs is paid when the first file needs them."""
        self._channel = channel = DataChannel(
            streams=_STREAMS if self._to_send[0].size_bytes >= _LARGE_BYTES else 1,
            context=self._context if self._protection != "clear" else None,
            private=self._protection == "encrypted",
        )
        connections = self._kept.take(channel) or self._set_up(channel)
        if connections is None:
            self._protection = "clear"
            self._open_pair()
            return
        self._pair = ThirdParty(connections[0], connections[1], self._sent, self._moved, patience_s=_FOR_EVER_S)
        self._bytes_go = True

    def _set_up(self, channel: DataChannel) -> Sequence[Connection] | None:
        """Returns a pair that has the channel; None: it cannot be protected, though both said so, and nobody asked."""
        asked = self.task.protection is not None or self.task.least_protection != "clear"
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self._connected(side)) for side in _SIDES]
            try:
                set_up(connections[0], connections[1], channel)
            except (NotOffered, Refused) as error:
                if channel.context is not None and not asked and not self._bytes_go:
                    return None  # never once it has been told how the bytes go
                if isinstance(error, NotOffered) and channel.context is not None:
                    raise TaskFailed(not_protected()) from error
                if isinstance(error, NotOffered) and not self._bytes_go:
                    raise  # another engine may do it
                raise _Stopped(door_error("copy", error), "transfer") from error
            except GridFtpError as error:
                raise _Stopped(door_error("copy", error), "transfer") from error
            stack.pop_all()
        return connections

    def _moved(self, index: int, markers: Markers) -> None:
        self._news_s = time.monotonic()
        if (course := self._open.get(index)) is not None:
            self.tell(course, "copying", markers.bytes)

    def _sent(self, index: int) -> None:
        self._news_s = time.monotonic()
        if (course := self._open.get(index)) is not None:
            course.sent()

    # --- going on, over losses ---

    def _connected(self, side: Side) -> Connection:
        try:
            return self._doors[side].connect(NEEDED)
        except NotOffered as error:
            if not self._bytes_go:
                raise
            raise _Stopped(door_error("login", error), side) from error
        except DoorError as error:
            self._away.add(side)
            raise _Stopped(error, side) from error

    def _open_names(self) -> None:
        try:
            for side, connection in zip(_SIDES, self._kept.take(_NAMES) or (None, None), strict=True):
                self._names[side] = connection or self._connected(side)
        except _Stopped as stopped:
            self._fatal = self.explain(stopped.error, stopped.where)
            return
        if self.task.make_parents:
            self.parents = Parents(self._names["destination"], self._doors["destination"])

    def _go_on(self) -> None:
        """Moves everything on until something has come of it."""
        if self._pair is None and self._to_send:
            try:
                self._open_pair()
            except _Stopped as stopped:
                self._fatal = self.explain(stopped.error, stopped.where)
                return
            self._send_more()
        self._give_sign_of_life()
        pair = self._pair
        every = [*self._names.values(), *(pair.connections.values() if pair is not None else ())]

        def news() -> bool:
            wanted = self._to_send and pair is None
            broken = self._astray or (pair is not None and pair.failed)
            return bool(self._ended or wanted or not self._open or self._fatal or broken)

        try:
            pump(every, news, within_s=1.0)
            if pair is not None and pair.failed:
                # Files before the refused one are on their way to a disk that may be slow.
                pump(every, lambda: pair.failure() is not None, within_s=min(self._patience_s, _THOSE_BEFORE_S))
                pump(every, pair.both_have_spoken, within_s=ANSWER_OF_THE_OTHER_S)
        except Broken as broken:
            side = next((one for one in _SIDES if self._names.get(one) is broken.connection), None)
            if side is not None:
                self._names_lost(side, broken.cause)
            elif pair is not None:
                self._pair_lost(pair, broken.cause)
            return
        if pair is None:
            return
        if pair.failed:
            self._pair_failed(pair, pair.failure())
        elif self._astray:
            self._give_up_pair(pair)
        elif pair.load and time.monotonic() - self._news_s > self._patience_s:
            # Of the source nothing is heard while it sends: only bytes that arrive are a sign of life.
            self._pair_lost(pair, TimedOut(f"nothing arrived for {self._patience_s:.0f} s"))

    def _give_sign_of_life(self) -> None:
        """Asks for nothing on connections for names that are idle."""
        now_s = time.monotonic()
        if now_s >= self._lived_s + _SIGN_OF_LIFE_S:
            self._lived_s = now_s
            for connection in self._names.values():
                if not connection.busy:
                    connection.submit(b"NOOP", _nobody_listens)

    def _pair_failed(self, pair: ThirdParty[int], failure: Failure[int] | None) -> None:
        """Charges a refusal to its file, and has the others sent over another pair."""
        if failure is None or failure.side is None:
            text = "the data channel broke" if failure is None else failure.reply.text
            self._pair_lost(pair, ConnectionLost(text))
            return
        refused = self._open.get(failure.key)
        self._give_up_pair(pair, but=refused)
        if refused is None:  # it has come to its end already, by what was asked beside
            return
        self._suspect += refused.left  # its server may only now come to make the file
        refused.fail(door_error("copy", Refused(failure.reply)), failure.side)

    def _pair_lost(self, pair: ThirdParty[int], cause: ConnectionLost) -> None:
        """A lost connection is charged to no file."""
        self._give_up_pair(pair)
        self._count_loss(door_error("copy", cause), "transfer")

    def _give_up_pair(self, pair: ThirdParty[int], but: Course | None = None) -> None:
        pair.close()
        self._pair = None
        again = [self._open[index] for index in pair.unconfirmed() if index in self._open]
        for course in again:
            if course is not but:
                course.send_again()
        self._to_send.extendleft(course for course in reversed(again) if course is not but)
        for course in self._astray:
            self._suspect += course.left
            self._remove_left(course)
        self._astray.clear()

    def _names_lost(self, side: Side, cause: ConnectionLost) -> None:
        """A connection for names is lost: what is not in place begins again from its first step."""
        self._count_loss(door_error("stat", cause), side)
        self._close()
        again = sorted(self._open.values(), key=lambda course: course.item.index)
        self._open.clear()
        self._open_bytes = 0
        self._to_send.clear()
        for course in (*again, *self._astray):
            course.generation += 1
            self._suspect += course.left
        self._astray.clear()
        self._todo.extendleft(reversed(again))
        if self._fatal is None:
            self._open_names()

    def _count_loss(self, error: DoorError, where: Where) -> None:
        self._losses += 1
        if self._losses >= _MOST_LOSSES:
            self._fatal = self.explain(error, where)

    # --- ending ---

    def _keep(self) -> None:
        """Leaves the connections to the next task, where nothing has happened to them."""
        if self._pair is not None and not self._pair.failed:
            self._kept.keep(self._channel, list(self._pair.connections.values()))
            self._pair = None
        with contextlib.suppress(Broken):
            pump(self._names.values(), lambda: not any(one.busy for one in self._names.values()), within_s=_CLEAN_UP_S)
            if not self._suspect:
                self._kept.keep(_NAMES, [self._names[side] for side in _SIDES])
                self._names = {}

    def _close(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        for connection in self._names.values():
            connection.close()
        self._names = {}

    def _clean_up(self) -> None:
        """Stops what moves and removes what it has left; what cannot be removed, the next attempt looks for."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        self._suspect += [path for course in (*self._open.values(), *self._astray) for path in course.left]
        with contextlib.suppress(Broken, GridFtpError, _Stopped):
            if self._suspect and "destination" not in self._names and "destination" not in self._away:
                # The source is lost, and with it the belief in both; the destination may be well.
                self._names["destination"] = self._connected("destination")
            if (names := self._names.get("destination")) is not None:
                self._remove(names)
                if self._suspect:
                    pump([names], lambda: False, within_s=_SECOND_LOOK_S)
                    self._remove(names)
        self._close()

    def _remove_left(self, course: Course) -> None:
        if "destination" in self._names:
            for path in course.left:
                operations.remove(self._names["destination"], path, _nobody_waits)

    def _remove(self, names: Connection) -> None:
        for path in self._suspect:
            operations.remove(names, path, _nobody_waits)
        pump([names], lambda: not names.busy, within_s=_CLEAN_UP_S)


class _Stopped(Exception):
    """A door could not be worked at."""

    def __init__(self, error: DoorError, where: Where) -> None:
        super().__init__(str(error))
        self.error = error
        self.where: Where = where


def _nobody_listens(reply: Reply) -> None:
    """Takes the answer to a sign of life: one that knows no such command has heard it all the same."""


def _nobody_waits(answer: Refused | None) -> None:
    """Takes the answer to a removal: what cannot be removed now is looked for by the next attempt."""
