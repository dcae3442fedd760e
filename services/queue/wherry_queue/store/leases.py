"""Gives leases out and takes them back. These statements are the hot ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue import settling
from wherry_queue.fairness import LaneQueue, Picked, UserShare, Waiting, pick, work
from wherry_queue.models import Job, Lane, Link, Replica, Site, Task, User
from wherry_queue.states import TaskKind, TaskState, WorkClass
from wherry_queue.store.lanes import make_ready
from wherry_queue.store.settlements import Change, apply_changes, free_links, running_tasks

_TASK: Any = Task.__table__
_ASSIGN = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"), _TASK.c.fence == sa.bindparam("its_fence"))
    .values(thumbprint=sa.bindparam("its_thumbprint"))
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
    recursive: bool
    overwrite: int
    cursor: bytes
    payload: bytes
    entry_count: int
    total_bytes: int
    settled: bytes
    attempt: int

    @property
    def name(self) -> str:
        """The task's resource name."""
        return f"jobs/{self.job_uid}/tasks/{self.task_id}"


def lease(connection: Connection, replica_id: int, work_class: WorkClass, want: int) -> list[LeasedTask]:
    """Leases up to `want` tasks of a class to a replica, by fair share.

    Two statements before the choice, and that matters under READ COMMITTED: the first locks candidate lanes, the
    second, with a snapshot taken after the locks, reads their tasks. As one statement it would see the lanes' newest
    counts with an older snapshot of the tasks, and strand some.

    A lease needs its replica's row, unexpired: without it nothing is leased.
    """
    until_ms = connection.execute(sa.select(Replica.until_ms).where(Replica.id == replica_id)).scalar_one_or_none()
    if until_ms is None or until_ms < database_now_ms(connection):
        return []
    lanes = connection.execute(
        sa.select(
            Lane.id,
            Lane.user_id,
            Lane.link_id,
            Lane.priority,
            Lane.head,
            Lane.pending,
            User.vtime,
            User.weight,
            Link.cap,
            Link.inflight,
        )
        .join(User, User.id == Lane.user_id)
        .join(Link, Link.id == Lane.link_id)
        .where(Lane.work_class == work_class, Lane.runnable, Lane.pending > 0)
        .where(sa.or_(Link.cap.is_(None), Link.inflight < Link.cap, Lane.work_class == WorkClass.INTERACTIVE))
        .order_by(User.vtime, Lane.priority.desc(), Lane.id)
        .limit(max(want, 16))
        .with_for_update(of=Lane, skip_locked=True)
    ).all()
    if not lanes:
        return []
    limited = work_class is WorkClass.BULK
    rooms = {row.link_id: row.cap - row.inflight for row in lanes if row.cap is not None and limited}
    waiting = _heads(connection, lanes, want)
    picked = pick(
        [LaneQueue(row.id, row.user_id, row.link_id, row.priority, waiting.get(row.id, ())) for row in lanes],
        {row.user_id: UserShare(row.user_id, row.vtime, row.weight) for row in lanes}.values(),
        rooms,
        want,
    )
    _correct_empty(connection, lanes, waiting)
    if not picked:
        return []
    taken = _take(connection, replica_id, picked)
    _account(connection, lanes, picked, limited=limited)
    return _describe(connection, taken, work_class)


def _heads(connection: Connection, lanes: Sequence[Any], want: int) -> dict[int, list[Waiting]]:
    """Returns the first ready tasks of each lane, locked."""
    columns = (Task.id, Task.lane_id, Task.entry_count, Task.total_bytes)
    found: dict[int, list[Waiting]] = {}
    if connection.dialect.name == "postgresql":
        candidates = sa.select(Lane.id, Lane.head).where(Lane.id.in_([row.id for row in lanes])).subquery()
        heads = (
            sa.select(*columns)
            .where(Task.lane_id == candidates.c.id, Task.state == TaskState.READY, Task.id >= candidates.c.head)
            .order_by(Task.id)
            .limit(want)
            .with_for_update(skip_locked=True)
            .lateral()
        )
        rows: Iterable[Any] = connection.execute(sa.select(heads).select_from(candidates.join(heads, sa.true())))
    else:
        rows = (
            row
            for lane in lanes
            for row in connection.execute(
                sa.select(*columns)
                .where(Task.lane_id == lane.id, Task.state == TaskState.READY, Task.id >= lane.head)
                .order_by(Task.id)
                .limit(want)
            )
        )
    for row in rows:
        found.setdefault(row.lane_id, []).append(Waiting(row.id, work(row.entry_count, row.total_bytes)))
    return found


