"""Copies a chunk of files with everything under way at once: looks, checksums, bytes, renames.

Four connections: a pair that has the bytes sent, and one to each door beside it for names and checksums. Each file goes
its own way through the same steps as in `stepwise.py`:

    look at the source and the destination -> checksum of the source -> bytes, under a temporary name
    -> size and checksum of what has arrived -> a last look at the final name -> rename

A file whose bytes cannot be sent costs the pair of connections, since the servers may then have taken one file's bytes
for another's: what was not confirmed before goes again under another temporary name, and the old ones are removed. The
source's checksum comes before the bytes, so that a file that cannot be read is found out without that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from wherry_gridftp import operations
from wherry_gridftp.connection import Connection
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import ConnectionLost, GridFtpError, Refused, UnfitName
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import Broken, pump
from wherry_gridftp.third_party import ANSWER_OF_THE_OTHER_S, Failure, ThirdParty

from wherry_worker.engine.failures import Where
from wherry_worker.engine.gridftp_door import GridFtpDoor, door_error
from wherry_worker.engine.messages import CopyFiles, CopyItem, CopyPhase, ItemDone, Problem, Progress, Setup
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.parents import Parents
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.port import Halted, OnProgress, TaskFailed
from wherry_worker.engine.temporary import temporary_name
from wherry_worker.engine.verification import checksum_differs, size_differs, source_changed

NEEDED = ("MLST", "CKSM", "DCAU")
"""What both servers must offer; others are left to gfal2."""
_FILES_UNDER_WAY = 384
_BYTES_UNDER_WAY = 512 << 20
"""Beyond this only the file that moves and the one behind it: a pause finishes what has been begun."""
_FILES_SENDING = 128
_SUM_FIRST_BYTES = 64 << 20
"""Larger files are not read twice one after the other: their checksum is computed while they are sent."""
_LARGE_BYTES = 32 << 20
_STREAMS = 4
_TELL_BYTES = 4 << 20
"""Progress within a file is told of those that are at least so large; smaller ones come and go within a moment."""
_TELL_S = 1.0
_MOST_LOSSES = 3
_GENERATIONS = 1_000_000
"""Temporary names of a second try are numbered from here on, of a third from twice that: no name is used twice."""

Explain = Callable[[DoorError, Where], Problem]


@dataclass(slots=True, eq=False)
class _File:
    """A file on its way.

    Attributes:
        generation: how often its way began anew.
        left: temporary names under which something may lie.
    """

    item: CopyItem
    source: bytes
    final: bytes
    directory: str
    generation: int = 0
    began_s: float = 0.0
    found: Entry | None = None
    existing: Entry | None = None
    looked: int = 0
    at_source: str | None = None
    at_destination: str | None = None
    sent: bool = False
    temporary: bytes = b""
    left: list[bytes] = field(default_factory=list)


class PipelinedCopy:
    """One task of copying; see the module.

    Args:
        explain: says what an error means for people, as `failures.explain`.
    """

    def __init__(
        self,
        setup: Setup,
        source: GridFtpDoor,
        destination: GridFtpDoor,
        task: CopyFiles,
        explain: Explain,
        on_progress: OnProgress,
        halted: Halted,
    ) -> None:
        self._setup = setup
        self._doors = (source, destination)
        self._task = task
        self._explain = explain
        self._on_progress = on_progress
        self._halted = halted
        self._todo: deque[_File] = deque(self._file(item) for item in task.items)
        self._open: dict[int, _File] = {}
        self._open_bytes = 0
        self._to_send: deque[_File] = deque()
        self._ended: deque[ItemDone] = deque()
        self._losses = 0
        self._told_s = float("-inf")
        self._fatal: Problem | None = None
        self._names: tuple[Connection, Connection] | None = None
        self._parents: Parents | None = None
        self._pair: ThirdParty[int] | None = None

    def results(self) -> Iterator[ItemDone]:
        """Copies, yielding each file as it is in place or has failed.

        Raises:
            TaskFailed: what would happen to every further file.
            NotOffered: a server lacks something; nothing has been done.
        """
        self._open_names()
        try:
            while True:
                self._admit()
                if not self._open and not self._ended:
                    return
                self._go_on()
                while self._ended:
                    done = self._ended.popleft()
                    self._losses = 0
                    yield done
                if self._fatal is not None:
                    raise TaskFailed(self._fatal)
        finally:
            self._clean_up()

    # --- beginning ---

    def _file(self, item: CopyItem) -> _File:
        source, destination = self._doors
        final = join(self._task.destination_directory, item.destination_name)
        path = source.path(join(self._task.source_directory, item.source_name))
        return _File(item, path, destination.path(final), parent(final))

    def _admit(self) -> None:
        """Begins as many files as may be under way."""
        if self._fatal is not None:
            self._todo.clear()
        if self._halted():
            self._todo.clear()
            for file in self._to_send:
                self._close(file)
            self._to_send.clear()
        while self._todo and len(self._open) < _FILES_UNDER_WAY:
            if len(self._open) >= 2 and self._open_bytes + self._todo[0].item.size_bytes > _BYTES_UNDER_WAY:
                break
            self._begin(self._todo.popleft())
        self._send_more()

    def _begin(self, file: _File) -> None:
        file.began_s = file.began_s or time.monotonic()
        file.found = file.existing = file.at_source = file.at_destination = None
        file.looked, file.sent = 0, False
        self._open[file.item.index] = file
        self._open_bytes += file.item.size_bytes
        try:
            operations.stat(self._both()[0], file.source, lambda answer: self._seen_at_source(file, answer))
        except UnfitName as error:
            self._fail(file, door_error("stat", error), "source")
            return
        if self._parents is None:
            self._look_at_destination(file, None)
        else:
            self._parents.ensure(file.directory, lambda error: self._look_at_destination(file, error))

    # --- looking ---

    def _seen_at_source(self, file: _File, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self._fail(file, door_error("stat", answer), "source")
        elif answer is None:
            self._fail(file, DoorError("stat", 2, "No such file or directory"), "source")
        elif answer.kind != "file":
            self._fail(file, DoorError("stat", 21, "Is a directory"), "source")
        else:
            file.found = answer
            self._look_further(file)

    def _look_at_destination(self, file: _File, without_parent: DoorError | None) -> None:
        if without_parent is not None:
            self._fail(file, without_parent, "destination")
            return
        try:
            operations.stat(self._both()[1], file.final, lambda answer: self._seen_at_destination(file, answer))
        except UnfitName as error:
            self._fail(file, door_error("stat", error), "destination")

    def _seen_at_destination(self, file: _File, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self._fail(file, door_error("stat", answer), "destination")
            return
        file.existing = answer
        file.looked = 1
        self._look_further(file)

    def _look_further(self, file: _File) -> None:
        """Decides, once both ends have been looked at."""
        if not self._is_open(file) or file.found is None or not file.looked:
            return
        if file.existing is not None:
            if file.existing.kind != "file":
                self._fail(file, DoorError("stat", 21, "Is a directory"), "destination")
                return
            if file.existing.size_bytes == file.found.size_bytes:
                self._sum(file, "destination", file.final, self._compared)
                self._sum(file, "source", file.source, self._compared)
                return
        self._decide(file)

    def _compared(self, file: _File) -> None:
        """Both ends may have the same bytes already."""
        if file.at_source is None or file.at_destination is None:
            return
        if file.at_source == file.at_destination:
            self._end(file, ItemDone(file.item.index, _size(file), file.at_source, adopted=True))
        else:
            file.at_destination = None
            self._decide(file)

    def _decide(self, file: _File) -> None:
        if file.existing is not None and self._task.overwrite == "never":
            self._fail(file, DoorError("stat", 17, "File exists"), "destination")
        elif file.at_source is not None:
            self._queue(file)
        elif _size(file) <= _SUM_FIRST_BYTES:
            self._sum(file, "source", file.source, self._queue)
        else:
            self._sum(file, "source", file.source, self._verified)
            self._queue(file)

    def _sum(self, file: _File, side: Where, path: bytes, then: Callable[[_File], None]) -> None:
        generation = file.generation

        def take(answer: str | Refused) -> None:
            if not self._is_open(file) or file.generation != generation:
                return
            if isinstance(answer, Refused):
                self._fail(file, door_error("checksum", answer), side)
                return
            if side == "source":
                file.at_source = answer
            else:
                file.at_destination = answer
            then(file)

        connection = self._both()[0 if side == "source" else 1]
        patience_s = self._setup.checksum_timeout_s
        operations.checksum(connection, path, self._task.algorithm, take, patience_s=patience_s)

    # --- bytes ---

    def _queue(self, file: _File) -> None:
        if self._halted():
            self._close(file)
            return
        self._to_send.append(file)
        self._send_more()

    def _send_more(self) -> None:
        while self._to_send and not self._halted():
            pair = self._sending_pair(self._to_send[0])
            if pair is None or pair.failed or pair.load >= _FILES_SENDING:
                return
            file = self._to_send.popleft()
            number = file.item.index + file.generation * _GENERATIONS
            name = temporary_name(self._task.tag, self._task.fence, number)
            file.temporary = self._doors[1].path(join(file.directory, name))
            file.left.append(file.temporary)
            self._tell(file, "copying", 0)
            pair.submit(file.item.index, file.source, file.temporary)

    def _sending_pair(self, file: _File) -> ThirdParty[int] | None:
        """Returns the pair that sends bytes, opened when it is first needed."""
        if self._pair is None and self._fatal is None:
            source, destination = (door.connect(NEEDED) for door in self._doors)
            streams = _STREAMS if _size(file) >= _LARGE_BYTES else 1
            try:
                set_up(source, destination, DataChannel(streams=streams))
            except GridFtpError as error:
                source.close()
                destination.close()
                raise door_error("copy", error) from error
            patience_s = float(self._setup.marker_timeout_s)
            self._pair = ThirdParty(source, destination, self._sent, self._moved, patience_s=patience_s)
        return self._pair

    def _moved(self, index: int, markers: Markers) -> None:
        if (file := self._open.get(index)) is not None:
            self._tell(file, "copying", markers.bytes)

    def _tell(self, file: _File, phase: CopyPhase, count: int) -> None:
        """Tells how far a file is: a large one, or one a second of the small ones."""
        now_s = time.monotonic()
        if _size(file) >= _TELL_BYTES or len(self._open) == 1 or now_s >= self._told_s + _TELL_S:
            self._told_s = now_s
            self._on_progress(Progress(file.item.index, phase, count))

    def _sent(self, index: int) -> None:
        file = self._open[index]
        file.sent = True
        self._tell(file, "verifying", _size(file))
        operations.stat(self._both()[1], file.temporary, lambda answer: self._arrived(file, answer))
        self._sum(file, "destination", file.temporary, self._verified)

    # --- verifying ---

    def _arrived(self, file: _File, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self._fail(file, door_error("stat", answer), "destination")
        elif answer is None or answer.size_bytes != _size(file):
            self._differs(file, size_differs(_size(file), -1 if answer is None else answer.size_bytes))

    def _verified(self, file: _File) -> None:
        if not self._is_open(file) or not file.sent or file.at_source is None or file.at_destination is None:
            return
        if file.at_source != file.at_destination:
            self._differs(file, checksum_differs(self._task.algorithm, file.at_source, file.at_destination))
        elif file.existing is None and self._task.overwrite == "never":
            operations.stat(self._both()[1], file.final, lambda answer: self._seen_again(file, answer))
        else:
            self._put_in_place(file)

    def _differs(self, file: _File, problem: Problem) -> None:
        """Says whether that is because the source was written to."""

        def look(answer: Entry | Refused | None) -> None:
            same = isinstance(answer, Entry) and (answer.size_bytes, answer.modify_time_s) == (
                _size(file),
                file.found.modify_time_s if file.found else 0,
            )
            self._give_up(file, problem if same else source_changed())

        if self._is_open(file):
            operations.stat(self._both()[0], file.source, look)

    def _seen_again(self, file: _File, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self._fail(file, door_error("stat", answer), "destination")
        elif answer is not None:
            self._fail(file, DoorError("stat", 17, "File exists"), "destination")
        else:
            self._put_in_place(file)

    def _put_in_place(self, file: _File) -> None:
        def take(answer: Refused | None) -> None:
            if answer is not None:
                self._fail(file, door_error("rename", answer), "destination")
                return
            file.left.remove(file.temporary)
            self._end(file, ItemDone(file.item.index, _size(file), file.at_source or ""))

        if self._is_open(file):
            operations.rename(self._both()[1], file.temporary, file.final, take)

    # --- ending ---

    def _is_open(self, file: _File) -> bool:
        return self._open.get(file.item.index) is file

    def _fail(self, file: _File, error: DoorError, where: Where) -> None:
        self._give_up(file, self._explain(error, where))

    def _give_up(self, file: _File, problem: Problem) -> None:
        if not self._is_open(file):
            return
        if problem.stops:
            self._fatal = self._fatal or problem
        self._end(file, ItemDone(file.item.index, problem=problem))

    def _end(self, file: _File, done: ItemDone) -> None:
        if not self._is_open(file):
            return
        self._close(file)
        took_s = time.monotonic() - file.began_s
        if done.problem is None or not done.problem.stops:
            self._ended.append(replace(done, duration_s=took_s))
        for path in file.left:
            operations.remove(self._both()[1], path, lambda answer: None)

    def _close(self, file: _File) -> None:
        if self._open.pop(file.item.index, None) is not None:
            self._open_bytes -= file.item.size_bytes

    # --- going on, over losses ---

    def _both(self) -> tuple[Connection, Connection]:
        if self._names is None:
            raise LookupError("no connections for names")
        return self._names

    def _open_names(self) -> None:
        source, destination = (door.connect(NEEDED) for door in self._doors)
        self._names = source, destination
        self._parents = Parents(destination, self._doors[1]) if self._task.make_parents else None

    def _go_on(self) -> None:
        """Moves everything on until something has come of it."""
        names = self._both()
        pair = self._pair
        every = [*names, *pair.connections.values()] if pair is not None else list(names)

        def news() -> bool:
            failed = self._pair is not None and self._pair.failed
            return bool(self._ended) or failed or not self._open or self._pair is not pair or self._fatal is not None

        try:
            pump(every, news, within_s=1.0)
            if pair is not None and pair.failed:
                pump(every, pair.both_have_spoken, within_s=ANSWER_OF_THE_OTHER_S)
        except Broken as broken:
            if broken.connection in names:
                self._begin_anew(broken.cause)
            else:
                self._pair_lost(broken.cause)
            return
        if pair is not None and pair.failed:
            self._pair_failed(pair, pair.failure())

    def _pair_failed(self, pair: ThirdParty[int], failure: Failure[int] | None) -> None:
        """Charges a refusal to its file, and has the others sent over another pair."""
        if failure is None or failure.side is None:
            text = "the data channel broke" if failure is None else failure.reply.text
            self._pair_lost(ConnectionLost(text))
            return
        file = self._open[failure.key]
        self._resend(pair, but=failure.key)
        self._fail(file, door_error("copy", Refused(failure.reply)), failure.side)

    def _pair_lost(self, cause: ConnectionLost) -> None:
        """A lost connection is charged to no file."""
        self._losses += 1
        pair = self._pair
        if pair is not None:
            self._resend(pair)
        if self._losses >= _MOST_LOSSES:
            self._fatal = self._explain(door_error("copy", cause), "transfer")

    def _resend(self, pair: ThirdParty[int], but: int | None = None) -> None:
        pair.close()
        self._pair = None
        again = [self._open[index] for index in pair.unconfirmed() if index != but and index in self._open]
        for file in again:
            file.generation += 1
            file.at_destination = None
            if file.at_source is None:
                self._sum(file, "source", file.source, self._verified)  # the answer of the old generation is dropped
        self._to_send.extendleft(reversed(again))

    def _begin_anew(self, cause: ConnectionLost) -> None:
        """A connection for names is lost: what is not in place begins again from its first step."""
        self._losses += 1
        if self._losses >= _MOST_LOSSES:
            self._fatal = self._explain(door_error("stat", cause), "transfer")
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        for connection in self._both():
            connection.close()
        again = sorted(self._open.values(), key=lambda file: file.item.index)
        self._open.clear()
        self._to_send.clear()
        self._open_bytes = 0
        for file in again:
            file.generation += 1
        self._todo.extendleft(reversed(again))
        if self._fatal is None:
            self._open_names()

    def _clean_up(self) -> None:
        """Stops what moves and removes what it has left."""
        if self._pair is not None:
            self._pair.close()
        left = [path for file in self._open.values() for path in file.left]
        names, self._names = self._names, None
        if names is None:
            return
        try:
            for path in left:
                operations.remove(names[1], path, lambda answer: None)
            pump([names[1]], lambda: not names[1].busy, within_s=10.0)
        except (Broken, GridFtpError):
            pass  # the next attempt looks for them
        finally:
            for connection in names:
                connection.close()


def _size(file: _File) -> int:
    return file.item.size_bytes if file.found is None else file.found.size_bytes
