"""Does again what failed or was left undone of a job that has ended: the same tasks, opened once more.

What is done stays done: a chunk keeps the bits of the entries that are, a walk goes on behind its cursor. Files that a
walk could not even put into a chunk, since something stood in their way, become chunks of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue import bitmap
from wherry_queue.jobs import JobExpired, JobNotEnded, JobNotFound, NewTask, NothingToRetry
from wherry_queue.models import EntryFailure, Job, Link, Site, Task, User
from wherry_queue.states import CHUNKS, DIRECTORY_WORK, WALKS, Hold, TaskKind, TaskState, WorkClass
from wherry_queue.store import banning
from wherry_queue.store.lanes import add_pending, lock, set_hold
from wherry_queue.store.submission import insert_tasks

_TASK: Any = Task.__table__
_SOURCE = sa.orm.aliased(Site)
_DESTINATION = sa.orm.aliased(Site)
_FILES_BLOCKED = frozenset({"DESTINATION_EXISTS", "DESTINATION_IS_A_DIRECTORY"})
"""Why a walk leaves files out that it could copy if what is in their way were gone."""
_DIRECTORIES_BLOCKED = frozenset({"DESTINATION_NOT_A_DIRECTORY"})
"""The same of directories."""
_FILES = 100
"""In a chunk, as workers make them."""
_REOPENED = (TaskState.FAILED, TaskState.CANCELLED)
_COLUMNS = (
    Task.id, Task.kind, Task.state, Task.phase, Task.settled, Task.files_failed, Task.bytes_failed, Task.lane_id,
    Task.extraneous,
)  # fmt: skip
_REOPEN = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"))
    .values(
        state=sa.bindparam("new_state"),
        settled=sa.bindparam("new_settled"),
        files_failed=0,
        bytes_failed=0,
        tries=0,
        lapses=0,
        not_before_ms=None,
        refused_until_ms=0,
        failure=None,
    )
)

Pack = Callable[[Sequence[tuple[bytes, bytes, int]]], bytes]
"""Packs files, as (name, name at the destination or nothing if it is the same, size in bytes), into a payload."""


def retry(connection: Connection, user: str, uid: str, pack: Pack) -> int:
    """Opens a user's ended job again; returns its id.

    Raises:
        JobNotFound: there is none of theirs.
        UserSuspended, SiteSuspended: an operator has banned the user or a site.
        JobExpired: parts of it have been deleted already.
        JobNotEnded: tasks of it are open still.
        NothingToRetry: all of it is done, or it is a dry run, which is made anew as well.
    """
    job = _own(connection, user, uid)
    lanes = lock(connection, job.id)
    job = _own(connection, user, uid)
    if job.expired:
        raise JobExpired(job=uid)
    if job.tasks_open:
        raise JobNotEnded(job=uid)
    if job.dry_run:
        raise NothingToRetry(job=uid)
    banning.check(connection, user, [job.source, job.destination])
    tasks = connection.execute(
        sa.select(*_COLUMNS).where(Task.job_id == job.id, Task.state.in_(_REOPENED)).order_by(Task.id)
    ).all()
    left_out, stays_failed = _left_out_by_walks(connection, job.id)
    if stays_failed:
        # Then nothing that only the destination has is removed, now as before.
        tasks = [task for task in tasks if not task.extraneous]
    if not tasks and not left_out:
        raise NothingToRetry(job=uid)
    lane_id = lanes[0].id
    phase = 0 if left_out else min(task.phase for task in tasks)
    failed_bits = _take_failures(connection, tasks)
    if tasks:
        connection.execute(_REOPEN, [_reopened(task, phase, failed_bits.get(task.id, ())) for task in tasks])
    again = [*_walks_of(left_out), *_chunks_of(left_out, pack)]
    _forget(connection, left_out)
    made = insert_tasks(connection, job.id, lane_id, again).ready
    ready = [task.id for task in tasks if task.phase == phase] + made
    set_hold(connection, [job.id], remove=Hold.CANCELLED | Hold.PAUSED | Hold.SIGN_IN | Hold.TOO_SHORT)
    add_pending(connection, {lane_id: ready})
    _count(connection, job.id, tasks, again, left_out, phase=phase, ready=len(ready))
    return int(job.id)


def _own(connection: Connection, user: str, uid: str) -> Any:
    row = connection.execute(
        sa.select(
            Job.id,
            Job.tasks_open,
            Job.expired,
            Job.dry_run,
            _SOURCE.name.label("source"),
            _DESTINATION.name.label("destination"),
        )
        .join(User, User.id == Job.user_id)
        .join(Link, Link.id == Job.link_id)
        .join(_SOURCE, _SOURCE.id == Link.source_id)
        .join(_DESTINATION, _DESTINATION.id == Link.destination_id)
        .where(Job.uid == uid, User.name == user, Job.work_class == WorkClass.BULK)
    ).one_or_none()
    if row is None:
        raise JobNotFound(job=uid)
    return row


def _left_out_by_walks(connection: Connection, job_id: int) -> tuple[Sequence[Any], bool]:
    """Returns the failures of what walks of a copy found and something stood in the way of, with their walks; and
    whether there are others.

    What else they left out (links, devices, names that the protocol cannot carry) stays failed: it would be again.
    """
    rows = connection.execute(
        sa.select(
            EntryFailure.id, EntryFailure.path, EntryFailure.size_bytes, EntryFailure.task_id, EntryFailure.failure,
            Task.source_path, Task.destination_path, Task.depth, Task.root, Task.root_length,
        )
        .join(Task, Task.id == EntryFailure.task_id)
        .where(EntryFailure.job_id == job_id, EntryFailure.entry_index >= 0, Task.kind == TaskKind.WALK_COPY)
        .where(~EntryFailure.skipped)
        .order_by(EntryFailure.task_id, EntryFailure.id)
    ).all()  # fmt: skip
    again = [row for row in rows if row.failure.get("reason") in _FILES_BLOCKED | _DIRECTORIES_BLOCKED]
    return again, len(again) < len(rows)


def _take_failures(connection: Connection, tasks: Sequence[Any]) -> dict[int, list[int]]:
    """Deletes what was recorded of the failures of tasks; returns the places of the entries that failed, by task."""
    found: dict[int, list[int]] = {}
    ids = [task.id for task in tasks]
    whole = [task.id for task in tasks if task.kind in WALKS]
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        walks = [task_id for task_id in some if task_id in set(whole)]
        rows = connection.execute(
            sa.delete(EntryFailure)
            # What a walk left out is not its own failure, which has no place.
            .where(EntryFailure.task_id.in_(some))
            .where(sa.or_(EntryFailure.task_id.not_in(walks), EntryFailure.entry_index < 0))
            .returning(EntryFailure.task_id, EntryFailure.entry_index)
        )
        for row in rows:
            if row.entry_index >= 0:
                found.setdefault(row.task_id, []).append(row.entry_index)
    return found


def _reopened(task: Any, phase: int, failed: Iterable[int]) -> dict[str, Any]:
    settled = bitmap.without(task.settled, failed) if task.kind in CHUNKS else task.settled
    state = TaskState.READY if task.phase == phase else TaskState.BLOCKED
    return {"task": task.id, "new_state": state, "new_settled": settled or None}


def _walks_of(left_out: Sequence[Any]) -> list[NewTask]:
    """Makes walks of the directories in whose place something else stood."""
    return [
        NewTask(
            TaskKind.WALK_COPY,
            row.path,
            row.destination_path.rstrip(b"/") + b"/" + row.path.rpartition(b"/")[2],
            depth=row.depth + 1,
            root_length=len(row.source_path) if row.root else row.root_length,
        )
        for row in left_out
        if _is_directory(row)
    ]


def _is_directory(row: Any) -> bool:
    return row.failure.get("reason") in _DIRECTORIES_BLOCKED


def _chunks_of(left_out: Sequence[Any], pack: Pack) -> list[NewTask]:
    """Makes chunks of the files that walks left out."""
    by_walk: dict[int, list[Any]] = {}
    for row in left_out:
        if row.failure.get("reason") in _FILES_BLOCKED:
            by_walk.setdefault(row.task_id, []).append(row)
    made: list[NewTask] = []
    for rows in by_walk.values():
        for start in range(0, len(rows), _FILES):
            some = rows[start : start + _FILES]
            made.append(
                NewTask(
                    TaskKind.COPY_FILES,
                    *_directories(some[0]),
                    depth=some[0].depth,
                    payload=pack([(*_names(row), row.size_bytes) for row in some]),
                    entry_count=len(some),
                    total_bytes=sum(row.size_bytes for row in some),
                )
            )
    return made


def _forget(connection: Connection, left_out: Sequence[Any]) -> None:
    """Deletes failures of what is tried again."""
    ids = [row.id for row in left_out]
    for start in range(0, len(ids), 500):
        connection.execute(sa.delete(EntryFailure).where(EntryFailure.id.in_(ids[start : start + 500])))


def _directories(row: Any) -> tuple[bytes, bytes]:
    """Returns the directories of what a walk left out: its own, or where it was a file itself, those that hold it."""
    if row.path != row.source_path:
        return row.source_path, row.destination_path
    return row.source_path.rpartition(b"/")[0] or b"/", row.destination_path.rpartition(b"/")[0] or b"/"


def _names(row: Any) -> tuple[bytes, bytes]:
    """Returns the names of a file at the source and, if that is another, at the destination."""
    name = row.path.rpartition(b"/")[2]
    other = row.destination_path.rpartition(b"/")[2] if row.path == row.source_path else name
    return name, b"" if other == name else other


def _count(
    connection: Connection,
    job_id: int,
    tasks: Sequence[Any],
    again: Sequence[NewTask],
    left_out: Sequence[Any],
    *,
    phase: int,
    ready: int,
) -> None:
    """Takes what is tried again out of what had failed, and counts it as open."""
    states = Counter(task.state for task in tasks)
    failed = [task for task in tasks if task.state == TaskState.FAILED]
    copied = [task for task in tasks if not task.extraneous]
    directories = sum(task.kind in WALKS | DIRECTORY_WORK for task in failed if not task.extraneous)
    remaining = sa.select(EntryFailure.failure).where(EntryFailure.job_id == job_id, ~EntryFailure.skipped)
    failure = connection.execute(remaining.order_by(EntryFailure.id).limit(1)).scalar_one_or_none()
    found_again = sum(task.kind in WALKS for task in again)
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            cancelled=False,
            ended_ms=None,
            phase=phase,
            phase_open=ready,
            tasks_open=len(tasks) + len(again),
            tasks_failed=sa.case((sa.literal(failure is None), 0), else_=Job.tasks_failed - states[TaskState.FAILED]),
            tasks_cancelled=Job.tasks_cancelled - states[TaskState.CANCELLED],
            walks_open=sum(task.kind in WALKS and task.phase == phase for task in (*tasks, *again)),
            # What a walk left out was counted as a file.
            files_total=Job.files_total - found_again,
            bytes_total=Job.bytes_total - sum(row.size_bytes for row in left_out if _is_directory(row)),
            directories_total=Job.directories_total + found_again,
            files_failed=Job.files_failed - sum(task.files_failed for task in copied) - len(left_out),
            bytes_failed=Job.bytes_failed
            - sum(task.bytes_failed for task in copied)
            - sum(row.size_bytes for row in left_out),
            directories_failed=Job.directories_failed - directories,
            failure=failure,
        )
    )
