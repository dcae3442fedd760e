"""Has removed what copies left at their destinations, where no further attempt of theirs does it.

A worker that dies leaves temporary files, and one whose attempt ends early keeps those that the next can go on with. As
long as there is a next attempt, they are its business. Once a job has ended there is none, unless it is retried: then a
job that nobody sees is made for its user, with a task for each of those that left something. It is leased as everything
is that is to be removed at one site, and waits for the user's sign-in there. It removes nothing of a later attempt: the
names of temporary files have their task and fence in them, and it goes as far as the task's last fence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.pseudonyms import DELETED
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import NewJob, NewTask
from wherry_queue.models import Job, Link, SignIn, Site, Task, User
from wherry_queue.states import CLEAN_UP, Hold, TaskKind
from wherry_queue.store import retention
from wherry_queue.store.lanes import lock, set_hold
from wherry_queue.store.submission import submit

OPERATION = "clean_up"
_TASKS = 200
"""Of one job in one transaction; where more of its tasks left something, there are further clean-ups."""
_JOBS = 20
_PRIORITY = 0
_LEFT_BEHIND = sa.text("task.left_behind and task.state >= 5")
_IS_CLEAN_UP = sa.text(f"job.work_class = {CLEAN_UP}")
"""As in their indexes; parameters would keep these from being used."""
_DUE = (
    sa.select(Task.job_id)
    .join(Job, Job.id == Task.job_id)
    .where(_LEFT_BEHIND, Job.ended_ms <= sa.bindparam("until_ms"))
    .order_by(Task.job_id)
    .limit(1)
)
_COPY = (
    sa.select(Job.uid, Job.user_id, User.name.label("user"), Site.id.label("site_id"), Site.name.label("site"))
    .join(User, User.id == Job.user_id)
    .join(Link, Link.id == Job.link_id)
    .join(Site, Site.id == Link.destination_id)
    .where(Job.id == sa.bindparam("job"), Job.ended_ms.is_not(None))
)
_LEFT = (
    sa.select(Task.id, Task.fence, Task.destination_path, Task.payload, Task.below)
    .where(Task.job_id == sa.bindparam("job"), _LEFT_BEHIND)
    .order_by(Task.id)
    .limit(_TASKS)
)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """A clean-up that has come to nothing, or is still to be done.

    Attributes:
        cleans: one of the tasks that left something, `jobs/{job}/tasks/{task}`.
        user, site: whose it is, and where, by their names.
        reason: why it failed; empty: it has not.
    """

    job_id: int
    user: str
    site: str
    cleans: str
    reason: str = ""


def make(connection: Connection, grace_ms: int) -> bool:
    """Makes a clean-up for a job that ended `grace_ms` ago and left something; tells whether there was such a job.

    Several replicas may do it at once: whoever has the job's lane takes its tasks' marks off, in the same transaction.
    """
    until_ms = database_now_ms(connection) - grace_ms
    job_id = connection.execute(_DUE, {"until_ms": until_ms}).scalar_one_or_none()
    if job_id is None:
        return False
    # Whoever opens a job again locks its lane first: then its next attempts remove what is there.
    lock(connection, job_id)
    job = connection.execute(_COPY, {"job": job_id}).one_or_none()
    left = connection.execute(_LEFT, {"job": job_id}).all()
    if job is None or not left:
        return True
    connection.execute(sa.update(Task).where(Task.id.in_([row.id for row in left])).values(left_behind=False))
    if not job.user.startswith(f"users/{DELETED}"):  # nobody has a credential any more to go there with
        _submit(connection, job, [_task(job.uid, row) for row in left])
    return True


def _task(uid: str, row: Any) -> NewTask:
    return NewTask(
        TaskKind.REMOVE_TEMPORARIES,
        row.destination_path,
        payload=row.payload if row.below else None,
        cleans=f"jobs/{uid}/tasks/{row.id}",
        cleans_fence=row.fence,
    )


def _submit(connection: Connection, job: Any, tasks: list[NewTask]) -> None:
    new = NewJob(
        user=job.user,
        source_site=job.site,
        destination_site=job.site,
        operation=OPERATION,
        specification=b"",
        tasks=tasks,
        priority=_PRIORITY,
        clean_up=True,
    )
    made, _ = submit(connection, new)
    until_ms = connection.execute(
        sa.select(SignIn.until_ms).where(SignIn.user_id == job.user_id, SignIn.site_id == job.site_id)
    ).scalar_one_or_none()
    if until_ms is not None and until_ms <= database_now_ms(connection):
        set_hold(connection, [made], add=Hold.SOURCE_SIGN_IN)


def overdue(connection: Connection, age_ms: int) -> list[CleanUp]:
    """Returns clean-ups made `age_ms` ago that have not ended, nor run now, a few at a time; to be given up."""
    old = Job.created_ms < database_now_ms(connection) - age_ms
    return _clean_ups(connection, [old, Job.ended_ms.is_(None), Job.tasks_running == 0, ~Job.cancelled])


def sweep(connection: Connection, age_ms: int) -> list[CleanUp]:
    """Deletes clean-ups that ended `age_ms` ago, a few at a time; returns them."""
    ended = [Job.ended_ms < database_now_ms(connection) - age_ms]
    jobs = [one.job_id for one in _clean_ups(connection, ended)]
    if not jobs:
        return []
    lock(connection, *jobs)
    gone = _clean_ups(connection, [*ended, Job.id.in_(jobs)])
    jobs = [one.job_id for one in gone]
    while retention.empty(connection, jobs):
        pass
    connection.execute(sa.delete(Job).where(Job.id.in_(jobs)))
    return gone


def _clean_ups(connection: Connection, conditions: Iterable[sa.ColumnElement[bool]]) -> list[CleanUp]:
    some = (
        sa.select(
            Job.id, Job.failure, User.name.label("user"), Site.name.label("site"),
            sa.select(sa.func.min(Task.cleans)).where(Task.job_id == Job.id).scalar_subquery().label("cleans"),
        )
        .join(User, User.id == Job.user_id)
        .join(Link, Link.id == Job.link_id)
        .join(Site, Site.id == Link.source_id)
        .where(_IS_CLEAN_UP, *conditions)
        .order_by(Job.created_ms)
        .limit(_JOBS)
    )  # fmt: skip
    return [
        CleanUp(row.id, row.user, row.site, row.cleans or "", str((row.failure or {}).get("reason", "")))
        for row in connection.execute(some)
    ]
