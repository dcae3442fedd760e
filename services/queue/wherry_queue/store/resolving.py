"""Jobs that were accepted while nobody could be asked about their sites, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import EntryFailure, Job, Json, Link, Site, Task, User
from wherry_queue.resolving import Resolution, Settled, UnresolvedJob, resolution, resolved_paths
from wherry_queue.settling import Failure
from wherry_queue.site_directory import ResolvedSite
from wherry_queue.states import CHUNKS, DIRECTORY_WORK, ENDED, WALKS, Hold, TaskState
from wherry_queue.store.lanes import change_holds, empty, lock
from wherry_queue.store.sign_ins import cursor, remember

__all__ = ["cursor", "settle", "unresolved"]

_TASK: Any = Task.__table__
_SOURCE: Any = Site.__table__.alias("source")
_DESTINATION: Any = Site.__table__.alias("destination")
_UNRESOLVED = (
    sa.select(
        Job.id, Job.user_id, User.name.label("user"),
        _SOURCE.c.name.label("source"), _DESTINATION.c.name.label("destination"),
    )
    .join(User, User.id == Job.user_id)
    .join(Link, Link.id == Job.link_id)
    .join(_SOURCE, _SOURCE.c.id == Link.source_id)
    .join(_DESTINATION, _DESTINATION.c.id == Link.destination_id)
    # The literals are those of the index of the jobs that are held.
    .where(sa.text("job.ended_ms is null and job.hold <> 0"), ~Job.cancelled)
    .where(Job.hold.op("&")(int(Hold.SITES_UNKNOWN)) != 0, Job.user_id > sa.bindparam("behind"))
    .order_by(Job.user_id, Job.id)
    .limit(sa.bindparam("most"))
)  # fmt: skip
_REWRITE = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"))
    .values(source_path=sa.bindparam("new_source"), destination_path=sa.bindparam("new_destination"))
)


def unresolved(connection: Connection, behind: int, limit: int) -> list[UnresolvedJob]:
    """Returns up to `limit` of these jobs, of users with greater ids than `behind`, by these; each user's together."""
    rows = connection.execute(_UNRESOLVED, {"behind": behind, "most": limit})
    return [UnresolvedJob(row.id, row.user_id, row.user, row.source, row.destination) for row in rows]


def settle(connection: Connection, job: UnresolvedJob, sites: Mapping[str, ResolvedSite], before: int) -> Settled:
    """Has a job go on, wait for its owner's sign-in, or fail.

    Args:
        sites: those of its own that its owner sees.
        before: where the feed of sessions stood when they were asked for: what it has told since may be newer.
    """
    if cursor(connection) != before:
        return Settled.OVERTAKEN
    found = resolution(job, sites, database_now_ms(connection))
    if isinstance(found, Resolution):
        _remember(connection, job, found)  # before the lanes: whoever takes news in does it in this order
    lanes = lock(connection, job.job_id)
    if not lanes or not lanes[0].hold & Hold.SITES_UNKNOWN or lanes[0].hold & Hold.CANCELLED:
        return Settled.ALREADY
    if isinstance(found, Resolution):
        wrong = _rewrite(connection, job, sites)
        if wrong is None:
            gone = Hold.SITES_UNKNOWN | (Hold.SIGN_IN & ~found.hold)
            change_holds(connection, {job.job_id: (found.hold, gone)})
            return Settled.DONE
        found = wrong
    return Settled.DONE if _fail(connection, job.job_id, found) else Settled.ALREADY


def _remember(connection: Connection, job: UnresolvedJob, found: Resolution) -> None:
    rows = connection.execute(sa.select(Site.id, Site.name).where(Site.name.in_(found.sessions)).order_by(Site.id))
    for row in rows.all():
        remember(connection, job.user_id, row.id, found.sessions[row.name])


def _rewrite(connection: Connection, job: UnresolvedJob, sites: Mapping[str, ResolvedSite]) -> Failure | None:
    """Makes a job's paths absolute; returns what is wrong with them, if anything is."""
    columns = sa.select(Task.id, Task.kind, Task.source_path, Task.destination_path)
    query = columns.where(Task.job_id == job.job_id).order_by(Task.id)
    first = connection.execute(query.limit(1)).one()
    chunks = first.kind in CHUNKS
    tasks = [first] if chunks else connection.execute(query).all()
    defaults = sites[job.source].default_path, sites[job.destination].default_path
    deletes = connection.execute(sa.select(Job.delete_extraneous).where(Job.id == job.job_id)).scalar_one()
    paths = resolved_paths(tasks, *defaults, same_site=job.source == job.destination, deletes=deletes)
    if isinstance(paths, Failure):
        return paths
    changed = [
        {"task": task.id, "new_source": source, "new_destination": destination}
        for task, (source, destination) in zip(tasks, paths, strict=True)
        if (task.source_path, task.destination_path) != (source, destination)
    ]
    if changed and chunks:
        # There may be very many, of as many files as somebody has named; their roots are the same.
        source, destination = paths[0]
        every = sa.update(Task).where(Task.job_id == job.job_id)
        connection.execute(every.values(source_path=source, destination_path=destination))
    elif changed:
        connection.execute(_REWRITE, changed)
    return None


def _fail(connection: Connection, job_id: int, failure: Failure) -> bool:
    """Ends all tasks of a job of which nothing has ever run; tells whether there were any.

    Its hold stays: if the job is retried, its sites have to be asked about again, since its paths are as they were.
    """
    empty(connection, job_id, Hold.NOTHING)
    stored = sa.literal(failure.as_json(), type_=Json)
    ended = connection.execute(
        sa.update(Task)
        .where(Task.job_id == job_id, Task.state.not_in(ENDED))
        .values(
            state=TaskState.FAILED,
            not_before_ms=None,
            failure=stored,
            files_failed=Task.entry_count,
            bytes_failed=Task.total_bytes,
        )
        .returning(Task.kind, Task.entry_count, Task.total_bytes)
    ).all()
    if not ended:
        return False
    columns = ["job_id", "task_id", "entry_index", "path", "size_bytes", "failure"]
    of_tasks = sa.select(Task.job_id, Task.id, sa.literal(-1), Task.source_path, Task.total_bytes, stored)
    of_tasks = of_tasks.where(Task.job_id == job_id, Task.state == TaskState.FAILED).order_by(Task.id)
    connection.execute(sa.insert(EntryFailure).from_select(columns, of_tasks))
    files, size_bytes = sum(task.entry_count for task in ended), sum(task.total_bytes for task in ended)
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            tasks_open=Job.tasks_open - len(ended),
            phase_open=Job.tasks_running,
            tasks_failed=Job.tasks_failed + len(ended),
            walks_open=Job.walks_open - sum(task.kind in WALKS for task in ended),
            files_failed=Job.files_failed + files,
            bytes_failed=Job.bytes_failed + size_bytes,
            directories_failed=Job.directories_failed + sum(task.kind in WALKS | DIRECTORY_WORK for task in ended),
            failure=sa.func.coalesce(Job.failure, stored),
            ended_ms=sa.case((Job.tasks_open == len(ended), database_now_ms(connection)), else_=None),
        )
    )
    return True
