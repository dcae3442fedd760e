"""Reads jobs for their owners. Lists go by key, never by offset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import JobNotFound, ListingGone
from wherry_queue.models import Job, JobProgress, Link, ListingChunk, Site, Task, User
from wherry_queue.remaining import Interval, Rates, remaining
from wherry_queue.states import CLEAN_UP, ENDED, JobState, WorkClass
from wherry_queue.store.job_states import all_open, in_states
from wherry_queue.store.waiting import NOTHING_KNOWN, Circumstances, reasons
from wherry_queue.waiting import Reason

PROGRESS_LIFE_MS = 15_000
"""A replica that has not written a job's progress for so long moves nothing of it."""
_LISTING_CHUNKS = 8
"""Of up to 5,000 entries each; a slow reader must not make us hold a whole large listing."""
LOOKED_AT = 10_000
"""So many of a user's jobs a filter is held against in one request; then there is a page, however short."""
_UNMOVING = ("remove", "change_mode")
"""Operations whose files may be as large as they like: nothing of them is moved or read."""
_SLACK_MS = 3_600_000
"""Ids are given in nearly the order of the times of creation, which clocks tell, not in it."""

_COLUMNS = [column for column in Job.__table__.columns if column.name not in ("specification", "summary", "options")]
_WHOLE = sa.select(*_COLUMNS, Job.specification)
_BRIEF = sa.select(*_COLUMNS, sa.func.coalesce(Job.summary, Job.specification).label("specification"))
_MOVING = sa.select(
    JobProgress.job_id,
    sa.func.sum(JobProgress.bytes_moving).label("moving"),
    sa.func.sum(JobProgress.files_moving).label("landed"),
    sa.func.sum(JobProgress.bytes_per_second).label("rate"),
    sa.func.sum(JobProgress.bytes_per_second_least).label("bytes_least"),
    sa.func.sum(JobProgress.bytes_per_second_most).label("bytes_most"),
    sa.func.sum(JobProgress.files_per_second_least).label("files_least"),
    sa.func.sum(JobProgress.files_per_second_most).label("files_most"),
    sa.func.max(JobProgress.worker_measured_ms).label("measured_ms"),
).group_by(JobProgress.job_id)
_SOURCE: Any = Site.__table__.alias("source")
_DESTINATION: Any = Site.__table__.alias("destination")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it.

    Attributes:
        row: `models.Job`'s columns but `options`; `specification` is the summary where the job was looked at in brief.
        bytes_moving, files_landed, bytes_per_second: of the tasks that run now.
        waiting: why it is not running.
        measured_ms: when a worker last measured what moves; None while nothing does.
        remaining: how long it will still take; None: nothing can be said.
    """

    row: Any
    owner: str
    bytes_moving: int
    files_landed: int
    bytes_per_second: float
    now_ms: int
    waiting: Reason | None = None
    measured_ms: int | None = None
    remaining: Interval | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; what is empty or None lets all through.

    Attributes:
        site: `sites/{site}`: it reads or writes there.
        from_ms, until_ms: created at this time or later, and before that one.
    """

    states: Collection[JobState] = ()
    operations: Collection[str] = ()
    site: str = ""
    from_ms: int | None = None
    until_ms: int | None = None

    def __bool__(self) -> bool:
        return bool(
            self.states or self.operations or self.site or self.from_ms is not None or self.until_ms is not None
        )


EVERY_JOB = JobFilter()


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first.

    Attributes:
        before_id: where the next page begins; None: there is none.
    """

    views: Sequence[JobView]
    before_id: int | None


def job_id_of(connection: Connection, user: str, uid: str) -> int:
    """Returns a job's id; raises JobNotFound unless it is the user's."""
    found = connection.execute(
        sa.select(Job.id)
        .join(User, User.id == Job.user_id)
        .where(Job.uid == uid, User.name == user, Job.work_class != CLEAN_UP)
    ).scalar_one_or_none()
    if found is None:
        raise JobNotFound(job=uid)
    return int(found)


def sites_of(connection: Connection, user: str, uid: str) -> tuple[str, str]:
    """Returns source and destination site of a user's job; raises JobNotFound."""
    job_id = job_id_of(connection, user, uid)
    row = connection.execute(
        sa.select(_SOURCE.c.name.label("source"), _DESTINATION.c.name.label("destination"))
        .select_from(Job)
        .join(Link, Link.id == Job.link_id)
        .join(_SOURCE, _SOURCE.c.id == Link.source_id)
        .join(_DESTINATION, _DESTINATION.c.id == Link.destination_id)
        .where(Job.id == job_id)
    ).one_or_none()
    if row is None:
        raise JobNotFound(job=uid)  # it was cleared away just now
    return row.source, row.destination


def view_job(connection: Connection, user: str, uid: str, here: Circumstances = NOTHING_KNOWN) -> JobView:
    """Returns a user's job, whole; raises JobNotFound."""
    views = view_jobs(connection, user, [job_id_of(connection, user, uid)], here)
    if not views:
        raise JobNotFound(job=uid)  # it was cleared away just now
    return views[0]


def list_jobs(
    connection: Connection,
    user: str,
    before_id: int | None,
    limit: int,
    wanted: JobFilter = EVERY_JOB,
    here: Circumstances = NOTHING_KNOWN,
) -> JobPage:
    """Returns a user's jobs in brief, newest first, older than `before_id`. Listings are no jobs to them.

    With a filter a page may hold less than `limit` though more follow: a request looks at a bounded number of jobs.
    """
    user_id = connection.execute(sa.select(User.id).where(User.name == user)).scalar_one_or_none()
    if user_id is None:
        return JobPage([], None)
    query: Any = sa.select(Job.id).where(Job.user_id == user_id, Job.work_class == WorkClass.BULK)
    query = query.order_by(Job.id.desc())
    if before_id is not None:
        query = query.where(Job.id < before_id)
    if wanted:
        ids, before_id = _filtered(connection, query, limit, wanted)
    else:
        found = connection.execute(query.limit(limit + 1)).scalars().all()
        ids = found[:limit]
        before_id = ids[-1] if len(found) > limit else None
    return JobPage(view_jobs(connection, user, ids, here, brief=True), before_id)