def _correct_empty(connection: Connection, lanes: Sequence[Any], waiting: dict[int, list[Waiting]]) -> None:
    """Looks again from the beginning at a lane that counts tasks and shows none, so that nothing can be stranded."""
    suspect = [row.id for row in lanes if not waiting.get(row.id) and row.head > 0]
    if suspect:
        connection.execute(sa.update(Lane).where(Lane.id.in_(suspect)).values(head=0))


def _take(connection: Connection, replica_id: int, picked: Sequence[Picked]) -> list[Any]:
    rows = connection.execute(
        sa.update(Task)
        .where(Task.id.in_([choice.task_id for choice in picked]), Task.state == TaskState.READY)
        .values(
            state=TaskState.RUNNING,
            replica_id=replica_id,
            fence=Task.fence + 1,
            attempt_count=Task.attempt_count + 1,
        )
        .returning(Task.__table__)
    ).all()
    order = {choice.task_id: place for place, choice in enumerate(picked)}
    return sorted(rows, key=lambda row: order[row.id])


def _account(connection: Connection, lanes: Sequence[Any], picked: Sequence[Picked], *, limited: bool) -> None:
    """Writes the choice into lanes, users and links, each in the order of their ids."""
    pending = {row.id: row.pending for row in lanes}
    by_lane: dict[int, list[int]] = {}
    charges: dict[int, float] = {}
    ended_lanes: dict[int, int] = {}
    by_link: dict[int, int] = {}
    for choice in picked:
        by_lane.setdefault(choice.lane_id, []).append(choice.task_id)
        charges[choice.user_id] = charges.get(choice.user_id, 0.0) + choice.charge
        by_link[choice.link_id] = by_link.get(choice.link_id, 0) + 1
    users = {row.id: row.user_id for row in lanes}
    for lane_id, ids in sorted(by_lane.items()):
        if pending[lane_id] == len(ids):
            ended_lanes[users[lane_id]] = ended_lanes.get(users[lane_id], 0) + 1
    table: Any = Lane.__table__
    connection.execute(
        sa.update(table)
        .where(table.c.id == sa.bindparam("lane"))
        .values(pending=table.c.pending - sa.bindparam("taken"), head=sa.bindparam("next")),
        [{"lane": lane_id, "taken": len(ids), "next": max(ids) + 1} for lane_id, ids in sorted(by_lane.items())],
    )
    table = User.__table__
    connection.execute(
        sa.update(table)
        .where(table.c.id == sa.bindparam("user"))
        .values(
            vtime=table.c.vtime + sa.bindparam("charge"), active_lanes=table.c.active_lanes - sa.bindparam("ended")
        ),
        [
            {"user": user_id, "charge": charge, "ended": ended_lanes.get(user_id, 0)}
            for user_id, charge in sorted(charges.items())
        ],
    )
    # Only limited links are counted: an unlimited one would be a lock that everybody waits for, for nothing.
    capped = {row.link_id for row in lanes if row.cap is not None} if limited else set()
    for link_id, taken in sorted(by_link.items()):
        if link_id in capped:
            connection.execute(sa.update(Link).where(Link.id == link_id).values(inflight=Link.inflight + taken))


def _describe(connection: Connection, taken: Sequence[Any], work_class: WorkClass) -> list[LeasedTask]:
    """Joins the jobs' side, and counts the tasks as running there."""
    running: dict[int, int] = {}
    for row in taken:
        running[row.job_id] = running.get(row.job_id, 0) + 1
    now_ms = database_now_ms(connection)
    table: Any = Job.__table__
    connection.execute(
        sa.update(table)
        .where(table.c.id == sa.bindparam("job"))
        .values(
            tasks_running=table.c.tasks_running + sa.bindparam("more"),
            started_ms=sa.func.coalesce(table.c.started_ms, sa.bindparam("now")),
        ),
        [{"job": job_id, "more": more, "now": now_ms} for job_id, more in sorted(running.items())],
    )
    source, destination = sa.orm.aliased(Site), sa.orm.aliased(Site)
    jobs = {
        row.id: row
        for row in connection.execute(
            sa.select(
                Job.id,
                Job.uid,
                Job.recursive,
                Job.overwrite,
                User.name.label("user"),
                source.name.label("source"),
                destination.name.label("destination"),
            )
            .join(User, User.id == Job.user_id)
            .join(Link, Link.id == Job.link_id)
            .join(source, source.id == Link.source_id)
            .join(destination, destination.id == Link.destination_id)
            .where(Job.id.in_(running))
        )
    }
    return [_leased(row, jobs[row.job_id], work_class) for row in taken]


