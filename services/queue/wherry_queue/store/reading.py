"""Reads jobs, tasks, attempts and failures for their owners. Lists go by key, never by offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import JobNotFound, TaskNotFound
from wherry_queue.models import Attempt, EntryFailure, Job, JobProgress, ListingChunk, Task, User
from wherry_queue.states import TaskState, WorkClass

_SHOWN = (
    Task.id, Task.kind, Task.state, Task.source_path, Task.destination_path, Task.entry_count, Task.total_bytes,
    Task.attempt_count, Task.failure, Task.phase,
)  # fmt: skip
"""What owners see of a task; its payload is large and not among it."""
PROGRESS_LIFE_MS = 15_000
"""A replica that has not written a job's progress for so long moves nothing of it."""
_ATTEMPTS = 200
_LISTING_CHUNKS = 8
"""Of up to 5,000 entries each; a slow reader must not make us hold a whole large listing."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it.

    Attributes:
        row: `models.Job`'s columns.
        bytes_moving, bytes_per_second: of the tasks that run now.
        retry_ms: when the next delayed task is due, if nothing runs and nothing is ready.
    """

    row: Any
    owner: str
    bytes_moving: int
    bytes_per_second: float
    now_ms: int
    retry_ms: int | None


def job_id_of(connection: Connection, user: str, uid: str) -> int:
    """Returns a job's id; raises JobNotFound unless it is the user's."""
    found = connection.execute(
        sa.select(Job.id).join(User, User.id == Job.user_id).where(Job.uid == uid, User.name == user)
    ).scalar_one_or_none()
    if found is None:
        raise JobNotFound(job=uid)
    return int(found)


def view_job(connection: Connection, user: str, uid: str) -> JobView:
    """Returns a user's job; raises JobNotFound."""
    return view_jobs(connection, user, [job_id_of(connection, user, uid)])[0]


def list_jobs(connection: Connection, user: str, before_id: int | None, limit: int) -> list[JobView]:
    """Returns a user's jobs, newest first, older than `before_id`. Listings are no jobs to them."""
    query = (
        sa.select(Job.id)
        .join(User, User.id == Job.user_id)
        .where(User.name == user, Job.work_class == WorkClass.BULK)
        .order_by(Job.id.desc())
        .limit(limit)
    )
    if before_id is not None:
        query = query.where(Job.id < before_id)
    return view_jobs(connection, user, list(connection.execute(query).scalars()))


def view_jobs(connection: Connection, user: str, ids: Sequence[int]) -> list[JobView]:
    """Returns jobs by id, newest first."""
    now_ms = database_now_ms(connection)
    moving = {
        row.job_id: row
        for row in connection.execute(
            sa.select(
                JobProgress.job_id,
                sa.func.sum(JobProgress.bytes_moving).label("moving"),
                sa.func.sum(JobProgress.bytes_per_second).label("rate"),
            )
            .where(JobProgress.job_id.in_(ids), JobProgress.measured_ms > now_ms - PROGRESS_LIFE_MS)
            .group_by(JobProgress.job_id)
        )
    }
    rows = connection.execute(sa.select(Job.__table__).where(Job.id.in_(ids)).order_by(Job.id.desc())).all()
    retries = _retries_ms(connection, [row.id for row in rows if row.tasks_open and not row.tasks_running])
    views = []
    for row in rows:
        progress = moving.get(row.id) if row.tasks_running else None
        views.append(
            JobView(
                row,
                user,
                min(int(progress.moving), row.bytes_total - row.bytes_done - row.bytes_failed) if progress else 0,
                float(progress.rate) if progress else 0.0,
                now_ms,
                retries.get(row.id),
            )
        )
    return views


def _retries_ms(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Returns when the next delayed task of each job is due."""
    if not ids:
        return {}
    query = (
        sa.select(Task.job_id, sa.func.min(Task.not_before_ms).label("due_ms"))
        .where(Task.job_id.in_(ids), Task.state == TaskState.DELAYED)
        .group_by(Task.job_id)
    )
    return {row.job_id: row.due_ms for row in connection.execute(query)}


def list_tasks(connection: Connection, user: str, uid: str, after_id: int, limit: int) -> list[Any]:
    """Returns a job's tasks in the order they were made, behind `after_id`; raises JobNotFound."""
    job_id = job_id_of(connection, user, uid)
    query = sa.select(*_SHOWN).where(Task.job_id == job_id, Task.id > after_id).order_by(Task.id).limit(limit)
    return list(connection.execute(query))


def get_task(connection: Connection, user: str, uid: str, task_id: int) -> Any:
    """Returns a task; raises JobNotFound or TaskNotFound."""
    job_id = job_id_of(connection, user, uid)
    row = connection.execute(sa.select(*_SHOWN).where(Task.job_id == job_id, Task.id == task_id)).one_or_none()
    if row is None:
        raise TaskNotFound(task=str(task_id))
    return row


def list_attempts(connection: Connection, user: str, uid: str, task_id: int) -> list[Any]:
    """Returns a task's settled attempts, oldest first, at most the last 200; raises as `get_task`."""
    get_task(connection, user, uid, task_id)
    columns = (Attempt.worker, Attempt.outcome, Attempt.failure, Attempt.log, Attempt.ended_ms)
    query = sa.select(*columns).where(Attempt.task_id == task_id).order_by(Attempt.id.desc()).limit(_ATTEMPTS)
    return list(connection.execute(query))[::-1]


def list_failures(connection: Connection, user: str, uid: str, after_id: int, limit: int) -> list[Any]:
    """Returns a job's failures in the order they were recorded, behind `after_id`; raises JobNotFound."""
    job_id = job_id_of(connection, user, uid)
    query = (
        sa.select(EntryFailure.__table__)
        .where(EntryFailure.job_id == job_id, EntryFailure.id > after_id)
        .order_by(EntryFailure.id)
        .limit(limit)
    )
    return list(connection.execute(query))


def listing_after(connection: Connection, job_id: int, after_id: int) -> tuple[list[tuple[int, bytes]], Any]:
    """Returns some of a listing's chunks behind `after_id` as (id, packed entries), and its task's row.

    Read in this order: when the task has ended and no chunks come, there are none to come.
    """
    task = connection.execute(sa.select(Task.__table__).where(Task.job_id == job_id)).one()
    rows = connection.execute(
        sa.select(ListingChunk.id, ListingChunk.payload)
        .where(ListingChunk.job_id == job_id, ListingChunk.id > after_id)
        .order_by(ListingChunk.id)
        .limit(_LISTING_CHUNKS)
    )
    return [(row.id, row.payload) for row in rows], task
