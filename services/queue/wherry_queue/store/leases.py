"""Gives leases out and takes them back. These statements are the hot ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue import settling
from wherry_queue.fairness import WORK_PER_PRIORITY, Choice, LaneQueue, UserShare, pick
from wherry_queue.growing import path_below
from wherry_queue.models import Job, Lane, Link, Replica, Site, Task, User
from wherry_queue.states import Hold, TaskKind, TaskState, WorkClass, leased_as
from wherry_queue.store import limits
from wherry_queue.store.candidates import Candidate, blocked_users
from wherry_queue.store.lanes import ACTIVE, lock, make_ready
from wherry_queue.store.limits import NO_LIMITS, Defaults
from wherry_queue.store.looking import Refused, correct_empty, look
from wherry_queue.store.settlements import Change, apply_changes, running_tasks

_TASK: Any = Task.__table__
_ASSIGN = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"), _TASK.c.fence == sa.bindparam("its_fence"))
    .where(_TASK.c.state + 0 == int(TaskState.RUNNING))  # it may have been taken back meanwhile
    .values(thumbprint=sa.bindparam("its_thumbprint"))
)
_LANE: Any = Lane.__table__
_SERVE_LANE = (
    sa.update(_LANE)
    .where(_LANE.c.id == sa.bindparam("lane"))
    .values(pending=_LANE.c.pending - sa.bindparam("taken"), head=sa.bindparam("next"), rank=sa.bindparam("new_rank"))
)
_USER: Any = User.__table__
_CHARGE = {
    work_class: sa.update(_USER)
    .where(_USER.c.id == sa.bindparam("user"))
    .values({"vtime": _USER.c.vtime + sa.bindparam("charge"), active.name: active - sa.bindparam("ended")})
    for work_class, active in ACTIVE.items()
}
_JOB: Any = Job.__table__
_BEGIN = (
    sa.update(_JOB)
    .where(_JOB.c.id == sa.bindparam("job"))
    .values(
        tasks_running=_JOB.c.tasks_running + sa.bindparam("more"),
        # What starts now was not put off, or no longer: the job says so only as long as something is.
        hold=_JOB.c.hold.op("&")(~int(Hold.TOO_SHORT)).op("|")(sa.bindparam("reason")),
        started_ms=sa.case(
            (sa.bindparam("more", type_=sa.Integer()) > 0, sa.func.coalesce(_JOB.c.started_ms, sa.bindparam("now"))),
            else_=_JOB.c.started_ms,
        ),
    )
)


@dataclass(frozen=True, slots=True)
class LeasedTask:
    """A task that was leased just now, with what its worker has to know of its job."""

    task_id: int
    fence: int
    job_id: int
    job_uid: str
    user: str
    source_site: str
    destination_site: str
    work_class: WorkClass
    kind: TaskKind
    source_path: bytes
    destination_path: bytes | None
    root: bool
    path_below: bytes
    extraneous: bool
    recursive: bool
    overwrite: int
    options: bytes
    cursor: bytes
    payload: bytes
    entry_count: int
    total_bytes: int
    below: bool
    settled: bytes
    attempt: int
    cleans: str = ""
    cleans_fence: int = 0

    @property
    def name(self) -> str:
        """The task's resource name."""
        return f"jobs/{self.job_uid}/tasks/{self.task_id}"


