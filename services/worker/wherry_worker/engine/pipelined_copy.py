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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import ConnectionLost, GridFtpError, Refused, TimedOut
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.replies import Reply
from wherry_gridftp.third_party import ANSWER_OF_THE_OTHER_S, Failure, ThirdParty

from wherry_worker.engine.doors_at_work import SIDES, Doors, DoorsAtWork, Stopped
from wherry_worker.engine.failures import Where
from wherry_worker.engine.file_course import Course
from wherry_worker.engine.files_in_turn import FilesInTurn
from wherry_worker.engine.gridftp_door import door_error
from wherry_worker.engine.kept_connections import KeptConnections
from wherry_worker.engine.leftovers import CLEAN_UP_S, Leftovers
from wherry_worker.engine.messages import (
    ChannelUsed,
    CopyFiles,
    CopyItem,
    CopyPhase,
    ItemDone,
    LeftBehind,
    Problem,
    Progress,
    Setup,
    Side,
)
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.parents import Parents
from wherry_worker.engine.partial_files import PartialFile
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.port import Copied, Halted, OnProgress, TaskFailed
from wherry_worker.engine.stale import Stale
from wherry_worker.engine.temporary import MOST_AGAIN, aside_name, temporary_name

_FILES_SENDING = 128
_TELL_BYTES = 4 << 20
_TELL_S = 1.0
"""Progress is told of files that are at least so large, and of one a second of the smaller ones."""
_MOST_LOSSES = 3
"""So many connections may be lost one after the other, without a file that came to its end between them, or came on."""
_NAMES = "names"
_FOR_EVER_S = float("inf")
_SIGN_OF_LIFE_S = 60.0
"""Servers end a connection on which nothing is asked for, many after ten minutes; a large file takes longer."""
_THOSE_BEFORE_S = 30.0
_CAUSE_S = 5.0

Explain = Callable[[DoorError, Where], Problem]


