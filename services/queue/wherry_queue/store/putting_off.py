"""Puts tasks off that would not end within their user's session at a site: they wait for a longer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Job, Lane, Task
from wherry_queue.states import Hold, TaskState, WorkClass
from wherry_queue.store.lanes import count_active

_TASK: Any = Task.__table__
_PUT_OFF = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"))
    .values(state=TaskState.DELAYED, not_before_ms=sa.bindparam("due_ms"), refused_until_ms=sa.bindparam("until_ms"))
)
_LEAST_MS = 5_000
"""A session that has ended already parks its lanes within this time."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A ready task, locked, whose user's first session to end does so at `until_ms`."""

    task_id: int
    lane_id: int
    job_id: int
    until_ms: int


def put_off(connection: Connection, unfit: Sequence[Unfit], now_ms: int) -> None:
    """Delays tasks until their session's end; before that, a longer session releases them. Their lanes are locked."""
    connection.execute(
        _PUT_OFF,
        [
            {"task": one.task_id, "until_ms": one.until_ms, "due_ms": max(one.until_ms, now_ms + _LEAST_MS)}
            for one in unfit
        ],
    )
    active: Counter[tuple[int, WorkClass]] = Counter()
    for lane_id, count in sorted(Counter(one.lane_id for one in unfit).items()):
        row = connection.execute(
            sa.update(Lane)
            .where(Lane.id == lane_id)
            .values(pending=Lane.pending - count)
            .returning(Lane.pending, Lane.user_id, Lane.work_class)
        ).one()
        if row.pending == 0:
            active[row.user_id, WorkClass(row.work_class)] -= 1
    count_active(connection, active)
    for job_id in sorted({one.job_id for one in unfit}):
        connection.execute(sa.update(Job).where(Job.id == job_id).values(hold=Job.hold.op("|")(int(Hold.TOO_SHORT))))


def release(connection: Connection, job_ids: Sequence[int], until_ms: int, now_ms: int) -> list[int]:
    """Lets tasks of jobs be looked at again that were put off for sessions which end before one that there is now.

    Returns the jobs that had any. Those of which nothing is put off any more say so no longer.
    """
    released = []
    for job_id in sorted(job_ids):
        found = connection.execute(
            sa.update(Task)
            .where(Task.job_id == job_id, Task.state == TaskState.DELAYED, Task.not_before_ms > now_ms)
            .where(Task.refused_until_ms > 0, Task.refused_until_ms < until_ms)
            .values(not_before_ms=now_ms)
        )
        if found.rowcount:
            released.append(job_id)
        left = sa.select(Task.id).where(Task.job_id == job_id, Task.state == TaskState.DELAYED)
        left = left.where(Task.not_before_ms > now_ms, Task.refused_until_ms >= until_ms)
        if connection.execute(left.limit(1)).first() is None:
            connection.execute(
                sa.update(Job).where(Job.id == job_id).values(hold=Job.hold.op("&")(~int(Hold.TOO_SHORT)))
            )
    return released
