"""Clears away what is old, a little at a time: no transaction here holds a lock for long."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Attempt, AuditEntry, EntryFailure, Job, JobProgress, Lane, ListingChunk, Task
from wherry_queue.states import WorkClass
from wherry_queue.store.lanes import lock

_JOBS = 200
_TASKS = 1000
"""Deleted in one transaction, with their attempts and failures."""
_CHUNKS = 200
"""Of listings, deleted in one transaction: they may be large, and one listing may have thousands."""


def sweep_listings(connection: Connection, age_ms: int) -> int:
    """Deletes listings that ended `age_ms` ago, a few at a time; returns how many."""
    return _sweep(connection, WorkClass.INTERACTIVE, age_ms)


def sweep_jobs(connection: Connection, age_ms: int) -> int:
    """Deletes jobs that ended `age_ms` ago, or parts of large ones; returns how many things. 0: nothing is left."""
    return _sweep(connection, WorkClass.BULK, age_ms)


def sweep_audit(connection: Connection, age_ms: int) -> None:
    """Deletes what operators did `age_ms` ago and earlier."""
    connection.execute(sa.delete(AuditEntry).where(AuditEntry.at_ms < database_now_ms(connection) - age_ms))


def _sweep(connection: Connection, work_class: WorkClass, age_ms: int) -> int:
    limit_ms = database_now_ms(connection) - age_ms
    old = sa.select(Job.id).where(Job.work_class == work_class, Job.ended_ms < limit_ms)
    found = connection.execute(old.order_by(Job.ended_ms).limit(_JOBS)).scalars().all()
    if not found:
        return 0
    # Whoever opens a job again locks its lane first; what has been opened since it was found is left alone.
    lock(connection, *found)
    jobs = connection.execute(old.where(Job.id.in_(found))).scalars().all()
    if more := empty(connection, jobs):
        # What is left of them may be less than they were: it cannot be opened again.
        connection.execute(sa.update(Job).where(Job.id.in_(jobs)).values(expired=True))
        return more
    connection.execute(sa.delete(Job).where(Job.id.in_(jobs)))
    return len(jobs)


def empty(connection: Connection, jobs: Sequence[int]) -> int:
    """Deletes what there is of jobs beside their own rows, or a part of it; the caller has locked their lanes.

    Returns how much, where there may be more; 0: all of it has gone.
    """
    tasks = (
        connection.execute(sa.select(Task.id).where(Task.job_id.in_(jobs)).order_by(Task.id).limit(_TASKS))
        .scalars()
        .all()
    )
    if tasks:
        _delete_tasks(connection, tasks)
    if len(tasks) == _TASKS:
        return len(tasks)
    connection.execute(sa.delete(EntryFailure).where(EntryFailure.job_id.in_(jobs)))
    # After the tasks: a listing whose task is there is believed to be whole.
    chunks = connection.execute(sa.select(ListingChunk.id).where(ListingChunk.job_id.in_(jobs)).limit(_CHUNKS))
    if listed := chunks.scalars().all():
        connection.execute(sa.delete(ListingChunk).where(ListingChunk.id.in_(listed)))
    if len(listed) == _CHUNKS:
        return len(listed)
    connection.execute(sa.delete(JobProgress).where(JobProgress.job_id.in_(jobs)))
    connection.execute(sa.delete(Lane).where(Lane.job_id.in_(jobs)))
    return 0


def _delete_tasks(connection: Connection, tasks: Sequence[int]) -> None:
    connection.execute(sa.delete(Attempt).where(Attempt.task_id.in_(tasks)))
    connection.execute(sa.delete(EntryFailure).where(EntryFailure.task_id.in_(tasks)))
    connection.execute(sa.delete(Task).where(Task.id.in_(tasks)))
