"""How far running tasks are, folded by job and replica once a second, and what a task moves on a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Job, JobProgress, Link
from wherry_queue.progress import NOTHING_MOVED, Folded, Moved

_PROGRESS: Any = JobProgress.__table__
_NEWEST = 0.3
"""The part of a new measurement in what is remembered of a link."""


def _less(column: Any, name: str) -> Any:
    less: Any = sa.bindparam(name)
    return sa.case((column > less, column - less), else_=0)


_LOWER = (
    sa.update(_PROGRESS)
    .where(_PROGRESS.c.job_id == sa.bindparam("job"), _PROGRESS.c.replica_id == sa.bindparam("replica"))
    .values(
        bytes_moving=_less(_PROGRESS.c.bytes_moving, "less_bytes"),
        files_moving=_less(_PROGRESS.c.files_moving, "less_files"),
    )
)


def write_progress(connection: Connection, replica_id: int, progress: Mapping[int, Folded]) -> None:
    """Writes how far this replica's tasks are, by job."""
    now_ms = database_now_ms(connection)
    for job_id, folded in sorted(progress.items()):
        values = {
            "bytes_moving": folded.moved.size_bytes,
            "files_moving": folded.moved.files,
            "bytes_per_second": folded.bytes_per_second,
            "bytes_per_second_least": folded.rates.bytes_least,
            "bytes_per_second_most": folded.rates.bytes_most,
            "files_per_second_least": folded.rates.files_least,
            "files_per_second_most": folded.rates.files_most,
            "measured_ms": now_ms,
            "worker_measured_ms": folded.measured_ms,
        }
        where = (JobProgress.job_id == job_id, JobProgress.replica_id == replica_id)
        done = connection.execute(sa.update(JobProgress).where(*where).values(values).returning(JobProgress.job_id))
        if done.one_or_none() is None:
            exists = connection.execute(sa.select(Job.id).where(Job.id == job_id)).one_or_none()
            if exists is not None:
                connection.execute(sa.insert(JobProgress).values(job_id=job_id, replica_id=replica_id, **values))


def lower_progress(connection: Connection, replica_id: int | None, landed: Sequence[tuple[int, Moved]]) -> None:
    """Takes off what (by job) counts as moving and is counted as done from now on, so that nobody sees it twice."""
    rows = [
        {"job": job_id, "replica": replica_id, "less_bytes": moved.size_bytes, "less_files": moved.files}
        for job_id, moved in sorted(landed, key=lambda one: one[0])
        if moved != NOTHING_MOVED
    ]
    if rows:
        connection.execute(_LOWER, rows)


def note_rates(connection: Connection, progress: Mapping[int, Folded]) -> None:
    """Remembers what one task moves on the jobs' links: by that it is seen whether a task fits into a session."""
    rates = {job_id: f.bytes_per_second / f.tasks for job_id, f in progress.items() if f.tasks and f.bytes_per_second}
    by_link: dict[int, list[float]] = {}
    for row in connection.execute(sa.select(Job.id, Job.link_id).where(Job.id.in_(rates))):
        by_link.setdefault(row.link_id, []).append(rates[row.id])
    for link_id, of_link in sorted(by_link.items()):
        rate = sum(of_link) / len(of_link)
        kept = sa.func.coalesce(Link.bytes_per_second * (1 - _NEWEST) + rate * _NEWEST, rate)
        connection.execute(sa.update(Link).where(Link.id == link_id).values(bytes_per_second=kept))