class PipelinedCopy:
    """One task of copying; see the module.

    Args:
        kept: connections of the task before, and for the next.
        explain: says what an error means for people, as `failures.explain`.
        stale: what earlier beginnings of the task have left and was not removed: of its items, to go on from; of
            others, for another attempt.
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
        stale: Iterable[Stale] = (),
    ) -> None:
        self.task = task
        self.explain = explain
        self.checksum_patience_s = float(setup.checksum_timeout_s)
        self.resume_bytes = setup.resume_bytes
        self.parents: Parents | None = None
        self._patience_s = float(setup.marker_timeout_s)
        self._doors = DoorsAtWork(doors, kept, task, setup.channel_context)
        self._kept = kept
        self._on_progress = on_progress
        self._halted = halted
        self._files = FilesInTurn()
        self._all = [self._course(item) for item in task.items]
        self._files.add(self._all)
        self._to_send: deque[Course] = deque()
        self._ended: deque[ItemDone] = deque()
        self._leftovers = Leftovers()
        self._astray: list[Course] = []
        """Those that have come to their end while their bytes were still on their way."""
        self._losses = self._charged = 0
        self._lost_at: int | None = None
        """Over which file the last pair was lost."""
        self._news_s = 0.0
        self._told_s = float("-inf")
        self._lived_s = time.monotonic()
        self._told_phase: CopyPhase | None = None
        self._fatal: Problem | None = None
        self._is_lost = self._is_halted = self._is_tidy = False
        self._names: dict[Side, Connection] = {}
        self._pair: ThirdParty[int] | None = None
        self._told_protection = False
        self._is_left_behind = self._give_out(stale)

    def results(self) -> Iterator[Copied]:
        """Copies, yielding each file as it is in place or has failed, and how bytes go before the first of them.

        The last, also where it fails, is whether temporary files lie at the destination still.

        Raises:
            TaskFailed: what would happen to every further file.
            NotOffered: a server lacks something; no bytes have been sent.
        """
        try:
            self._open_names()
            self._fatal = self._fatal or self._doors.choose_protection()
            while self._fatal is None:
                self._admit()
                if not self._files.under_way and not self._ended:
                    self._keep()
                    break
                self._go_on()
                if self._doors.bytes_go and not self._told_protection:
                    self._told_protection = True
                    yield ChannelUsed(self._doors.protection)
                while self._ended:
                    done = self._ended.popleft()
                    self._losses = 0
                    if done.problem is None:
                        self._charged = 0
                    yield done
                self._tell_of_waiting()
            self._clean_up()
            if self._is_left_behind or self._leftovers.remain:
                yield LeftBehind()
            if self._fatal is not None:
                raise TaskFailed(self._fatal)
        finally:
            self._clean_up()

    # --- what a course needs of it ---

    @property
    def rename_replaces(self) -> bool:
        """As Crew says."""
        return self._doors.by_side["destination"].door.rename_replaces

    def names(self, side: Side) -> Connection:
        """As Crew says."""
        return self._names[side]

    def aside(self, course: Course) -> bytes:
        """As Crew says."""
        return self.beside(course, aside_name(self.task.tag, self.task.fence, course.item.index))

    def claim(self, course: Course, path: bytes) -> bool:
        """As Crew says."""
        return self._files.claim(course, path)

    def send(self, course: Course) -> None:
        """As Crew says."""
        self._to_send.append(course)
        self._send_more()

    def temporary(self, course: Course) -> bytes:
        """As Crew says."""
        again = self.task.engines_before * MOST_AGAIN + course.begun
        return self.beside(course, temporary_name(self.task.tag, self.task.fence, course.item.index, again))

    def remove(self, paths: Iterable[bytes]) -> None:
        """As Crew says."""
        every = list(paths)
        self._leftovers.remove(self._names.get("destination"), every)
        self._leftovers.suspect(every)

    def tell(self, course: Course, phase: CopyPhase, count: int) -> None:
        """As Crew says."""
        now_s = time.monotonic()
        if course.size_bytes >= _TELL_BYTES or len(self._files.under_way) == 1 or now_s >= self._told_s + _TELL_S:
            self._told_s, self._told_phase = now_s, phase
            self._on_progress(Progress(course.item.index, phase, count))

    def _tell_of_waiting(self) -> None:
        """Tells where only checksums are waited for: that may take long, and of small files not each step is told."""
        sends = self._to_send or (self._pair is not None and self._pair.load)
        if self._told_phase == "copying" and self._files.under_way and not sends:
            course = next(iter(self._files.under_way.values()))
            self._told_phase = "verifying"
            self._on_progress(Progress(course.item.index, "verifying", course.size_bytes if course.left else 0))

    def end(self, course: Course, done: ItemDone) -> None:
        """As Crew says; what it has left is removed."""
        self._files.drop(course)
        if done.problem is not None and done.problem.stops:
            self._fatal = self._fatal or done.problem
        else:
            self._ended.append(replace(done, duration_s=course.duration_s))
        if course.left and self._pair is not None and course.item.index in self._pair.unconfirmed():
            self._astray.append(course)
            return
        self._leftovers.remove(self._names.get("destination"), course.left)
        if len(course.left) > 1 or course.generation:
            self._leftovers.suspect(course.left)

    # --- beginning ---

    def _course(self, item: CopyItem) -> Course:
        doors = self._doors.by_side
        final = join(self.task.destination_directory, item.destination_name)
        source = doors["source"].path(join(self.task.source_directory, item.source_name))
        return Course(self, item, source, doors["destination"].path(final), parent(final))

    def _give_out(self, stale: Iterable[Stale]) -> bool:
        """Gives each file what is there of it; tells whether there is something besides, which stays."""
        courses: Mapping[int, Course] = {course.item.index: course for course in self._all}
        others = False
        for one in stale:
            path = self._doors.by_side["destination"].path(one.path)
            if (course := courses.get(one.name.index)) is None:
                others = True
            else:
                course.part = PartialFile(path)
                self._leftovers.suspect([path])
        return others

    def beside(self, course: Course, name: str) -> bytes:
        """As Crew says."""
        return self._doors.by_side["destination"].path(join(course.directory, name))

    def _admit(self) -> None:
        """Begins as many files as may be under way; none once it is halted, and only what is sent already goes on."""
        if self._halted():
            self._is_halted = True
            self._files.halt()
            sending = set(self._pair.unconfirmed()) if self._pair is not None else set()
            for index, course in list(self._files.under_way.items()):
                if index not in sending and not course.is_sent:
                    course.over = True
                    self._leftovers.suspect(course.left)
                    self._files.drop(course)
            self._to_send.clear()
        for course in self._files.admitted():
            course.begin()
        self._send_more()

    # --- bytes ---

    def _send_more(self) -> None:
        pair = self._pair
        while self._to_send and pair is not None and not pair.failed and pair.load < _FILES_SENDING:
            course = self._to_send.popleft()
            if course.over:
                continue
            have = course.begin_bytes()
            self.tell(course, "copying", sum(last - first for first, last in have))
            if not pair.load:
                self._news_s = time.monotonic()
            pair.submit(course.item.index, course.source, course.temporary, have)

    def _open_pair(self) -> None:
        connections = self._doors.open_pair(self._to_send[0].size_bytes)
        self._pair = ThirdParty(connections[0], connections[1], self._sent, self._moved, patience_s=_FOR_EVER_S)

    def _moved(self, index: int, markers: Markers) -> None:
        self._news_s = time.monotonic()
        if (course := self._files.under_way.get(index)) is not None:
            self.tell(course, "copying", markers.bytes)

    def _sent(self, index: int) -> None:
        self._news_s = time.monotonic()
        if (course := self._files.under_way.get(index)) is not None:
            course.sent()

    # --- going on, over losses ---

    def _open_names(self) -> None:
        try:
            for side, connection in zip(SIDES, self._kept.take(_NAMES) or (None, None), strict=True):
                self._names[side] = connection or self._doors.connect(side)
        except Stopped as stopped:
            self._stop(stopped.error, stopped.where)
            return
        if self.task.make_parents:
            self.parents = Parents(self._names["destination"], self._doors.by_side["destination"])

    def _stop(self, error: DoorError, where: Where) -> None:
        """Ends all for a loss, which is no file's fault: what is there of large ones can be gone on from."""
        self._fatal, self._is_lost = self.explain(error, where), True

    def _go_on(self) -> None:
        """Moves everything on until something has come of it."""
        if self._pair is None and self._to_send:
            try:
                self._open_pair()
            except Stopped as stopped:
                self._stop(stopped.error, stopped.where)
                return
            except TaskFailed as failed:
                self._fatal = failed.problem
                return
            self._send_more()
        self._give_sign_of_life()
        pair = self._pair
        every = [*self._names.values(), *(pair.connections.values() if pair is not None else ())]

        def news() -> bool:
            wanted = self._to_send and pair is None
            broken = self._astray or (pair is not None and pair.failed)
            return bool(self._ended or wanted or not self._files.under_way or self._fatal or broken)

        try:
            pump(every, news, within_s=1.0)
            if pair is not None and pair.failed:
                # Files before the refused one are on their way to a disk that may be slow.
                pump(every, lambda: pair.failure() is not None, within_s=min(self._patience_s, _THOSE_BEFORE_S))
                pump(every, pair.both_have_spoken, within_s=ANSWER_OF_THE_OTHER_S)
                if (failure := pair.failure()) is not None and failure.of_channel:
                    # A broken channel has a cause, which is the other server's to tell.
                    pump(every, pair.both_have_spoken, within_s=_CAUSE_S)
        except Broken as broken:
            side = next((one for one in SIDES if self._names.get(one) is broken.connection), None)
            if side is not None:
                self._names_lost(side, broken.cause)
            elif pair is not None:
                self._hear_out(pair, broken.connection)
                self._pair_lost(pair, broken.cause, lost_connection=True)
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
        refused = self._files.under_way.get(failure.key)
        self._note_arrived(pair)
        self._give_up_pair(pair, but=refused)
        if refused is None:  # it has come to its end already, by what was asked beside
            return
        self._leftovers.suspect(refused.left)  # its server may only now come to make the file
        if not (failure.of_restart and refused.start_over()):
            refused.fail(door_error("copy", Refused(failure.reply)), failure.side)

    def _hear_out(self, pair: ThirdParty[int], lost: Connection) -> None:
        """Takes what the other server has to say of the moment before: its markers, and what it confirms.

        Without that a file would be charged with the loss that had arrived already.
        """
        for side, connection in pair.connections.items():
            if connection is not lost:
                with contextlib.suppress(Broken):
                    pump([connection], partial(pair.has_answered, side), within_s=ANSWER_OF_THE_OTHER_S)

    def _pair_lost(self, pair: ThirdParty[int], cause: ConnectionLost, *, lost_connection: bool = False) -> None:
        """A lost connection is charged to no file, unless several were lost over the same one among others.

        Something in that file may be what ends the server, and the others shall not suffer for it. Large ones go on
        from where they were instead.
        """
        self._note_arrived(pair, lost_connection=lost_connection)
        error, head = door_error("copy", cause), pair.moving
        culprit = self._culprit(head)
        self._lost_at = head
        self._give_up_pair(pair, but=culprit)
        if culprit is None:
            self._count_loss(error, "transfer")
            return
        self._charged += 1
        self._leftovers.suspect(culprit.left)
        culprit.fail(error, "transfer")

    def _culprit(self, head: int | None) -> Course | None:
        """Returns the file over which so many connections have been lost as are borne; None: it may be anything."""
        course = None if head is None or head != self._lost_at else self._files.under_way.get(head)
        if course is None or course.is_resumable or len(self._files.under_way) < 2:
            return None
        return course if self._losses + 1 >= _MOST_LOSSES and self._charged < _MOST_LOSSES else None

    def _note_arrived(self, pair: ThirdParty[int], *, lost_connection: bool = False) -> None:
        """Notes what is there of the file that moved; who has come on has lost nothing.

        Of a file that was refused nothing is believed, nor of those behind it: it may be the next one's bytes. That a
        server complains of its channel while the other's connection is lost is no refusal.
        """
        failure = pair.failure()
        refused = failure is not None and failure.side is not None and not (lost_connection and failure.of_channel)
        believed = None if refused else pair.moving
        for index in pair.begun():
            course = self._files.under_way.get(index)
            if course is not None and index == believed:
                before_bytes = 0 if course.part is None else course.part.size_bytes
                course.has_arrived(pair.arrived())
                if course.part is not None and course.part.size_bytes >= before_bytes + self.resume_bytes:
                    self._losses, self._lost_at = 0, None
            elif course is not None and pair.failed:
                course.part = None

    def _give_up_pair(self, pair: ThirdParty[int], but: Course | None = None) -> None:
        pair.close()
        self._pair = None
        waiting = list(self._to_send)
        self._to_send.clear()
        for index in pair.unconfirmed():
            course = self._files.under_way.get(index)
            if course is not None and course is not but:
                course.send_again()
        self._to_send.extend(waiting)
        for course in self._astray:
            self.remove(course.left)
        self._astray.clear()

    def _names_lost(self, side: Side, cause: ConnectionLost) -> None:
        """A connection for names is lost: what is not in place begins again from its first step."""
        if self._pair is not None:
            self._note_arrived(self._pair, lost_connection=True)
        self._count_loss(door_error("stat", cause), side)
        self._close()
        self._to_send.clear()
        for course in (*self._files.begin_anew(), *self._astray):
            course.generation += 1
            self._leftovers.suspect(course.left)
        self._leftovers.of_lost_connection()
        self._astray.clear()
        if self._fatal is None:
            self._open_names()

    def _count_loss(self, error: DoorError, where: Where) -> None:
        self._losses += 1
        if self._losses >= _MOST_LOSSES:
            self._stop(error, where)

    # --- ending ---

    def _keep(self) -> None:
        """Leaves the connections to the next task, where nothing has happened to them."""
        if self._pair is not None and not self._pair.failed:
            self._doors.keep_pair(list(self._pair.connections.values()))
            self._pair = None
        with contextlib.suppress(Broken):
            pump(self._names.values(), lambda: not any(one.busy for one in self._names.values()), within_s=CLEAN_UP_S)
            if not self._leftovers:
                self._kept.keep(_NAMES, [self._names[side] for side in SIDES])
                self._names = {}

    def _close(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        for connection in self._names.values():
            connection.close()
        self._names = {}

    def _clean_up(self) -> None:
        """Stops what moves and removes what it has left, but for what can be gone on from."""
        if self._is_tidy:
            return
        self._is_tidy = True
        if self._pair is not None:
            self._note_arrived(self._pair)
            self._pair.close()
            self._pair = None
        for course in (*self._files.under_way.values(), *self._astray):
            self._leftovers.suspect(course.left)
        spared = self._spared()
        self._is_left_behind = self._is_left_behind or bool(spared)
        if self._leftovers and "destination" not in self._names and "destination" not in self._doors.away:
            # The source is lost, and with it the belief in both; the destination may be well.
            with contextlib.suppress(GridFtpError, Stopped):
                self._names["destination"] = self._doors.connect("destination")
        self._leftovers.clear(self._names.get("destination"), spared)
        self._close()

    def _spared(self) -> set[bytes]:
        """Returns under which names something may lie that another attempt can go on from."""
        if not self._is_halted and not self._is_lost:
            return set()
        spared: set[bytes] = set()
        for course in self._all:
            part = course.part
            if part is not None and (not part.ranges or part.size_bytes > self.resume_bytes):
                spared |= {part.path, course.temporary}  # between the two it is being renamed
        return spared


def _nobody_listens(reply: Reply) -> None:
    """Takes the answer to a sign of life: one that knows no such command has heard it all the same."""