def lease(
    connection: Connection, replica_id: int, work_class: WorkClass, want: int, defaults: Defaults = NO_LIMITS
) -> list[LeasedTask]:
    """Leases up to `want` tasks of a class to a replica, by fair share and within the limits.

    Two statements before the choice, and that matters under READ COMMITTED: the first locks candidate lanes, the
    second, with a snapshot taken after the locks, reads their tasks. As one statement it would see the lanes' newest
    counts with an older snapshot of the tasks, and strand some.

    A lease needs its replica's row, unexpired: without it nothing is leased.
    """
    now_ms = database_now_ms(connection)
    if (until_ms := _stands_until_ms(connection, replica_id)) is None or until_ms < now_ms:
        return []
    lanes, waiting, refused = look(connection, work_class, want, defaults, now_ms)
    limited = work_class is WorkClass.BULK
    keys = {lane.id: _limits_of(lane) if limited else () for lane in lanes if waiting.get(lane.id)}
    users = {lane.user_id for lane in lanes if lane.id in keys}.union(refused.users)
    rooms = limits.rooms(connection, (key for of_lane in keys.values() for key in of_lane), defaults, users)
    counted = {lane_id: [key for key in of_lane if key in rooms] for lane_id, of_lane in keys.items()}
    queues = [
        LaneQueue(lane.id, lane.user_id, lane.priority, lane.rank, waiting.get(lane.id, ()), counted.get(lane.id, ()))
        for lane in lanes
    ]
    shares = {lane.user_id: UserShare(lane.user_id, lane.vtime, lane.weight) for lane in lanes}
    choice = pick(queues, shares.values(), rooms, want)
    correct_empty(connection, lanes, waiting)
    taken = _take(connection, replica_id, choice, counted)
    _account(connection, lanes, choice, work_class, counted, refused)
    if choice.picked and limited:
        _catch_up(connection, min(shares[picked.user_id].vtime for picked in choice.picked), defaults)
    _begin(connection, taken, refused)
    return _describe(connection, taken)


def _stands_until_ms(connection: Connection, replica_id: int) -> int | None:
    """Returns when a replica's row expires, None if there is none; nobody deletes it before the transaction's end."""
    row = sa.select(Replica.until_ms).where(Replica.id == replica_id).with_for_update(read=True, key_share=True)
    return connection.execute(row).scalar_one_or_none()


def _limits_of(lane: Candidate) -> Sequence[limits.Key]:
    """Returns all limits that could count a lane's tasks."""
    return (
        (limits.Kind.USER, lane.user_id),
        (limits.Kind.SITE_OUT, lane.source_id),
        (limits.Kind.SITE_IN, lane.destination_id),
        (limits.Kind.LINK, lane.link_id),
    )


def _take(
    connection: Connection, replica_id: int, choice: Choice, counted: Mapping[int, Sequence[limits.Key]]
) -> list[Any]:
    """Writes the leases down; what is counted against the same limits, together."""
    by_bits: dict[int, list[int]] = {}
    for picked in choice.picked:
        by_bits.setdefault(int(limits.bits(counted.get(picked.lane_id, ()))), []).append(picked.task_id)
    rows: list[Any] = []
    for its_bits, ids in sorted(by_bits.items()):
        rows += connection.execute(
            sa.update(Task)
            .where(Task.id.in_(ids), Task.state == TaskState.READY)
            .values(
                state=TaskState.RUNNING,
                replica_id=replica_id,
                fence=Task.fence + 1,
                attempt_count=Task.attempt_count + 1,
                counted=its_bits,
            )
            .returning(Task.__table__)
        ).all()
    order = {picked.task_id: place for place, picked in enumerate(choice.picked)}
    return sorted(rows, key=lambda row: order[row.id])


