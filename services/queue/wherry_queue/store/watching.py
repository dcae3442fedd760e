"""Looks at jobs that somebody watches, often: what changes of them in small, and in full only those that have changed.

Jobs of any number of users are looked at together; only what a watch begins with is asked for it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Job, JobProgress, Lane, Task, User
from wherry_queue.states import TaskState, WorkClass
from wherry_queue.store.line import IN_LINE, PLACES, line_of
from wherry_queue.store.reading import PROGRESS_LIFE_MS, JobView, view_jobs
from wherry_queue.store.waiting import Circumstances

LOOKED_BACK = 1000
"""How many of all users' jobs are looked at again: ids become visible in nearly their order, not in it."""
_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""

_CHANGING = (
    Job.id, Job.tasks_open, Job.tasks_running, Job.tasks_failed, Job.tasks_cancelled, Job.walks_open, Job.files_total,
    Job.files_done, Job.files_failed, Job.bytes_total, Job.bytes_done, Job.bytes_failed, Job.directories_total,
    Job.directories_done, Job.directories_failed, Job.cancelled, Job.hold, Job.priority, Job.started_ms, Job.ended_ms,
    Job.failure.is_(None).label("faultless"), Job.files_unchanged, Job.bytes_unchanged, Job.entries_skipped,
    Job.extraneous_total, Job.extraneous_removed, Job.data_channels,
)  # fmt: skip
"""What owners see of a job and is not what they asked for, which may be long."""

# Built once: these run every other second, and to build them costs more than to run them.
_SINCE_MS = sa.bindparam("since_ms", type_=sa.BigInteger)
_IN_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_PROGRESS = (JobProgress.job_id == Job.id, JobProgress.measured_ms > _SINCE_MS)
_SIGNS = sa.select(
    *_CHANGING,
    sa.select(sa.func.sum(JobProgress.bytes_moving)).where(*_PROGRESS).scalar_subquery().label("bytes_moving"),
    sa.select(sa.func.sum(JobProgress.files_moving)).where(*_PROGRESS).scalar_subquery().label("files_moving"),
    sa.select(sa.func.sum(JobProgress.bytes_per_second)).where(*_PROGRESS).scalar_subquery().label("rate"),
    # With it what is said of the time that remains changes, and ends where nothing moves any more.
    sa.select(sa.func.sum(JobProgress.files_per_second_most)).where(*_PROGRESS).scalar_subquery().label("usual_rate"),
    sa.select(sa.func.min(Task.not_before_ms))
    .where(Task.job_id == Job.id, Task.state == TaskState.DELAYED)
    .scalar_subquery()
    .label("retry_ms"),
).where(Job.id.in_(_IN_IDS))
_USERS = sa.select(User.id, User.name).where(User.name.in_(sa.bindparam("names", expanding=True)))
"""A statement of its own: joined in, the planner would not know whether it is the user with a million jobs."""
_JOBS = sa.select(Job.id, Job.user_id).where(
    Job.user_id.in_(sa.bindparam("users", expanding=True)), Job.work_class == WorkClass.BULK
)
"""Listings are no jobs to those who watch."""
_OPEN = _JOBS.where(Job.ended_ms.is_(None))
_SINCE = _JOBS.where(Job.id >= sa.bindparam("since_id"))
_AMONG = _JOBS.where(Job.id.in_(_IN_IDS))
_OWNERS = (
    sa.select(Job.id, User.name).join(User, User.id == Job.user_id)
).where(Job.id.in_(_IN_IDS), Job.work_class == WorkClass.BULK)  # fmt: skip
_NEWEST = sa.select(sa.func.max(Job.id))
_NTH_NEWEST = (
    sa.select(Job.id)
    .where(Job.user_id == sa.bindparam("user"), Job.work_class == WorkClass.BULK)
    .order_by(Job.id.desc())
    .offset(sa.bindparam("newer"))
    .limit(1)
)
_IN_LINE = sa.select(Lane.job_id, Lane.user_id).where(Lane.job_id.in_(_IN_IDS), *IN_LINE)
_LINES = (
    sa.select(
        Lane.job_id,
        sa.func.row_number().over(partition_by=Lane.user_id, order_by=(Lane.rank, Lane.id)).label("place"),
    )
    .where(Lane.user_id.in_(sa.bindparam("users", expanding=True)), *IN_LINE)
    .subquery("lines")
)
_PLACES_OF = sa.select(_LINES.c.job_id, _LINES.c.place).where(_LINES.c.job_id.in_(_IN_IDS), _LINES.c.place <= PLACES)
_LINE = line_of(User.id).lateral("line")
_PLACES_OF_LONG_LINES = (
    sa.select(_LINE.c.job_id, _LINE.c.place)
    .select_from(User)
    .join(_LINE, sa.true())
    .where(User.id.in_(sa.bindparam("users", expanding=True)), _LINE.c.job_id.in_(_IN_IDS))
)
"""The same for PostgreSQL, which need not read the whole of a line for it."""


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
        owners: the names of those users' jobs that were looked for.
        next_id: where the next look may begin without missing a job.
    """

    signs: Mapping[int, Signs]
    owners: Mapping[int, str]
    next_id: int


def newest_id(connection: Connection) -> int:
    """Returns the highest of all jobs' ids; 0 if there are none."""
    return connection.execute(_NEWEST).scalar_one_or_none() or 0