def _filtered(
    connection: Connection, query: sa.Select[Any], limit: int, wanted: JobFilter
) -> tuple[Sequence[int], int | None]:
    """Returns ids of jobs that a filter lets through, and where the next page begins."""
    if all_open(wanted.states):
        query = query.where(sa.text("job.ended_ms is null"))  # as its index has it
    window = query.add_columns(Job.created_ms).limit(LOOKED_AT).subquery("looked_at")
    through = sa.select(Job.id).join(window, window.c.id == Job.id).where(*_conditions(wanted)).order_by(Job.id.desc())
    ids = connection.execute(through.limit(limit + 1)).scalars().all()
    if len(ids) > limit:
        return ids[:limit], ids[limit - 1]
    looked_at, last_id, oldest_ms = connection.execute(
        sa.select(sa.func.count(), sa.func.min(window.c.id), sa.func.min(window.c.created_ms))
    ).one()
    over = looked_at < LOOKED_AT or (wanted.from_ms is not None and oldest_ms < wanted.from_ms - _SLACK_MS)
    return ids, None if over else last_id


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.states:
        conditions.append(in_states(wanted.states))
    if wanted.operations:
        conditions.append(Job.operation.in_(sorted(wanted.operations)))
    if wanted.site:
        site = sa.select(Site.id).where(Site.name == wanted.site).scalar_subquery()
        links = sa.select(Link.id).where(sa.or_(Link.source_id == site, Link.destination_id == site))
        conditions.append(Job.link_id.in_(links))
    if wanted.from_ms is not None:
        conditions.append(Job.created_ms >= wanted.from_ms)
    if wanted.until_ms is not None:
        conditions.append(Job.created_ms < wanted.until_ms)
    return conditions


def view_jobs(
    connection: Connection,
    user: str,
    ids: Sequence[int],
    here: Circumstances = NOTHING_KNOWN,
    *,
    brief: bool = False,
) -> list[JobView]:
    """Returns jobs of a user by id, newest first.

    Args:
        brief: with the first few of the items that they name, as lists show them.
    """
    if not ids:
        return []
    now_ms = database_now_ms(connection)
    fresh = (JobProgress.job_id.in_(ids), JobProgress.measured_ms > now_ms - PROGRESS_LIFE_MS)
    moving = {row.job_id: row for row in connection.execute(_MOVING.where(*fresh))}
    query = (_BRIEF if brief else _WHOLE).where(Job.id.in_(ids)).order_by(Job.id.desc())
    rows = connection.execute(query).all()
    waiting = reasons(connection, rows, here, now_ms)
    views = []
    for row in rows:
        progress = moving.get(row.id) if row.tasks_running else None
        views.append(_view(row, user, progress, now_ms, waiting.get(row.id)))
    return views


def _view(row: Any, user: str, progress: Any, now_ms: int, waiting: Reason | None) -> JobView:
    if progress is None:
        return JobView(row, user, 0, 0, 0.0, now_ms, waiting)
    bytes_left = row.bytes_total - row.bytes_done - row.bytes_failed
    files_left = row.files_total - row.files_done - row.files_failed
    moving, landed = min(int(progress.moving), bytes_left), min(int(progress.landed), files_left)
    rates = Rates(progress.bytes_least, progress.bytes_most, progress.files_least, progress.files_most)
    return JobView(
        row,
        user,
        moving,
        landed,
        float(progress.rate),
        now_ms,
        waiting,
        # A worker's clock may go ahead of ours; nothing was measured that is yet to come.
        min(progress.measured_ms, now_ms) if progress.measured_ms is not None else None,
        _remaining(row, files_left - landed, bytes_left - moving, rates),
    )


def _remaining(row: Any, files_left: int, bytes_left: int, rates: Rates) -> Interval | None:
    """Returns how long a job still takes, as far as anybody can know.

    Nobody does while directories are being listed, nor when a job goes on that is held, nor how long the removals take
    that come after its copying.
    """
    unknown = row.walks_open or row.hold or row.extraneous_total > row.extraneous_removed
    return None if unknown else remaining(files_left, 0 if row.operation in _UNMOVING else bytes_left, rates)


def listing_after(connection: Connection, job_id: int, after_id: int) -> tuple[list[tuple[int, bytes]], Any]:
    """Returns some of a listing's chunks behind `after_id` as (id, packed entries), and its task's row.

    Read in this order: when the task has ended and no chunks come, there are none to come.

    Raises:
        ListingGone: it has ended and its time to be kept is over.
    """
    task = _listing_task(connection, job_id)
    rows = connection.execute(
        sa.select(ListingChunk.id, ListingChunk.payload)
        .where(ListingChunk.job_id == job_id, ListingChunk.id > after_id)
        .order_by(ListingChunk.id)
        .limit(_LISTING_CHUNKS)
    )
    chunks = [(row.id, row.payload) for row in rows]
    if not chunks and task.state in ENDED:
        _listing_task(
            connection, job_id
        )  # or they were cleared away in between: that would look like a shorter listing
    return chunks, task


def _listing_task(connection: Connection, job_id: int) -> Any:
    task = connection.execute(sa.select(Task.__table__).where(Task.job_id == job_id)).one_or_none()
    if task is None:
        raise ListingGone
    return task
