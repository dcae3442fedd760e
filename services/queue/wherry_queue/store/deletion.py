"""What goes, and what changes its name, when somebody's account is deleted.

At once its jobs are cancelled and a pseudonym takes the user's place. What the jobs were about goes as soon as they
have ended: tasks, attempts with their logs, failures, what was asked for. That there was work stays until its retention
is over: a job's times and counters, and what operators did.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.pseudonyms import DELETED, random_pseudonym

from wherry_queue.models import AuditEntry, Ban, Job, Lane, SignIn, StagedCopy, User
from wherry_queue.states import WorkClass
from wherry_queue.store import control, retention, staging
from wherry_queue.store.lanes import lock

_DELETED = f"users/{DELETED}"
_USERS = 100
_JOBS = 200
"""Looked at in one transaction."""
_HAS_LANE = sa.select(Lane.id).where(Lane.job_id == Job.id).exists()
"""Of a job: its lane goes last of all that it has."""
_HAS_WORK = sa.select(Job.id).where(Job.user_id == User.id, _HAS_LANE).exists()


def forget_user(connection: Connection, user: str) -> list[int]:
    """Cancels all jobs of a deleted user and puts a pseudonym in the user's place; safe to repeat.

    What is left of the jobs is `sweep`'s. A job that came in just as the user was renamed is found the next time.

    Args:
        connection: in a transaction.
        user: `users/{user}`.

    Returns:
        The ids of the jobs that had not ended: what runs of them is the dispatcher's to stop.
    """
    renamed = sa.select(User.id).where(sa.or_(User.name == user, User.name.startswith(_DELETED)))
    open_jobs = sa.select(Job.id).where(Job.ended_ms.is_(None), Job.user_id.in_(renamed))
    # All lanes before anything else, in their order: each job's cancellation goes on to lock its user.
    connection.execute(sa.select(Lane.id).where(Lane.job_id.in_(open_jobs)).order_by(Lane.id).with_for_update()).all()
    job_ids = [int(job_id) for job_id in connection.execute(open_jobs.order_by(Job.id)).scalars()]
    for job_id in job_ids:
        control.cancel_job(connection, job_id)
    pseudonym = f"users/{random_pseudonym()}"
    user_id = connection.execute(
        sa.update(User).where(User.name == user).values(name=pseudonym).returning(User.id)
    ).scalar_one_or_none()
    if user_id is not None:
        connection.execute(sa.delete(SignIn).where(SignIn.user_id == user_id))
        # What clients call their requests may be anything, names of people among it.
        connection.execute(
            sa.update(Job).where(Job.user_id == user_id, Job.request_id.is_not(None)).values(request_id=None)
        )
    for copy_id in connection.execute(sa.select(StagedCopy.id).where(StagedCopy.user_id.in_(renamed))).scalars().all():
        staging.forget(connection, copy_id)
    connection.execute(
        sa.update(User).where(User.name.startswith(_DELETED), ~User.leaving, _HAS_WORK).values(leaving=True)
    )
    connection.execute(sa.delete(Ban).where(Ban.subject == user))
    connection.execute(sa.update(AuditEntry).where(AuditEntry.subject == user).values(subject=pseudonym))
    return job_ids


def sweep(connection: Connection) -> int:
    """Takes from the ended jobs of deleted users all that says what they were about, a few at a time.

    Returns how many things; 0: nothing is left.
    """
    # First by themselves, by their index: there are hardly ever any, and there may be millions of jobs.
    leaving = connection.execute(sa.select(User.id).where(sa.text("leaving")).limit(_USERS)).scalars().all()
    if not leaving:
        return 0
    ended = sa.select(Job.id).where(Job.user_id.in_(leaving), Job.ended_ms.is_not(None), _HAS_LANE)
    found = connection.execute(ended.order_by(Job.id).limit(_JOBS)).scalars().all()
    if not found:
        connection.execute(sa.update(User).where(User.id.in_(leaving), ~_HAS_WORK).values(leaving=False))
        return 0
    lock(connection, *found)
    if more := retention.empty(connection, found):
        return more
    connection.execute(sa.delete(Job).where(Job.id.in_(found), Job.work_class != WorkClass.BULK))
    nothing = {"specification": b"", "options": b"", "summary": None, "request_id": None, "failure": None}
    connection.execute(sa.update(Job).where(Job.id.in_(found)).values(nothing))
    return len(found)
