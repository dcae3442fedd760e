"""Lanes: how much of them is ready, why they are held, and with that who is active in the fair share.

Locks are taken in the order lane, running task, user, site, link, job, by ascending id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Job, Lane, Task, User
from wherry_queue.states import Hold, TaskState, WorkClass

_IDS = 500
"""So many in a statement: there is a bound to a statement's parameters."""

_LANE: Any = Lane.__table__
_USER: Any = User.__table__
_TASK: Any = Task.__table__
_JOB: Any = Job.__table__
_LOCK = (
    sa.select(_LANE.c.id, _LANE.c.job_id, _LANE.c.user_id, _LANE.c.work_class, _LANE.c.pending, _LANE.c.hold)
    .order_by(_LANE.c.id)
    # No key changes: whoever inserts a row that refers to a lane need not wait, nor have the lane passed over.
    .with_for_update(key_share=True)
)
_LOCK_LANES = _LOCK.where(_LANE.c.id.in_(sa.bindparam("ids", expanding=True)))
_LOCK_OF_JOBS = _LOCK.where(_LANE.c.job_id.in_(sa.bindparam("ids", expanding=True)))
_ADD_PENDING = (
    sa.update(_LANE)
    .where(_LANE.c.id == sa.bindparam("lane"))
    .values(
        pending=_LANE.c.pending + sa.bindparam("more"),
        head=sa.case((_LANE.c.head > sa.bindparam("first"), sa.bindparam("first")), else_=_LANE.c.head),
    )
)
_SET_HOLD = sa.update(_LANE).where(_LANE.c.id == sa.bindparam("lane")).values(hold=sa.bindparam("new_hold"))
_HOLD_JOB = (
    sa.update(_JOB)
    .where(_JOB.c.id == sa.bindparam("job"))
    .values(hold=_JOB.c.hold.op("&")(sa.bindparam("kept")).op("|")(sa.bindparam("new_hold")))
)
_EMPTY = sa.update(_LANE).where(_LANE.c.id == sa.bindparam("lane")).values(pending=0)
_MAKE_READY = (
    sa.update(_TASK)
    .where(_TASK.c.id.in_(sa.bindparam("ids", expanding=True)), _TASK.c.state == sa.bindparam("its_state"))
    .values(state=TaskState.READY, not_before_ms=None, replica_id=None, thumbprint=None, counted=0)
    .returning(_TASK.c.id, _TASK.c.lane_id)
)
_LANES_OF = sa.select(_TASK.c.lane_id).where(_TASK.c.id.in_(sa.bindparam("ids", expanding=True))).distinct()
ACTIVE = {WorkClass.INTERACTIVE: _USER.c.active_interactive, WorkClass.BULK: _USER.c.active_bulk}
"""Where the lanes of a class with something to lease are counted, by user."""
_LEAST = [sa.select(sa.func.min(_USER.c.vtime)).where(active > 0) for active in ACTIVE.values()]
_GREATEST = sa.select(sa.func.max(_USER.c.vtime))


def add_pending(connection: Connection, ready: Mapping[int, Sequence[int]]) -> None:
    """Counts tasks, by lane, that have become ready; call after their rows are written."""
    ready = {lane_id: ids for lane_id, ids in ready.items() if ids}
    if not ready:
        return
    active: Counter[tuple[int, WorkClass]] = Counter()
    for lane in _locked(connection, _LOCK_LANES, list(ready)):
        if lane.pending == 0 and lane.hold == 0:
            active[lane.user_id, WorkClass(lane.work_class)] += 1
    connection.execute(
        _ADD_PENDING,
        [{"lane": lane_id, "more": len(ids), "first": min(ids)} for lane_id, ids in sorted(ready.items())],
    )
    count_active(connection, active)


def count_active(connection: Connection, lanes: Mapping[tuple[int, WorkClass], int]) -> None:
    """Counts lanes, by user and class, that have come to have something to lease, or (negative) no longer have.

    A user who becomes active starts at `starting_vtime` at least: idle time is not saved up.
    """
    by_user: dict[int, dict[WorkClass, int]] = {}
    for (user_id, work_class), more in lanes.items():
        if more:
            by_user.setdefault(user_id, {})[work_class] = more
    for user_id, changes in sorted(by_user.items()):
        values: dict[str, Any] = {
            ACTIVE[work_class].name: ACTIVE[work_class] + more for work_class, more in changes.items()
        }
        if max(changes.values()) > 0:
            start = starting_vtime(connection)
            idle = sa.and_(*(active == 0 for active in ACTIVE.values()), _USER.c.vtime < start)
            values["vtime"] = sa.case((idle, start), else_=_USER.c.vtime)
        connection.execute(sa.update(_USER).where(_USER.c.id == user_id).values(values))


