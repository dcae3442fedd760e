"""What goes, and what changes its name, when somebody's account is deleted."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import AuditEntry, Ban, Job, Lane, SignIn, User
from wherry_queue.store import control

_DELETED = "users/deleted-"


def forget_user(connection: Connection, user: str) -> list[int]:
    """Cancels all jobs of a deleted user and puts a pseudonym in the user's place; safe to repeat.

    The jobs stay as they are otherwise, until their retention is over: paths and failures are needed by what runs, and
    say nothing of whose they were. A job that came in just as the user was renamed is found the next time.

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
    pseudonym = f"{_DELETED}{secrets.token_hex(12)}"
    user_id = connection.execute(
        sa.update(User).where(User.name == user).values(name=pseudonym).returning(User.id)
    ).scalar_one_or_none()
    if user_id is not None:
        connection.execute(sa.delete(SignIn).where(SignIn.user_id == user_id))
        # What clients call their requests may be anything, names of people among it.
        connection.execute(
            sa.update(Job).where(Job.user_id == user_id, Job.request_id.is_not(None)).values(request_id=None)
        )
    connection.execute(sa.delete(Ban).where(Ban.subject == user))
    connection.execute(sa.update(AuditEntry).where(AuditEntry.subject == user).values(subject=pseudonym))
    return job_ids
