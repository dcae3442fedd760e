"""How far running tasks are, folded by job and replica once a second."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Job, JobProgress


def write_progress(connection: Connection, replica_id: int, progress: Sequence[tuple[int, int, float]]) -> None:
    """Writes (job, bytes moving, bytes per second) of this replica's tasks."""
    now_ms = database_now_ms(connection)
    for job_id, moving, rate in sorted(progress):
        values = {"bytes_moving": moving, "bytes_per_second": rate, "measured_ms": now_ms}
        where = (JobProgress.job_id == job_id, JobProgress.replica_id == replica_id)
        done = connection.execute(sa.update(JobProgress).where(*where).values(values).returning(JobProgress.job_id))
        if done.one_or_none() is None:
            exists = connection.execute(sa.select(Job.id).where(Job.id == job_id)).one_or_none()
            if exists is not None:
                connection.execute(sa.insert(JobProgress).values(job_id=job_id, replica_id=replica_id, **values))


