"""Puts tasks off that would not end within their user's session at a site: they wait for a longer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Lane, Task
from wherry_queue.states import TaskState

_TASK: Any = Task.__table__
_PUT_OFF = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"))
    .values(state=TaskState.DELAYED, not_before_ms=sa.bindparam("due_ms"), refused_until_ms=sa.bindparam("until_ms"))
)
_LANE: Any = Lane.__table__
_FEWER = (
    sa.update(_LANE).where(_LANE.c.id == sa.bindparam("lane")).values(pending=_LANE.c.pending - sa.bindparam("fewer"))
)
_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""
_DELAYED = Task.state == sa.literal_column(str(int(TaskState.DELAYED)))
"""As in the index of the tasks of jobs that are delayed: a parameter would keep the index from being used."""
_LEAST_MS = 5_000
"""A session that has ended already parks its lanes within this time."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A ready task, locked, whose user's first session to end does so at `until_ms`."""

    task_id: int
    lane_id: int
    until_ms: int


def put_off(connection: Connection, unfit: Sequence[Unfit], now_ms: int) -> None:
    """Delays tasks until their session's end; before that, a longer session releases them. Their lanes are locked.

    What follows for their users and jobs is written with what else a lease changes of these, in their order.
    """
    connection.execute(
        _PUT_OFF,
        [
            {"task": one.task_id, "until_ms": one.until_ms, "due_ms": max(one.until_ms, now_ms + _LEAST_MS)}
            for one in unfit
        ],
    )
    fewer = Counter(one.lane_id for one in unfit)
    connection.execute(_FEWER, [{"lane": lane_id, "fewer": count} for lane_id, count in sorted(fewer.items())])


def release(connection: Connection, job_ids: Sequence[int], now_ms: int) -> set[int]:
    """Lets tasks of jobs that were put off be looked at again; returns whose there were. Their lanes are locked.

    Tasks say themselves that they were put off. Their job does only as long as nothing else of it runs.
    """
    ordered, found = sorted(job_ids), set[int]()
    for start in range(0, len(ordered), _IDS):
        released = (
            sa.update(Task)
            .where(Task.job_id.in_(ordered[start : start + _IDS]), _DELAYED, Task.not_before_ms > now_ms)
            .where(Task.refused_until_ms > 0)
            .values(not_before_ms=now_ms)
            .returning(Task.job_id)
        )
        found.update(connection.execute(released).scalars())
    return found