def _leased(row: Any, job: Any, work_class: WorkClass) -> LeasedTask:
    return LeasedTask(
        task_id=row.id,
        fence=row.fence,
        job_id=row.job_id,
        job_uid=job.uid,
        user=job.user,
        source_site=job.source,
        destination_site=job.destination,
        work_class=work_class,
        kind=TaskKind(row.kind),
        source_path=row.source_path,
        destination_path=row.destination_path,
        root=row.root,
        recursive=job.recursive,
        overwrite=job.overwrite,
        cursor=row.cursor,
        payload=row.payload or b"",
        entry_count=row.entry_count,
        total_bytes=row.total_bytes,
        settled=row.settled or b"",
        attempt=row.attempt_count,
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
    classes = {
        row.id: (row, WorkClass(row.work_class))
        for row in connection.execute(
            sa.select(Job.id, Job.uid, Job.recursive, Job.overwrite, Job.work_class, User.name.label("user"))
            .join(User, User.id == Job.user_id)
            .where(Job.id.in_({row.job_id for row in taken}))
        )
    }
    sites = _sites_of(connection, classes)
    return [_leased(row, _Joined(classes[row.job_id][0], *sites[row.job_id]), classes[row.job_id][1]) for row in taken]


class _Joined:
    """A job's row with the names of its sites."""

    def __init__(self, row: Any, source: str, destination: str) -> None:
        self.uid, self.user = row.uid, row.user
        self.recursive, self.overwrite = row.recursive, row.overwrite
        self.source, self.destination = source, destination


def _sites_of(connection: Connection, jobs: Iterable[int]) -> dict[int, tuple[str, str]]:
    source, destination = sa.orm.aliased(Site), sa.orm.aliased(Site)
    return {
        row.id: (row.source, row.destination)
        for row in connection.execute(
            sa.select(Job.id, source.name.label("source"), destination.name.label("destination"))
            .join(Link, Link.id == Job.link_id)
            .join(source, source.id == Link.source_id)
            .join(destination, destination.id == Link.destination_id)
            .where(Job.id.in_(list(jobs)))
        )
    }


def cancelled_on(connection: Connection, replica_id: int) -> set[int]:
    """Returns the cancelled jobs that have tasks running under a replica, whoever cancelled them."""
    return set(
        connection.execute(
            sa.select(Job.id)
            .join(Task, Task.job_id == Job.id)
            .where(Task.replica_id == replica_id, Task.state == TaskState.RUNNING, Job.cancelled)
        ).scalars()
    )


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
        if row is None or (row.state, row.fence, row.replica_id) != (TaskState.RUNNING, fence, replica_id):
            continue
        decision = settling.lapse(row, row.lapses + 1) if given else None
        if decision is None and row.job_cancelled:
            decision = settling.Decision(TaskState.CANCELLED, tries=row.tries, settled=row.settled or b"")
        if decision is None:
            again.append(row)
        else:
            changes.append(Change(row, decision, row.settled_fence, row.lapses + 1))
    if changes:
        apply_changes(connection, changes)
    if again:
        ids = [row.id for row in again]
        if given:
            connection.execute(sa.update(Task).where(Task.id.in_(ids)).values(lapses=Task.lapses + 1))
        make_ready(connection, ids, TaskState.RUNNING)
        free_links(connection, again)
        for job_id, lapsed in sorted(Counter(row.job_id for row in again).items()):
            connection.execute(sa.update(Job).where(Job.id == job_id).values(tasks_running=Job.tasks_running - lapsed))
    return {row.job_id for row in again} | {change.task.job_id for change in changes}
