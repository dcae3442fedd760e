"""Lanes' counts, and with them who is active in the fair share."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Job, Lane, Task, User
from wherry_queue.states import TaskState


def add_pending(connection: Connection, lane_id: int, ready: int, first_id: int) -> None:
    """Counts tasks that have become ready; call after their rows are written.

    A user who becomes active starts at the least virtual time of those who are: idle time is not saved up.
    """
    if not ready:
        return
    head = sa.case((Lane.head > first_id, first_id), else_=Lane.head)
    row = connection.execute(
        sa.update(Lane)
        .where(Lane.id == lane_id)
        .values(pending=Lane.pending + ready, head=head)
        .returning(Lane.pending, Lane.user_id)
    ).one()
    if row.pending == ready:
        activate(connection, row.user_id)


def activate(connection: Connection, user_id: int) -> None:
    """Counts one more lane with work for a user."""
    least = connection.execute(
        sa.select(sa.func.min(User.vtime)).where(User.active_lanes > 0, User.id != user_id)
    ).scalar_one()
    vtime: sa.ColumnElement[float] = sa.type_coerce(User.vtime, sa.Double)
    if least is not None:
        vtime = sa.case((sa.and_(User.active_lanes == 0, User.vtime < least), least), else_=User.vtime)
    connection.execute(
        sa.update(User).where(User.id == user_id).values(active_lanes=User.active_lanes + 1, vtime=vtime)
    )


def make_ready(connection: Connection, task_ids: Sequence[int], state: TaskState) -> int:
    """Makes tasks ready that are in a state still, and counts them; returns how many.

    Lanes are locked before tasks, as cancelling does: the other way round the two would wait for each other.
    """
    if not task_ids:
        return 0
    lanes = sa.select(Task.lane_id).where(Task.id.in_(task_ids)).distinct()
    connection.execute(sa.select(Lane.id).where(Lane.id.in_(lanes)).order_by(Lane.id).with_for_update())
    rows = connection.execute(
        sa.update(Task)
        .where(Task.id.in_(task_ids), Task.state == state)
        .values(state=TaskState.READY, not_before_ms=None, replica_id=None, thumbprint=None)
        .returning(Task.id, Task.lane_id)
    ).all()
    by_lane: dict[int, list[int]] = {}
    for row in rows:
        by_lane.setdefault(row.lane_id, []).append(row.id)
    for lane_id, ids in sorted(by_lane.items()):
        add_pending(connection, lane_id, len(ids), min(ids))
    return len(rows)


def release_delayed(connection: Connection, now_ms: int, limit: int = 1000) -> int:
    """Makes ready what has waited long enough; returns how many."""
    due = (
        sa.select(Task.id)
        .where(Task.state == TaskState.DELAYED, Task.not_before_ms <= now_ms)
        .order_by(Task.not_before_ms)
        .limit(limit)
    )
    return make_ready(connection, connection.execute(due).scalars().all(), TaskState.DELAYED)


def next_release_ms(connection: Connection) -> int | None:
    """Returns when the next delayed task is due."""
    due = connection.execute(
        sa.select(sa.func.min(Task.not_before_ms)).where(Task.state == TaskState.DELAYED)
    ).scalar_one()
    return None if due is None else int(due)


def open_next_phase(connection: Connection, job_id: int) -> bool:
    """Opens a job's next phase if all tasks of the ones before have ended; tells whether it did. Safe to repeat."""
    connection.execute(sa.select(Lane.id).where(Lane.job_id == job_id).order_by(Lane.id).with_for_update())
    job = connection.execute(
        sa.select(Job.phase_open, Job.tasks_open, Job.cancelled).where(Job.id == job_id).with_for_update()
    ).one_or_none()
    if job is None or job.cancelled or job.phase_open > 0 or job.tasks_open == 0:
        return False
    phase = connection.execute(
        sa.select(sa.func.min(Task.phase)).where(Task.job_id == job_id, Task.state == TaskState.BLOCKED)
    ).scalar_one()
    if phase is None:
        return False
    ids = (
        connection.execute(
            sa.select(Task.id).where(Task.job_id == job_id, Task.state == TaskState.BLOCKED, Task.phase == phase)
        )
        .scalars()
        .all()
    )
    opened = make_ready(connection, ids, TaskState.BLOCKED)
    connection.execute(sa.update(Job).where(Job.id == job_id).values(phase=phase, phase_open=opened))
    return True


def stalled_jobs(connection: Connection) -> list[int]:
    """Returns jobs whose next phase has not been opened, as after a crash between a settlement and its opening."""
    return list(
        connection.execute(sa.select(Job.id).where(Job.phase_open == 0, Job.tasks_open > 0, ~Job.cancelled)).scalars()
    )