def horizon(connection: Connection, user: str, count: int) -> int:
    """Returns the id from which on the user has `count` jobs; 0 if there are fewer."""
    for user_id in _user_ids(connection, [user]):
        found = connection.execute(_NTH_NEWEST, {"user": user_id, "newer": count - 1}).scalar_one_or_none()
        return found or 0
    return 0


def look(connection: Connection, users: Collection[str], since_id: int, known: Iterable[int] = ()) -> Look:
    """Looks at those of users' jobs that have not ended, at all of theirs from `since_id` on, and at `known` ones."""
    newest = newest_id(connection)
    owners: dict[int, str] = {}
    for names in _slices(users):
        user_ids = _user_ids(connection, names)
        if user_ids:
            rows = [*connection.execute(_OPEN, {"users": list(user_ids)})]
            rows += connection.execute(_SINCE, {"users": list(user_ids), "since_id": since_id})
            owners |= {row.id: user_ids[row.user_id] for row in rows}
    return Look(look_at(connection, {*owners, *known}), owners, max(since_id, newest - LOOKED_BACK))


def look_at(connection: Connection, ids: Collection[int]) -> dict[int, Signs]:
    """Returns the signs of jobs, whosever they are; of those that are there."""
    since_ms = database_now_ms(connection) - PROGRESS_LIFE_MS
    signs = {}
    for some in _slices(ids):
        for row in connection.execute(_SIGNS, {"since_ms": since_ms, "ids": some}):
            waiting = row.tasks_open > 0 and not row.tasks_running
            # Of those that other tables hold, each is shown in one condition only.
            moving = (row.bytes_moving, row.files_moving, row.rate, row.usual_rate)
            shown = moving if row.tasks_running else (row.retry_ms,) if waiting else ()
            signs[row.id] = Signs(row.ended_ms is None, waiting, (*row[1:-5], *shown))
    return signs


def owners(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Returns the names of jobs' users; listings have none."""
    return {row.id: row.name for some in _slices(ids) for row in connection.execute(_OWNERS, {"ids": some})}


def jobs(connection: Connection, user: str, ids: Collection[int], here: Circumstances) -> list[JobView]:
    """Returns those of the jobs that are the user's, in brief, newest first."""
    own = [
        row.id
        for user_id in _user_ids(connection, [user])
        for some in _slices(ids)
        for row in connection.execute(_AMONG, {"users": [user_id], "ids": some})
    ]
    return view_jobs(connection, user, own, here, brief=True)


def views(connection: Connection, of: Mapping[int, str], here: Circumstances, *, brief: bool) -> list[JobView]:
    """Returns jobs of several users, newest first.

    Args:
        of: the users' names, by the jobs' ids; some hundreds.
    """
    found = view_jobs(connection, "", sorted(of), here, brief=brief)
    places = _places(connection, [view.row.id for view in found if view.waiting and view.waiting.active_users])
    return [_placed(replace(view, owner=of[view.row.id]), places.get(view.row.id, 0)) for view in found]


def _placed(view: JobView, place: int) -> JobView:
    """Returns a view with the place among its own user's jobs."""
    if view.waiting is None or view.waiting.position == place:
        return view
    return replace(view, waiting=replace(view.waiting, position=place))


def _places(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Returns the places of waiting jobs among each one's user's."""
    if not ids:
        return {}
    users = {row.user_id for row in connection.execute(_IN_LINE, {"ids": ids})}
    if not users:
        return {}
    query = _PLACES_OF_LONG_LINES if connection.dialect.name == "postgresql" else _PLACES_OF
    return {row.job_id: row.place for row in connection.execute(query, {"users": sorted(users), "ids": ids})}


def _user_ids(connection: Connection, names: Sequence[str]) -> dict[int, str]:
    """Returns names by id; users who never had a job have none."""
    return {row.id: row.name for row in connection.execute(_USERS, {"names": names})}


def _slices(of: Iterable[Any]) -> list[list[Any]]:
    ordered = sorted(of)
    return [ordered[start : start + _IDS] for start in range(0, len(ordered), _IDS)]
