"""Keeps the chunks of a large copy while its stream is coming in, out of everybody's sight, and makes a job of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import Chunk, CopyForgotten, JobNotFound, NewJob, TooMuchStaged
from wherry_queue.models import Job, StagedChunk, StagedCopy, Task, User
from wherry_queue.states import TaskKind, TaskState
from wherry_queue.store.lanes import add_pending, lock
from wherry_queue.store.naming import made
from wherry_queue.store.submission import submit

_COPIES = 20
"""Forgotten in one transaction at most."""
_CHUNK: Any = StagedChunk.__table__
_INSERT = sa.insert(_CHUNK)


@dataclass(frozen=True, slots=True)
class Roots:
    """Below which all files of a copy lie, absolute."""

    source: bytes
    destination: bytes


def begin(connection: Connection, user: str) -> int:
    """Begins a user's copy; returns its id, which only the one who began it knows."""
    values = {"added_ms": database_now_ms(connection), "user_id": made(connection, User, user)}
    return int(connection.execute(sa.insert(StagedCopy).values(values).returning(StagedCopy.id)).scalar_one())


def add(connection: Connection, copy_id: int, chunks: Sequence[Chunk], most_bytes: int) -> None:
    """Keeps chunks of a copy.

    Args:
        most_bytes: what all open copies of its user may hold together. What is added at one
            moment may pass it.

    Raises:
        CopyForgotten: nothing came for too long.
        TooMuchStaged: it would be more than that.
    """
    user_id = _touch(connection, copy_id, sum(len(chunk.payload) for chunk in chunks))
    kept = sa.select(sa.func.sum(StagedCopy.kept_bytes)).where(StagedCopy.user_id == user_id)
    if connection.execute(kept).scalar_one() > most_bytes:
        raise TooMuchStaged(limit=str(most_bytes))
    connection.execute(
        _INSERT,
        [
            {
                "copy_id": copy_id,
                "payload": chunk.payload,
                "entry_count": chunk.entry_count,
                "total_bytes": chunk.total_bytes,
            }
            for chunk in chunks
        ],
    )


def earlier(connection: Connection, user: str, request_id: str) -> str | None:
    """Returns the uid of the job that a user's request has made already."""
    query = sa.select(Job.uid).join(User, User.id == Job.user_id)
    return connection.execute(query.where(User.name == user, Job.request_id == request_id)).scalar_one_or_none()


def complete(connection: Connection, copy_id: int, new: NewJob, roots: Roots) -> tuple[int, str]:
    """Makes a job of what was kept of a copy, as `submission.submit`; `new` has no tasks.

    Raises:
        CopyForgotten: it was forgotten.
        JobNotFound: the same request made the job before, and it is being cleared away.
    """
    _touch(connection, copy_id)
    job_id, uid = submit(connection, new)
    lanes = lock(connection, job_id)
    if not lanes:
        raise JobNotFound(job=uid)  # the same request made it long ago, and it was cleared away just now
    lane = lanes[0]
    job = connection.execute(sa.select(Job.tasks_open, Job.ended_ms).where(Job.id == job_id)).one()
    if not job.tasks_open and job.ended_ms is None:  # else the same request has made it before
        ready = _insert_tasks(connection, copy_id, job_id, lane.id, roots)
        files, total_bytes = connection.execute(
            sa.select(sa.func.sum(_CHUNK.c.entry_count), sa.func.sum(_CHUNK.c.total_bytes)).where(
                _CHUNK.c.copy_id == copy_id
            )
        ).one()
        connection.execute(
            sa.update(Job)
            .where(Job.id == job_id)
            .values(tasks_open=len(ready), phase_open=len(ready), files_total=int(files), bytes_total=int(total_bytes))
        )
        add_pending(connection, {lane.id: ready})
    forget(connection, copy_id)
    return job_id, uid


def _touch(connection: Connection, copy_id: int, more_bytes: int = 0) -> int:
    """Locks a copy's row, counts what it holds more, and keeps it from being forgotten soon; returns its user's id."""
    values = {"added_ms": database_now_ms(connection), "kept_bytes": StagedCopy.kept_bytes + more_bytes}
    touched = sa.update(StagedCopy).where(StagedCopy.id == copy_id).values(values).returning(StagedCopy.user_id)
    user_id = connection.execute(touched).scalar_one_or_none()
    if user_id is None:
        raise CopyForgotten
    return int(user_id)


def _insert_tasks(connection: Connection, copy_id: int, job_id: int, lane_id: int, roots: Roots) -> list[int]:
    values = {
        "job_id": sa.literal(job_id, sa.BigInteger()),
        "lane_id": sa.literal(lane_id, sa.BigInteger()),
        "kind": sa.literal(int(TaskKind.COPY_FILES), sa.SmallInteger()),
        "state": sa.literal(int(TaskState.READY), sa.SmallInteger()),
        "source_path": sa.literal(roots.source, sa.LargeBinary()),
        "destination_path": sa.literal(roots.destination, sa.LargeBinary()),
        "below": sa.true(),
        "payload": _CHUNK.c.payload,
        "entry_count": _CHUNK.c.entry_count,
        "total_bytes": _CHUNK.c.total_bytes,
    }
    chunks = sa.select(*values.values()).where(_CHUNK.c.copy_id == copy_id).order_by(_CHUNK.c.id)
    tasks = sa.insert(Task).from_select(list(values), chunks).returning(Task.id)
    return list(connection.execute(tasks).scalars())


def forget(connection: Connection, copy_id: int) -> None:
    """Forgets what was kept of a copy."""
    connection.execute(sa.delete(_CHUNK).where(_CHUNK.c.copy_id == copy_id))
    connection.execute(sa.delete(StagedCopy).where(StagedCopy.id == copy_id))


def sweep_staged(connection: Connection, age_ms: int) -> int:
    """Forgets copies to which nothing was added for `age_ms`, a few at a time; returns how many."""
    limit_ms = database_now_ms(connection) - age_ms
    old = sa.select(StagedCopy.id).where(StagedCopy.added_ms < limit_ms).order_by(StagedCopy.id).limit(_COPIES)
    copies = connection.execute(old).scalars().all()
    for copy_id in copies:
        forget(connection, copy_id)
    return len(copies)
