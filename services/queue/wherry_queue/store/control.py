"""Cancels jobs, keeps replicas' rows and keys, and clears away what is old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import JobNotFound
from wherry_queue.models import (
    Attempt,
    EntryFailure,
    Job,
    JobProgress,
    Lane,
    ListingChunk,
    Replica,
    SigningKey,
    Task,
    User,
)
from wherry_queue.states import WALKS, TaskState, WorkClass

_WAITING = (TaskState.READY, TaskState.BLOCKED, TaskState.DELAYED)


def cancel(connection: Connection, user: str, uid: str) -> int:
    """Cancels a user's job: nothing of it is leased any more; what runs is the dispatcher's to stop. Returns its id.

    Raises:
        JobNotFound: there is none of theirs.
    """
    job = connection.execute(
        sa.select(Job.id, Job.tasks_open).join(User, User.id == Job.user_id).where(Job.uid == uid, User.name == user)
    ).one_or_none()
    if job is None:
        raise JobNotFound(job=uid)
    if job.tasks_open == 0:
        return int(job.id)
    end_waiting(connection, int(job.id))
    return int(job.id)


def end_waiting(connection: Connection, job_id: int) -> None:
    """Marks a job as cancelled and ends all of its tasks that do not run. Safe to repeat."""
    lanes = connection.execute(
        sa.select(Lane.id, Lane.user_id, Lane.pending).where(Lane.job_id == job_id).order_by(Lane.id).with_for_update()
    ).all()
    connection.execute(sa.update(Lane).where(Lane.job_id == job_id).values(runnable=False, pending=0))
    for lane in lanes:
        if lane.pending:
            connection.execute(
                sa.update(User).where(User.id == lane.user_id).values(active_lanes=User.active_lanes - 1)
            )
    kinds = (
        connection.execute(
            sa.update(Task)
            .where(Task.job_id == job_id, Task.state.in_(_WAITING))
            .values(state=TaskState.CANCELLED, payload=None, not_before_ms=None)
            .returning(Task.kind)
        )
        .scalars()
        .all()
    )
    ended = len(kinds)
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            cancelled=True,
            tasks_open=Job.tasks_open - ended,
            phase_open=Job.tasks_running,
            tasks_cancelled=Job.tasks_cancelled + ended,
            walks_open=Job.walks_open - sum(kind in WALKS for kind in kinds),
            ended_ms=sa.case((Job.tasks_open == ended, database_now_ms(connection)), else_=None),
        )
    )


def half_cancelled(connection: Connection) -> list[int]:
    """Returns cancelled jobs with tasks that neither run nor have ended, as a race with a settlement leaves them."""
    return list(
        connection.execute(sa.select(Job.id).where(Job.cancelled, Job.tasks_open > Job.tasks_running)).scalars()
    )


def renew_replica(connection: Connection, replica_id: int | None, ttl_ms: int) -> int:
    """Extends a replica's row, or makes one; returns its id. An id that has gone (it was reaped) comes back anew."""
    until_ms = database_now_ms(connection) + ttl_ms
    if replica_id is not None:
        found = connection.execute(
            sa.update(Replica).where(Replica.id == replica_id).values(until_ms=until_ms).returning(Replica.id)
        ).scalar_one_or_none()
        if found is not None:
            return int(found)
    return int(connection.execute(sa.insert(Replica).values(until_ms=until_ms).returning(Replica.id)).scalar_one())


def retire_replica(connection: Connection, replica_id: int) -> None:
    """Lets a replica's row expire now: it ends, and its workers go on elsewhere. Its leases wait for them one TTL."""
    now_ms = database_now_ms(connection)
    connection.execute(sa.update(Replica).where(Replica.id == replica_id).values(until_ms=now_ms))


def dead_replicas(connection: Connection, grace_ms: int) -> list[int]:
    """Returns replicas whose rows have been expired for `grace_ms`, in which their workers could come elsewhere."""
    limit_ms = database_now_ms(connection) - grace_ms
    return list(connection.execute(sa.select(Replica.id).where(Replica.until_ms < limit_ms)).scalars())


def forget_replica(connection: Connection, replica_id: int) -> None:
    """Deletes a dead replica's row, once nothing runs in its name."""
    running = sa.select(Task.id).where(Task.replica_id == replica_id, Task.state == TaskState.RUNNING).exists()
    connection.execute(sa.delete(Replica).where(Replica.id == replica_id, ~running))
    connection.execute(sa.delete(JobProgress).where(JobProgress.replica_id == replica_id))


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key of lease tokens."""

    kid: str
    public_key: bytes
    expires_ms: int


def publish_key(connection: Connection, kid: str, public_key: bytes, lifetime_ms: int) -> None:
    """Publishes a key, and forgets those that have expired."""
    now_ms = database_now_ms(connection)
    connection.execute(sa.delete(SigningKey).where(SigningKey.expires_ms < now_ms))
    connection.execute(sa.insert(SigningKey).values(kid=kid, public_key=public_key, expires_ms=now_ms + lifetime_ms))


def published_keys(connection: Connection) -> list[PublishedKey]:
    """Returns the keys that may sign now."""
    now_ms = database_now_ms(connection)
    rows = connection.execute(sa.select(SigningKey.__table__).where(SigningKey.expires_ms >= now_ms))
    return [PublishedKey(row.kid, row.public_key, row.expires_ms) for row in rows]


def write_progress(connection: Connection, replica_id: int, progress: Sequence[tuple[int, int, float]]) -> None:
    """Writes (job, bytes moving, bytes per second) of this replica's tasks."""
    now_ms = database_now_ms(connection)
    for job_id, moving, rate in sorted(progress):
        values = {"bytes_moving": moving, "bytes_per_second": rate, "measured_ms": now_ms}
        where = (JobProgress.job_id == job_id, JobProgress.replica_id == replica_id)
        done = connection.execute(sa.update(JobProgress).where(*where).values(values).returning(JobProgress.job_id))
        if done.one_or_none() is None:
            exists = connection.execute(sa.select(Job.id).where(Job.id == job_id)).one_or_none()
            if exists is not None:
                connection.execute(sa.insert(JobProgress).values(job_id=job_id, replica_id=replica_id, **values))


def sweep_listings(connection: Connection, age_ms: int, limit: int = 200) -> int:
    """Deletes listings that ended `age_ms` ago, a few at a time; returns how many."""
    limit_ms = database_now_ms(connection) - age_ms
    ids = list(
        connection.execute(
            sa.select(Job.id).where(Job.work_class == WorkClass.INTERACTIVE, Job.ended_ms < limit_ms).limit(limit)
        ).scalars()
    )
    if not ids:
        return 0
    tasks = sa.select(Task.id).where(Task.job_id.in_(ids)).scalar_subquery()
    connection.execute(sa.delete(ListingChunk).where(ListingChunk.job_id.in_(ids)))
    connection.execute(sa.delete(JobProgress).where(JobProgress.job_id.in_(ids)))
    connection.execute(sa.delete(Attempt).where(Attempt.task_id.in_(tasks)))
    connection.execute(sa.delete(EntryFailure).where(EntryFailure.job_id.in_(ids)))
    connection.execute(sa.delete(Task).where(Task.job_id.in_(ids)))
    connection.execute(sa.delete(Lane).where(Lane.job_id.in_(ids)))
    connection.execute(sa.delete(Job).where(Job.id.in_(ids)))
    return len(ids)