def _account(
    connection: Connection,
    lanes: Sequence[Candidate],
    choice: Choice,
    work_class: WorkClass,
    counted: Mapping[int, Sequence[limits.Key]],
    refused: Refused,
) -> None:
    """Writes the choice into lanes, users and limits, each in the order of their ids."""
    by_lane: dict[int, list[int]] = {}
    charges: dict[int, float] = {user_id: 0.0 for user_id, lanes_ended in refused.users.items() if lanes_ended}
    for picked in choice.picked:
        by_lane.setdefault(picked.lane_id, []).append(picked.task_id)
        charges[picked.user_id] = charges.get(picked.user_id, 0.0) + picked.charge
    taken: Counter[limits.Key] = Counter()
    ended = Counter(lane.user_id for lane in lanes if lane.id in by_lane and lane.pending == len(by_lane[lane.id]))
    ended.update(refused.users)
    for lane_id, ids in by_lane.items():
        for key in counted.get(lane_id, ()):
            taken[key] += len(ids)
    if by_lane:
        connection.execute(
            _SERVE_LANE,
            [
                {"lane": lane_id, "taken": len(ids), "next": max(ids) + 1, "new_rank": choice.ranks[lane_id]}
                for lane_id, ids in sorted(by_lane.items())
            ],
        )
    if charges:
        connection.execute(
            _CHARGE[work_class],
            [
                {"user": user_id, "charge": charge, "ended": ended.get(user_id, 0)}
                for user_id, charge in sorted(charges.items())
            ],
        )
    limits.take(connection, taken)


def _catch_up(connection: Connection, vtime: float, defaults: Defaults) -> None:
    """Moves users whom limits alone hold up to where the others are: such time is not saved up, as idle time is not.

    Else they would have everything to themselves once the limit is lifted, and so would everybody who comes meanwhile,
    who starts where the last of the others is.
    """
    if ids := blocked_users(connection, WorkClass.BULK, vtime - WORK_PER_PRIORITY, defaults):
        connection.execute(sa.update(_USER).where(_USER.c.id.in_(ids)).values(vtime=vtime))


def _begin(connection: Connection, taken: Sequence[Any], refused: Refused) -> None:
    """Counts tasks as running in their jobs, and notes in these that tasks of theirs wait for longer sessions."""
    running = Counter(row.job_id for row in taken)
    now_ms = database_now_ms(connection)
    changes = [
        {
            "job": job_id,
            "more": running[job_id],
            "now": now_ms,
            "reason": int(Hold.TOO_SHORT) if job_id in refused.jobs else 0,
        }
        for job_id in sorted(refused.jobs.union(running))
    ]
    if changes:
        connection.execute(_BEGIN, changes)


def _describe(connection: Connection, taken: Sequence[Any]) -> list[LeasedTask]:
    """Joins the jobs' side."""
    if not taken:
        return []
    source, destination = sa.orm.aliased(Site), sa.orm.aliased(Site)
    jobs = {
        row.id: row
        for row in connection.execute(
            sa.select(
                Job.id,
                Job.uid,
                Job.recursive,
                Job.overwrite,
                Job.options,
                Job.work_class,
                User.name.label("user"),
                source.name.label("source"),
                destination.name.label("destination"),
            )
            .join(User, User.id == Job.user_id)
            .join(Link, Link.id == Job.link_id)
            .join(source, source.id == Link.source_id)
            .join(destination, destination.id == Link.destination_id)
            .where(Job.id.in_({row.job_id for row in taken}))
        )
    }
    return [_leased(row, jobs[row.job_id]) for row in taken]


def _leased(row: Any, job: Any) -> LeasedTask:
    return LeasedTask(
        task_id=row.id,
        fence=row.fence,
        job_id=row.job_id,
        job_uid=job.uid,
        user=job.user,
        # What only a copy's destination has is removed there: to its worker a removal like any other.
        source_site=job.destination if row.extraneous else job.source,
        destination_site=job.destination,
        work_class=leased_as(job.work_class),
        kind=TaskKind(row.kind),
        source_path=row.source_path,
        destination_path=row.destination_path,
        root=row.root,
        path_below=path_below(row.source_path, row.root_length),
        extraneous=row.extraneous,
        recursive=job.recursive,
        overwrite=job.overwrite,
        options=job.options,
        cursor=row.cursor,
        payload=row.payload or b"",
        entry_count=row.entry_count,
        total_bytes=row.total_bytes,
        below=row.below,
        settled=row.settled or b"",
        attempt=row.attempt_count,
        cleans=row.cleans or "",
        cleans_fence=row.cleans_fence or 0,
    )


