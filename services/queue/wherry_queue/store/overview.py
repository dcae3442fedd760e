"""The overview: sums of what is kept as counters, of lanes with something ready and of jobs that have not ended.

Tasks are looked at only where there is an index of just those: they may be millions. Numbers that stand in the
conditions of these indexes are written out, since a parameter would keep the indexes from being used.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Job, JobProgress, Lane, Link, Site, Task, User
from wherry_queue.overview import ClassFigures, LinkFigures, Overview
from wherry_queue.states import Hold, TaskState, WorkClass, leased_as
from wherry_queue.store.lanes import ACTIVE
from wherry_queue.store.limits import Defaults, effective
from wherry_queue.store.reading import PROGRESS_LIFE_MS
from wherry_queue.store.workers import places

_ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.Integer)
_OPEN = Job.ended_ms.is_(None)
_RUNNABLE = sa.and_(Lane.pending > _ZERO, Lane.hold == _ZERO)
_DELAYED = Task.state == sa.literal_column(str(int(TaskState.DELAYED)))


def overview(connection: Connection, link_count: int, defaults: Defaults) -> Overview:
    """Returns the queue at a moment, with up to `link_count` links."""
    ready: Counter[WorkClass] = Counter()
    ready_on: Counter[int] = Counter()
    for lane in connection.execute(
        sa.select(Lane.work_class, Lane.link_id, sa.func.sum(Lane.pending).label("tasks"))
        .where(_RUNNABLE)
        .group_by(Lane.work_class, Lane.link_id)
    ):
        ready[WorkClass(lane.work_class)] += lane.tasks
        if lane.work_class == WorkClass.BULK:
            ready_on[lane.link_id] += lane.tasks
    running: Counter[WorkClass] = Counter()
    running_on: Counter[int] = Counter()
    jobs: Counter[str] = Counter()
    for row in connection.execute(_JOBS):
        running[leased_as(row.work_class)] += row.running
        if leased_as(row.work_class) is WorkClass.BULK:
            running_on[row.link_id] += row.running
        if row.work_class == WorkClass.BULK:
            jobs.update(open=row.jobs, signing_in=row.signing_in, paused=row.paused)
    delayed = _delayed(connection)
    all_places = dict(zip((WorkClass.INTERACTIVE, WorkClass.BULK), places(connection), strict=True))
    return Overview(
        classes=[
            ClassFigures(
                work_class,
                ready[work_class],
                running[work_class],
                delayed.get(work_class, 0),
                _active_users(connection, work_class),
                all_places[work_class],
            )
            for work_class in WorkClass
        ],
        links=_links(connection, ready_on, running_on, link_count, defaults),
        jobs_open=jobs["open"],
        jobs_waiting_for_sign_in=jobs["signing_in"],
        jobs_paused=jobs["paused"],
        oldest_waiting_ms=_oldest_waiting_ms(connection),
    )


def _has(bits: Hold) -> sa.ColumnElement[bool]:
    return Job.hold.op("&")(sa.literal_column(str(int(bits)))) != _ZERO


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


_PAUSED = sa.and_(~Job.cancelled, _has(Hold.PAUSED))
_JOBS = (
    sa.select(
        Job.work_class,
        Job.link_id,
        sa.func.count().label("jobs"),
        sa.func.sum(Job.tasks_running).label("running"),
        _count(_PAUSED).label("paused"),
        # As `states.job_state` has it.
        _count(
            sa.and_(~Job.cancelled, ~_has(Hold.PAUSED), _has(Hold.SIGN_IN | Hold.TOO_SHORT), Job.tasks_running == _ZERO)
        ).label("signing_in"),
    )
    .where(_OPEN)
    .group_by(Job.work_class, Job.link_id)
)


def _delayed(connection: Connection) -> dict[WorkClass, int]:
    by_job = sa.select(Task.job_id, sa.func.count().label("tasks")).where(_DELAYED).group_by(Task.job_id).subquery()
    rows = connection.execute(
        sa.select(Job.work_class, sa.func.sum(by_job.c.tasks).label("tasks"))
        .join(by_job, by_job.c.job_id == Job.id)
        .group_by(Job.work_class)
    )
    delayed: Counter[WorkClass] = Counter()
    for row in rows:
        delayed[leased_as(row.work_class)] += int(row.tasks)
    return delayed


def _active_users(connection: Connection, work_class: WorkClass) -> int:
    query = sa.select(sa.func.count()).select_from(User).where(ACTIVE[work_class] > _ZERO)
    return connection.execute(query).scalar_one()


def _oldest_waiting_ms(connection: Connection) -> int | None:
    """Returns when the oldest runnable job was made of which nothing has run yet. (Of others it is not known since
    when nothing of them runs.)"""
    found = connection.execute(
        sa.select(sa.func.min(Job.created_ms))
        .join(Lane, Lane.job_id == Job.id)
        .where(_RUNNABLE, Lane.work_class == WorkClass.BULK, Job.started_ms.is_(None))
    ).scalar_one()
    return None if found is None else int(found)


def _links(
    connection: Connection, ready: Counter[int], running: Counter[int], count: int, defaults: Defaults
) -> list[LinkFigures]:
    """Returns the links with work, most of it first."""
    work = {link_id: tasks for link_id, tasks in (ready + running).items() if tasks}
    chosen = sorted(work, key=lambda link_id: (-work[link_id], link_id))[:count]
    source, destination = sa.orm.aliased(Site), sa.orm.aliased(Site)
    rows: dict[int, Any] = {
        row.id: row
        for row in connection.execute(
            sa.select(Link.id, Link.cap, source.name.label("source"), destination.name.label("destination"))
            .join(source, source.id == Link.source_id)
            .join(destination, destination.id == Link.destination_id)
            .where(Link.id.in_(chosen))
        )
    }
    rates = {
        row.link_id: float(row.rate)
        for row in connection.execute(
            sa.select(Job.link_id, sa.func.sum(JobProgress.bytes_per_second).label("rate"))
            .join(JobProgress, JobProgress.job_id == Job.id)
            .where(_OPEN, Job.link_id.in_(chosen), Job.tasks_running > _ZERO)
            .where(JobProgress.measured_ms > database_now_ms(connection) - PROGRESS_LIFE_MS)
            .group_by(Job.link_id)
        )
    }
    return [
        LinkFigures(
            rows[link_id].source,
            rows[link_id].destination,
            ready[link_id],
            running[link_id],
            rates.get(link_id, 0.0),
            effective(rows[link_id].cap, defaults.link),
        )
        for link_id in chosen
    ]
