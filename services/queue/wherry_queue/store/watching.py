"""Looks at all of a user's jobs, often: what changes of them in small, and in full only those that have changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Job, JobProgress, Task, User
from wherry_queue.states import TaskState, WorkClass
from wherry_queue.store.reading import PROGRESS_LIFE_MS, JobView, view_jobs

_LOOKED_BACK = 1000
"""How many of all users' jobs are looked at again: ids become visible in nearly their order, not in it."""
_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""

_CHANGING = (
    Job.id, Job.tasks_open, Job.tasks_running, Job.tasks_failed, Job.tasks_cancelled, Job.walks_open, Job.files_total,
    Job.files_done, Job.files_failed, Job.bytes_total, Job.bytes_done, Job.bytes_failed, Job.directories_total,
    Job.directories_done, Job.directories_failed, Job.cancelled, Job.sign_in_needed, Job.priority, Job.started_ms,
    Job.ended_ms, Job.failure.is_(None).label("faultless"),
)  # fmt: skip
"""What owners see of a job and is not what they asked for, which may be long."""

# Built once: these run for every watcher every other second, and to build them costs more than to run them.
_SINCE_MS = sa.bindparam("since_ms", type_=sa.BigInteger)
_PROGRESS = (JobProgress.job_id == Job.id, JobProgress.measured_ms > _SINCE_MS)
_SIGNS = sa.select(
    *_CHANGING,
    sa.select(sa.func.sum(JobProgress.bytes_moving)).where(*_PROGRESS).scalar_subquery().label("moving"),
    sa.select(sa.func.sum(JobProgress.bytes_per_second)).where(*_PROGRESS).scalar_subquery().label("rate"),
    sa.select(sa.func.min(Task.not_before_ms))
    .where(Task.job_id == Job.id, Task.state == TaskState.DELAYED)
    .scalar_subquery()
    .label("retry_ms"),
).where(Job.id.in_(sa.bindparam("ids", expanding=True)))
_USER = sa.select(User.id).where(User.name == sa.bindparam("name"))
"""A statement of its own: joined in, the planner would not know whether it is the user with a million jobs."""
_JOBS = sa.select(Job.id).where(Job.user_id == sa.bindparam("user"), Job.work_class == WorkClass.BULK)
"""Listings are no jobs to those who watch."""
_OPEN = _JOBS.where(Job.ended_ms.is_(None))
_SINCE = _JOBS.where(Job.id >= sa.bindparam("since_id"))
_AMONG = _JOBS.where(Job.id.in_(sa.bindparam("ids", expanding=True)))
_NEWEST = sa.select(sa.func.max(Job.id))
_NTH_NEWEST = _JOBS.order_by(Job.id.desc()).offset(sa.bindparam("newer")).limit(1)


@dataclass(frozen=True, slots=True)
class Signs:
    """What may have changed of a job; equal to an earlier look's if nothing has.

    Attributes:
        open: whether it has not ended.
        waiting: whether it is open and nothing of it runs.
    """

    open: bool
    waiting: bool
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found.

    Attributes:
        signs: by the jobs' ids.
        since_id: where the next look has to begin so that it misses no job.
    """

    signs: dict[int, Signs]
    since_id: int


def horizon(connection: Connection, user: str, count: int) -> int:
    """Returns the id from which on the user has `count` jobs; 0 if there are fewer."""
    return next(iter(_ids(connection, user, _NTH_NEWEST, newer=count - 1)), 0)


def look(connection: Connection, user: str, since_id: int) -> Look:
    """Looks at those of a user's jobs that have not ended, and at all from `since_id` on."""
    newest_id = connection.execute(_NEWEST).scalar_one_or_none() or 0
    ids = {*_ids(connection, user, _OPEN), *_ids(connection, user, _SINCE, since_id=since_id)}
    return Look(_signs(connection, ids), max(since_id, newest_id - _LOOKED_BACK))


def look_at(connection: Connection, user: str, ids: Collection[int]) -> dict[int, Signs]:
    """Returns the signs of those of the jobs that are the user's."""
    return _signs(connection, _own(connection, user, ids))


def jobs(connection: Connection, user: str, ids: Collection[int]) -> list[JobView]:
    """Returns those of the jobs that are the user's, newest first."""
    return view_jobs(connection, user, _own(connection, user, ids))


def _own(connection: Connection, user: str, ids: Collection[int]) -> list[int]:
    return [job_id for some in _slices(ids) for job_id in _ids(connection, user, _AMONG, ids=some)]


def _ids(connection: Connection, user: str, query: sa.Select[Any], **values: Any) -> Sequence[int]:
    """Returns ids of jobs of a user; none for one who never had any."""
    user_id = connection.execute(_USER, {"name": user}).scalar_one_or_none()
    return () if user_id is None else connection.execute(query, {"user": user_id, **values}).scalars().all()


def _signs(connection: Connection, ids: Collection[int]) -> dict[int, Signs]:
    since_ms = database_now_ms(connection) - PROGRESS_LIFE_MS
    signs = {}
    for some in _slices(ids):
        for row in connection.execute(_SIGNS, {"since_ms": since_ms, "ids": some}):
            waiting = row.tasks_open > 0 and not row.tasks_running
            # Of the three that other tables hold, each is shown in one condition only.
            shown = (row.moving, row.rate) if row.tasks_running else (row.retry_ms,) if waiting else ()
            signs[row.id] = Signs(row.ended_ms is None, waiting, (*row[1:-3], *shown))
    return signs


def _slices(ids: Collection[int]) -> list[list[int]]:
    ordered = sorted(ids)
    return [ordered[start : start + _IDS] for start in range(0, len(ordered), _IDS)]