def assign(connection: Connection, thumbprint: str, refs: Sequence[tuple[int, int]]) -> None:
    """Binds leases, as (task, fence), to the worker whose certificate has the thumbprint, before it gets them."""
    connection.execute(
        _ASSIGN,
        [{"task": task_id, "its_fence": fence, "its_thumbprint": thumbprint} for task_id, fence in sorted(refs)],
    )


def adopt(
    connection: Connection, replica_id: int, held: Sequence[tuple[int, int]], thumbprint: str | None = None
) -> list[LeasedTask]:
    """Takes over leases that a worker brings along; returns those that are still its own."""
    fences = dict(held)
    if _stands_until_ms(connection, replica_id) is None:
        return []  # nobody would ever take them back from it
    rows = connection.execute(
        sa.select(Task.id, Task.fence)
        .where(Task.id.in_(fences), Task.state == TaskState.RUNNING)
        .where(Task.thumbprint == thumbprint if thumbprint is not None else Task.thumbprint.is_(None))
        .order_by(Task.id)
        .with_for_update()
    ).all()
    ids = [row.id for row in rows if fences[row.id] == row.fence]
    if not ids:
        return []
    taken = connection.execute(
        sa.update(Task).where(Task.id.in_(ids)).values(replica_id=replica_id).returning(Task.__table__)
    ).all()
    return _describe(connection, taken)


def running_on(connection: Connection, replica_id: int) -> list[tuple[int, int]]:
    """Returns the (task, fence) of all leases of a replica, as the database has them."""
    rows = connection.execute(
        sa.select(Task.id, Task.fence).where(Task.replica_id == replica_id, Task.state == TaskState.RUNNING)
    )
    return [(row.id, row.fence) for row in rows]


def requeue(
    connection: Connection, replica_id: int, refs: Sequence[tuple[int, int]], *, given: bool = True
) -> set[int]:
    """Takes back leases that have lapsed; returns their jobs. A task settled or leased again meanwhile is left.

    Args:
        given: whether a worker may have had them; a lease that was never given out is no lapse.
    """
    rows = running_tasks(connection, [task_id for task_id, _ in refs])
    again: list[Any] = []
    changes: list[Change] = []
    for task_id, fence in dict(refs).items():
        row = rows.get(task_id)
        if row is None or (row.fence, row.replica_id) != (fence, replica_id):
            continue
        decision = settling.lapse(row, row.lapses + 1) if given else None
        if decision is None and row.job_cancelled:
            decision = settling.Decision(TaskState.CANCELLED, tries=row.tries, settled=row.settled or b"")
        if decision is None:
            again.append(row)
        else:
            behind = _may_leave_behind(row, given=given)
            changes.append(Change(row, decision, row.settled_fence, row.lapses + 1, left_behind=behind))
    if again:
        lock(connection, *(row.job_id for row in again))
        limits.lock_users(connection, {row.user_id for row in (*again, *(change.task for change in changes))})
        ids = [row.id for row in again]
        if given:
            connection.execute(sa.update(Task).where(Task.id.in_(ids)).values(lapses=Task.lapses + 1))
        if left := [row.id for row in again if _may_leave_behind(row, given=given) and not row.left_behind]:
            connection.execute(sa.update(Task).where(Task.id.in_(left)).values(left_behind=True))
        make_ready(connection, ids, TaskState.RUNNING)
    apply_changes(connection, changes, again)
    return {row.job_id for row in again} | {change.task.job_id for change in changes}


def _may_leave_behind(row: Any, *, given: bool) -> bool:
    """Tells whether temporary files of a task whose lease is taken back may lie at its destination.

    A lease that seems to be nobody's may be a worker's all the same, if one was written into it.
    """
    return bool(row.left_behind) or (row.kind == TaskKind.COPY_FILES and (given or row.thumbprint is not None))
