"""Reads the files of a job, one by one, out of its chunks. What a page costs does not depend on the job's size.

States follow from bitmaps and failures alone; only what is on the page is given out with its payload, for the servicer
to open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.job_files import ChunkPart, Cursor, FilePage, FileState, LeftOut, StoredFailure, kinds_in, states_in
from wherry_queue.models import Attempt, EntryFailure, Task
from wherry_queue.states import CHUNKS, WALKS
from wherry_queue.store.reading import job_id_of

_FIRST = 8
"""Tasks looked at first; four times as many then, up to `_MOST`, as long as the page is not full."""
_MOST = 512
LOOKED_AT = 4_000
"""So many tasks a request looks at; then there is a page, however short."""
_FAILURES = 2_000
"""So many failures a request for failed files looks at to find their tasks."""

_NOTED = {FileState.FAILED: False, FileState.SKIPPED: True}
"""What has rows among the failures: whether these are of skipped entries."""
_FACTS = (Task.id, Task.kind, Task.state, Task.entry_count, Task.settled, Task.files_failed)


def list_files(
    connection: Connection, user: str, uid: str, after: Cursor, limit: int, states: Collection[FileState] = ()
) -> FilePage:
    """Returns files of a job in the order in which they were found; raises JobNotFound.

    A page may hold less than `limit` files though more follow.
    """
    job_id = job_id_of(connection, user, uid)
    reader = _Reader(connection, job_id, after, limit, frozenset(states))
    step, looked_at = _FIRST, 0
    while looked_at < LOOKED_AT:
        tasks, next_id = reader.tasks(step)
        reader.take(tasks)
        if reader.next is not None:
            break
        if next_id is None:
            return FilePage(reader.parts(), None)
        reader.after = Cursor(next_id)
        looked_at += step
        step = min(step * 4, _MOST)
    return FilePage(reader.parts(), reader.next or reader.after)


class _Reader:
    """Fills one page.

    Attributes:
        after: where it goes on.
        next: where the next page begins, once this one is full.
    """

    def __init__(
        self, connection: Connection, job_id: int, after: Cursor, limit: int, states: frozenset[FileState]
    ) -> None:
        self.after = after
        self.next: Cursor | None = None
        self._connection = connection
        self._job_id = job_id
        self._room = limit
        self._states = states or frozenset(FileState)
        self._found: list[_Files | LeftOut] = []

    def tasks(self, count: int) -> tuple[Sequence[Any], int | None]:
        """Returns the next tasks, and the least id of those behind them; None: there are none."""
        query = sa.select(*_FACTS).where(Task.job_id == self._job_id)
        if self._states <= {FileState.FAILED, FileState.SKIPPED}:
            ids, next_id = self._noted_tasks(count)
            return self._connection.execute(query.where(Task.id.in_(ids)).order_by(Task.id)).all(), next_id
        query = query.where(Task.id >= self.after.task_id).order_by(Task.id).limit(count + 1)
        rows = self._connection.execute(query).all()
        return rows[:count], rows[count].id if len(rows) > count else None

    def _noted_tasks(self, count: int) -> tuple[Sequence[int], int | None]:
        """Returns the next tasks of which something failed or was skipped: each such file has a row, of its own or of
        its task."""
        noted = (
            sa.select(EntryFailure.task_id)
            .where(EntryFailure.job_id == self._job_id, EntryFailure.task_id >= self.after.task_id)
            .order_by(EntryFailure.task_id)
            .limit(_FAILURES)
        )
        found: set[int] = set()
        ends: list[int] = []
        for skipped in self._noted():  # each by itself, as their index has them
            rows = self._connection.execute(noted.where(EntryFailure.skipped == skipped)).scalars().all()
            found.update(rows)
            if len(rows) == _FAILURES:
                ends.append(rows[-1])
        # Behind the end of either there may be more of it. Of the task at the end not all may have been among them, but
        # it is there; the next is behind it.
        end = min(ends, default=None)
        ids = sorted(task_id for task_id in found if end is None or task_id <= end)
        if len(ids) > count:
            return ids[:count], ids[count]
        return ids, None if end is None else end + 1

    def take(self, tasks: Sequence[Any]) -> None:
        """Takes what belongs on the page of some tasks."""
        failed = self._failed([task for task in tasks if task.kind in CHUNKS and task.files_failed])
        left_out = self._left_out([task for task in tasks if task.kind in WALKS])
        for task in tasks:
            if task.kind in WALKS:
                self._take_left_out(task.id, left_out.get(task.id, ()))
            elif task.kind in CHUNKS:
                self._take_chunk(task, failed.get(task.id, set()))
            if self.next is not None:
                return

    def _take_chunk(self, task: Any, failed: Collection[int]) -> None:
        if kinds_in(task, failed).isdisjoint(self._states):
            return
        first = self.after.index if task.id == self.after.task_id else 0
        files: list[tuple[int, FileState]] = []
        for index, state in enumerate(states_in(task, failed)):
            if index < first or state not in self._states:
                continue
            if not self._room:
                self.next = Cursor(task.id, index)
                break
            files.append((index, state))
            self._room -= 1
        if files:
            self._found.append(_Files(task.id, files))

    def _take_left_out(self, task_id: int, rows: Sequence[Any]) -> None:
        after_id = self.after.index if task_id == self.after.task_id else 0
        for row in rows:
            if not self._room:
                self.next = Cursor(task_id, after_id)
                return
            state = FileState.SKIPPED if row.skipped else FileState.FAILED
            self._found.append(LeftOut(task_id, row.id, _stored(row), state))
            self._room -= 1
            after_id = row.id

    def _failed(self, chunks: Sequence[Any]) -> dict[int, set[int]]:
        """Returns the places of the files that failed by themselves, by chunk."""
        found: dict[int, set[int]] = {}
        if chunks:
            places = sa.select(EntryFailure.task_id, EntryFailure.entry_index)
            ids = [task.id for task in chunks]
            for row in self._connection.execute(places.where(EntryFailure.task_id.in_(ids))):
                found.setdefault(row.task_id, set()).add(row.entry_index)
        return found

    def _left_out(self, walks: Sequence[Any]) -> dict[int, list[Any]]:
        """Returns the files that walks could not put into chunks, by walk, no more than fit and one."""
        ids = [task.id for task in walks]
        if not ids or not self._noted():
            return {}
        seen = sa.and_(EntryFailure.task_id == self.after.task_id, EntryFailure.id <= self.after.index)
        query = (
            sa.select(EntryFailure.__table__)
            .where(EntryFailure.task_id.in_(ids), EntryFailure.entry_index >= 0, ~seen)
            .where(EntryFailure.skipped.in_(self._noted()))
            .order_by(EntryFailure.task_id, EntryFailure.id)
            .limit(self._room + 1)
        )
        found: dict[int, list[Any]] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.task_id, []).append(row)
        return found

    def _noted(self) -> list[bool]:
        """Returns which of the failures' rows are wanted, by whether they are skipped."""
        return [skipped for state, skipped in _NOTED.items() if state in self._states]

    def parts(self) -> list[ChunkPart | LeftOut]:
        """Returns what is on the page, with what has to be opened for it."""
        chunks = [found for found in self._found if isinstance(found, _Files)]
        packed = self._packed([chunk.task_id for chunk in chunks])
        results = self._results([chunk.task_id for chunk in chunks if chunk.has(FileState.DONE)])
        failures = self._failures([chunk.task_id for chunk in chunks if chunk.has(FileState.FAILED)])
        parts: list[ChunkPart | LeftOut] = []
        for found in self._found:
            if isinstance(found, LeftOut):
                parts.append(found)
            elif (row := packed.get(found.task_id)) is not None:  # else it was swept away just now
                parts.append(
                    ChunkPart(
                        found.task_id,
                        row.source_path,
                        row.destination_path,
                        row.payload or b"",
                        results.get(found.task_id, ()),
                        found.files,
                        failures.get(found.task_id, {}),
                        row.extraneous,
                    )
                )
        return parts

    def _packed(self, ids: Sequence[int]) -> dict[int, Any]:
        if not ids:
            return {}
        columns = (Task.id, Task.source_path, Task.destination_path, Task.payload, Task.extraneous)
        query = sa.select(*columns).where(Task.id.in_(ids))
        return {row.id: row for row in self._connection.execute(query)}

    def _results(self, ids: Sequence[int]) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        if ids:
            query = (
                sa.select(Attempt.task_id, Attempt.results)
                .where(Attempt.task_id.in_(ids), Attempt.results.is_not(None))
                .order_by(Attempt.task_id, Attempt.fence)
            )
            for row in self._connection.execute(query):
                found.setdefault(row.task_id, []).append(row.results)
        return found

    def _failures(self, ids: Sequence[int]) -> dict[int, dict[int, StoredFailure]]:
        found: dict[int, dict[int, StoredFailure]] = {}
        if ids:
            query = sa.select(EntryFailure.__table__).where(EntryFailure.task_id.in_(ids))
            for row in self._connection.execute(query.order_by(EntryFailure.id)):
                found.setdefault(row.task_id, {})[row.entry_index] = _stored(row)
        return found


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of a chunk on the page: places and states."""

    task_id: int
    files: Sequence[tuple[int, FileState]]

    def has(self, state: FileState) -> bool:
        return any(its_state is state for _, its_state in self.files)


def _stored(row: Any) -> StoredFailure:
    return StoredFailure(row.path, row.size_bytes, row.failure)
