"""Opens the phases of jobs one after the other: a phase begins when all tasks of the ones before have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.jobs import EXTRANEOUS_PHASE
from wherry_queue.models import EntryFailure, Job, Json, Task
from wherry_queue.settling import Failure
from wherry_queue.states import WALKS, TaskKind, TaskState, first_state
from wherry_queue.store.lanes import lock, make_ready

_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""
_KEPT = Failure(
    "EXTRANEOUS_KEPT",
    "What only the destination has was left there, since not everything could be copied.",
    party=1,
    help="Mend what the other failures say, then retry the job: it is removed when nothing has failed.",
)


def open_next_phase(connection: Connection, job_id: int) -> bool:
    """Opens a job's next phase if all tasks of the ones before have ended; tells whether it did. Safe to repeat.

    What only the destination has is not removed where anything has failed: its tasks end without having begun. Of a
    dry run phases with nothing but planned tasks are passed over.
    """
    lock(connection, job_id)
    opened = False
    while _open_one(connection, job_id):
        opened = True
    return opened


def phases_due(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """Returns those of the jobs whose current phase has ended, and that have more; nothing is locked for it."""
    due: list[int] = []
    for start in range(0, len(job_ids), _IDS):
        query = sa.select(Job.id).where(Job.id.in_(job_ids[start : start + _IDS]), ~Job.cancelled)
        due += connection.execute(query.where(Job.phase_open == 0, Job.tasks_open > 0)).scalars()
    return due


def stalled_jobs(connection: Connection) -> list[int]:
    """Returns jobs whose next phase has not been opened, as after a crash between a settlement and its opening."""
    return list(
        connection.execute(sa.select(Job.id).where(Job.phase_open == 0, Job.tasks_open > 0, ~Job.cancelled)).scalars()
    )


def _open_one(connection: Connection, job_id: int) -> bool:
    job = connection.execute(
        sa.select(Job.phase_open, Job.tasks_open, Job.cancelled, Job.tasks_failed, Job.dry_run).where(Job.id == job_id)
    ).one_or_none()
    if job is None or job.cancelled or job.phase_open > 0 or job.tasks_open == 0:
        return False
    phase = connection.execute(
        sa.select(sa.func.min(Task.phase)).where(Task.job_id == job_id, Task.state == TaskState.BLOCKED)
    ).scalar_one()
    if phase is None:
        return False
    if phase == EXTRANEOUS_PHASE and job.tasks_failed:
        _leave_extraneous(connection, job_id)
        return True
    rows = connection.execute(
        sa.select(Task.id, Task.kind).where(Task.job_id == job_id, Task.state == TaskState.BLOCKED, Task.phase == phase)
    ).all()
    ready = [row for row in rows if _begins(row, phase, dry_run=job.dry_run) is TaskState.READY]
    opened = make_ready(connection, [row.id for row in ready], TaskState.BLOCKED)
    planned = len(rows) - len(ready)
    if planned:
        of_phase = (Task.job_id == job_id, Task.state == TaskState.BLOCKED, Task.phase == phase)
        connection.execute(sa.update(Task).where(*of_phase).values(state=TaskState.PLANNED))
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            phase=phase,
            phase_open=opened,
            tasks_open=Job.tasks_open - planned,
            walks_open=Job.walks_open + sum(row.kind in WALKS for row in ready),
            ended_ms=sa.case((Job.tasks_open == planned, database_now_ms(connection)), else_=Job.ended_ms),
        )
    )
    return True


def _begins(row: Any, phase: int, *, dry_run: bool) -> TaskState:
    return first_state(TaskKind(row.kind), phase, open_phase=phase, dry_run=dry_run)


def _leave_extraneous(connection: Connection, job_id: int) -> None:
    """Ends what would remove what only the destination has; nothing but that waits any more."""
    ended = connection.execute(
        sa.update(Task)
        .where(Task.job_id == job_id, Task.state == TaskState.BLOCKED)
        .values(state=TaskState.CANCELLED, failure=sa.literal(_KEPT.as_json(), type_=Json))
        .returning(Task.id, Task.source_path)
    ).all()
    first = min(ended, key=lambda task: task.id)
    # One row says it for all: there may be as many as the destination has directories.
    connection.execute(
        sa.insert(EntryFailure).values(
            job_id=job_id, task_id=first.id, entry_index=-1, path=first.source_path, failure=_KEPT.as_json()
        )
    )
    connection.execute(
        sa.update(Job)
        .where(Job.id == job_id)
        .values(
            phase=EXTRANEOUS_PHASE,
            tasks_open=Job.tasks_open - len(ended),
            tasks_cancelled=Job.tasks_cancelled + len(ended),
            ended_ms=sa.case((Job.tasks_open == len(ended), database_now_ms(connection)), else_=Job.ended_ms),
        )
    )