def starting_vtime(connection: Connection) -> float:
    """Returns the virtual time at which a user begins who comes now: the least of those with something to lease.

    Where nobody has any, it is the greatest of all. Else who has done much while nobody else was there would have to
    wait, later, until everybody who has come since has done as much.
    """
    found = [vtime for query in _LEAST if (vtime := connection.execute(query).scalar_one()) is not None]
    return float(min(found) if found else connection.execute(_GREATEST).scalar_one() or 0.0)


def set_hold(
    connection: Connection, job_ids: Collection[int], *, add: Hold = Hold.NOTHING, remove: Hold = Hold.NOTHING
) -> list[int]:
    """Holds jobs' lanes for a reason, or no longer for one; returns the jobs whose lanes that changes."""
    return change_holds(connection, dict.fromkeys(job_ids, (add, remove)))


def change_holds(connection: Connection, changes: Mapping[int, tuple[Hold, Hold]]) -> list[int]:
    """Does the same for several reasons at once; returns the jobs whose lanes that changes.

    All in one go, since whoever locks some users and then more lanes waits for one who has these lanes.

    Args:
        changes: what comes and what goes, by job. TOO_SHORT, which is of jobs alone, can only go.
    """
    active: Counter[tuple[int, WorkClass]] = Counter()
    changed: set[int] = set()
    of_lanes: list[dict[str, int]] = []
    of_jobs: dict[int, dict[str, int]] = {}
    for lane in _locked(connection, _LOCK_OF_JOBS, changes):
        add, remove = changes[lane.job_id]
        hold = int((lane.hold | add) & ~remove)
        kept = Hold.NOTHING if remove & Hold.TOO_SHORT else Hold.TOO_SHORT
        if hold != lane.hold or not kept:
            of_jobs[lane.job_id] = {"job": lane.job_id, "new_hold": hold, "kept": int(kept)}
        if hold == lane.hold:
            continue
        of_lanes.append({"lane": lane.id, "new_hold": hold})
        changed.add(lane.job_id)
        if lane.pending:
            active[lane.user_id, WorkClass(lane.work_class)] += (hold == 0) - (lane.hold == 0)
    if of_lanes:
        connection.execute(_SET_HOLD, of_lanes)
        count_active(connection, active)
    if of_jobs:
        connection.execute(_HOLD_JOB, [values for _, values in sorted(of_jobs.items())])
    return sorted(changed)


def empty(connection: Connection, job_id: int, hold: Hold) -> None:
    """Holds a job's lanes, and counts nothing of them as ready any more: their tasks are about to be ended."""
    active: Counter[tuple[int, WorkClass]] = Counter()
    lanes = _locked(connection, _LOCK_OF_JOBS, [job_id])
    for lane in lanes:
        if lane.pending and lane.hold == 0:
            active[lane.user_id, WorkClass(lane.work_class)] -= 1
        connection.execute(_SET_HOLD, {"lane": lane.id, "new_hold": int(lane.hold | hold)})
        connection.execute(_EMPTY, {"lane": lane.id})
    count_active(connection, active)


def lock(connection: Connection, *job_ids: int) -> Sequence[Any]:
    """Locks jobs' lanes, as everything does that changes which of their tasks are ready; returns them."""
    return _locked(connection, _LOCK_OF_JOBS, job_ids)


def make_ready(connection: Connection, task_ids: Sequence[int], state: TaskState) -> int:
    """Makes tasks ready that are in a state still, and counts them; returns how many.

    Lanes are locked before tasks, as cancelling does: the other way round the two would wait for each other.
    """
    slices = [sorted(task_ids)[start : start + _IDS] for start in range(0, len(task_ids), _IDS)]
    lanes: set[int] = set()
    for ids in slices:
        lanes.update(connection.execute(_LANES_OF, {"ids": ids}).scalars())
    _locked(connection, _LOCK_LANES, lanes)
    by_lane: dict[int, list[int]] = {}
    for ids in slices:
        for row in connection.execute(_MAKE_READY, {"ids": ids, "its_state": state}):
            by_lane.setdefault(row.lane_id, []).append(row.id)
    add_pending(connection, by_lane)
    return sum(len(ids) for ids in by_lane.values())


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


def _locked(connection: Connection, query: sa.Select[Any], ids: Collection[int]) -> Sequence[Any]:
    ordered = sorted(set(ids))
    rows: list[Any] = []
    for start in range(0, len(ordered), _IDS):
        rows += connection.execute(query, {"ids": ordered[start : start + _IDS]}).all()
    return rows
