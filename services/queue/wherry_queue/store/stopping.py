"""Which jobs have tasks that run and shall not, and why."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Job, Task
from wherry_queue.states import Hold, TaskState, stop_reason

_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""


def to_stop(connection: Connection, replica_id: int) -> dict[int, str]:
    """Returns the jobs that have tasks running under a replica and shall not, with the reason; whoever said so."""
    rows = connection.execute(
        sa.select(Job.id, Job.cancelled, Job.hold)
        .join(Task, Task.job_id == Job.id)
        .where(Task.replica_id == replica_id, Task.state == TaskState.RUNNING, sa.or_(Job.cancelled, Job.hold != 0))
        .distinct()
    )
    found = {row.id: stop_reason(Hold(row.hold), cancelled=row.cancelled) for row in rows}
    return {job_id: reason for job_id, reason in found.items() if reason}


def reasons_to_stop(connection: Connection, job_ids: Collection[int]) -> dict[int, str]:
    """Returns those of the jobs whose tasks shall not run, with the reason."""
    found: dict[int, str] = {}
    ordered = sorted(job_ids)
    for start in range(0, len(ordered), _IDS):
        query = sa.select(Job.id, Job.cancelled, Job.hold).where(Job.id.in_(ordered[start : start + _IDS]))
        for row in connection.execute(query):
            found[row.id] = stop_reason(Hold(row.hold), cancelled=row.cancelled)
    return {job_id: reason for job_id, reason in found.items() if reason}
