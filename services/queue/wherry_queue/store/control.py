"""What owners do to their jobs: cancel, pause, resume, give another priority."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.fairness import WORK_PER_PRIORITY
from wherry_queue.jobs import JobEnded, JobNotFound
from wherry_queue.models import Job, Lane, Task, User
from wherry_queue.states import CLEAN_UP, WALKS, Hold, TaskState, WorkClass
from wherry_queue.store.lanes import empty, lock, set_hold

_WAITING = (TaskState.READY, TaskState.BLOCKED, TaskState.DELAYED)


def cancel(connection: Connection, user: str, uid: str) -> int:
    """Cancels a user's job: nothing of it is leased any more; what runs is the dispatcher's to stop. Returns its id.

    Raises:
        JobNotFound: there is none of theirs.
    """
    job = _own(connection, user, uid)
    cancel_job(connection, job.id)
    return int(job.id)


def cancel_job(connection: Connection, job_id: int) -> None:
    """Cancels a job whosoever it is, if it has not ended: ends all of its tasks that do not run. Safe to repeat."""
    lock(connection, job_id)
    job = connection.execute(sa.select(Job.tasks_open, Job.phase).where(Job.id == job_id)).one_or_none()
    if job is None or not job.tasks_open:
        return
    empty(connection, job_id, Hold.CANCELLED)
    tasks = connection.execute(
        sa.update(Task)
        .where(Task.job_id == job_id, Task.state.in_(_WAITING))
        .values(state=TaskState.CANCELLED, not_before_ms=None)
        .returning(Task.kind, Task.phase)
    ).all()
    ended = len(tasks)
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            cancelled=True,
            hold=Job.hold.op("|")(int(Hold.CANCELLED)),
            tasks_open=Job.tasks_open - ended,
            phase_open=Job.tasks_running,
            tasks_cancelled=Job.tasks_cancelled + ended,
            walks_open=Job.walks_open - sum(task.kind in WALKS and task.phase <= job.phase for task in tasks),
            ended_ms=sa.case((Job.tasks_open == ended, database_now_ms(connection)), else_=None),
        )
    )


def half_cancelled(connection: Connection) -> list[int]:
    """Returns cancelled jobs with tasks that neither run nor have ended, as a race with a settlement leaves them."""
    return list(
        connection.execute(
            sa.select(Job.id).where(Job.cancelled, Job.ended_ms.is_(None), Job.tasks_open > Job.tasks_running)
        ).scalars()
    )


def pause(connection: Connection, user: str, uid: str) -> int:
    """Holds a user's job; the files that are moving are finished. Returns its id. Pausing again changes nothing.

    Raises:
        JobNotFound: there is none of theirs.
        JobEnded: there is nothing left to pause.
    """
    job = _own_open(connection, user, uid)
    set_hold(connection, [job.id], add=Hold.PAUSED)
    return int(job.id)


def resume(connection: Connection, user: str, uid: str) -> int:
    """Lets a user's paused job go on; returns its id. Raises as `pause`."""
    job = _own_open(connection, user, uid)
    set_hold(connection, [job.id], remove=Hold.PAUSED)
    return int(job.id)


def set_priority(connection: Connection, user: str, uid: str, priority: int) -> int:
    """Changes the priority, 0 to 9, of a user's job from now on; returns its id. Raises as `pause`."""
    job = _own_open(connection, user, uid)
    steps = Lane.priority - priority
    connection.execute(
        sa.update(Lane)
        .where(Lane.job_id == job.id)
        .values(priority=priority, rank=Lane.rank + steps * WORK_PER_PRIORITY)
    )
    connection.execute(sa.update(Job).where(Job.id == job.id).values(priority=priority))
    return int(job.id)


def _own(connection: Connection, user: str, uid: str) -> Any:
    job = connection.execute(
        sa.select(Job.id, Job.tasks_open, Job.cancelled, Job.work_class)
        .join(User, User.id == Job.user_id)
        .where(Job.uid == uid, User.name == user, Job.work_class != CLEAN_UP)
    ).one_or_none()
    if job is None:
        raise JobNotFound(job=uid)
    return job


def _own_open(connection: Connection, user: str, uid: str) -> Any:
    job = _own(connection, user, uid)
    if job.work_class != WorkClass.BULK:
        raise JobNotFound(job=uid)
    lock(connection, job.id)
    job = _own(connection, user, uid)
    if job.tasks_open == 0 or job.cancelled:
        raise JobEnded(job=uid)
    return job
