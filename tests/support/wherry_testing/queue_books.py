"""The queue's books: everything that is kept as a counter, counted, and compared with what is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.pseudonyms import DELETED
from wherry_queue import bitmap
from wherry_queue.models import EntryFailure, Job, Lane, Link, Replica, Site, Task, User
from wherry_queue.states import (
    CHUNKS,
    DIRECTORY_WORK,
    ENDED,
    WALKS,
    Counted,
    Hold,
    TaskKind,
    TaskState,
    WorkClass,
    leased_as,
)

_TASKS = sa.select(*[column for column in Task.__table__.columns if column.name not in ("payload", "cursor")])
_LANES = sa.select(Lane.__table__)
_JOBS = sa.select(*[column for column in Job.__table__.columns if column.name not in ("specification", "summary")])
_USERS = sa.select(User.__table__)
_LINKS = sa.select(Link.__table__)
_SITES = sa.select(Site.__table__)
_REPLICAS = sa.select(Replica.id)
_FAILURES = sa.select(
    EntryFailure.job_id, EntryFailure.task_id, EntryFailure.entry_index, EntryFailure.size_bytes, EntryFailure.skipped
)


def discrepancies(connection: Connection) -> list[str]:
    """Returns, in words, each counter that is not what counting gives. Nothing may change meanwhile."""
    tasks = connection.execute(_TASKS).all()
    lanes = connection.execute(_LANES).all()
    jobs = {job.id: job for job in connection.execute(_JOBS)}
    swept = _swept(connection, lanes, jobs)
    whole = {job_id: job for job_id, job in jobs.items() if job_id not in swept}
    theirs = [task for task in tasks if task.job_id in whole]
    return [*_lanes(tasks, lanes, jobs), *_users(connection, lanes), *_limits(connection, tasks, lanes),
            *_tasks(connection, tasks), *_jobs(theirs, whole), *_failures(connection, theirs, whole),
            *_emptied(lanes, whole)]  # fmt: skip


def assert_counters(connection: Connection) -> None:
    """Raises AssertionError that names each counter that is wrong."""
    found = discrepancies(connection)
    assert not found, "\n".join(found)


def _swept(connection: Connection, lanes: Any, jobs: dict[int, Any]) -> set[int]:
    """The ended jobs of which something may have gone: past their retention, or of people who have left.

    Their counters say what there was.
    """
    gone = {user.id: user.leaving for user in connection.execute(_USERS) if user.name.startswith(f"users/{DELETED}")}
    with_lane = {lane.job_id for lane in lanes}
    return {
        job.id
        for job in jobs.values()
        if job.ended_ms is not None
        and (job.expired or gone.get(job.user_id, False) or (job.user_id in gone and job.id not in with_lane))
    }


def _emptied(lanes: Any, jobs: dict[int, Any]) -> list[str]:
    with_lane = {lane.job_id for lane in lanes}
    return [f"job {job_id} has no lane" for job_id in jobs if job_id not in with_lane]


def _differing(name: str, kept: Any, counted: Any) -> list[str]:
    return [] if kept == counted else [f"{name} says {kept}, counted {counted}"]


def _lanes(tasks: Any, lanes: Any, jobs: dict[int, Any]) -> list[str]:
    ready = Counter(task.lane_id for task in tasks if task.state == TaskState.READY)
    first: dict[int, int] = {}
    for task in tasks:
        if task.state == TaskState.READY:
            first[task.lane_id] = min(task.id, first.get(task.lane_id, task.id))
    found = []
    for lane in lanes:
        found += _differing(f"lane {lane.id}.pending", lane.pending, ready[lane.id])
        if first.get(lane.id, lane.head) < lane.head:
            found.append(f"lane {lane.id}.head is {lane.head}, behind the ready task {first[lane.id]}")
        job = jobs[lane.job_id]
        found += _differing(f"lane {lane.id}.hold", lane.hold, job.hold & ~Hold.TOO_SHORT)
        found += _differing(f"lane {lane.id}.priority", lane.priority, job.priority)
        if bool(lane.hold & Hold.CANCELLED) != bool(job.cancelled):
            found.append(f"lane {lane.id} and its job differ about whether it is cancelled")
        for name in ("user_id", "link_id"):
            found += _differing(f"lane {lane.id}.{name}", getattr(lane, name), getattr(job, name))
        found += _differing(f"lane {lane.id}.work_class", lane.work_class, leased_as(job.work_class))
    return found


def _users(connection: Connection, lanes: Any) -> list[str]:
    active = Counter((lane.user_id, lane.work_class) for lane in lanes if lane.pending and not lane.hold)
    found = []
    for user in connection.execute(_USERS):
        found += _differing(f"user {user.id}.active_bulk", user.active_bulk, active[user.id, WorkClass.BULK])
        interactive = active[user.id, WorkClass.INTERACTIVE]
        found += _differing(f"user {user.id}.active_interactive", user.active_interactive, interactive)
    return found


def _limits(connection: Connection, tasks: Any, lanes: Any) -> list[str]:
    of_lane = {lane.id: lane for lane in lanes}
    links = {link.id: link for link in connection.execute(_LINKS)}
    running: Counter[tuple[str, int]] = Counter()
    found = []
    for task in tasks:
        if task.state != TaskState.RUNNING:
            found += _differing(f"task {task.id}.counted, which does not run,", task.counted, 0)
            continue
        lane = of_lane[task.lane_id]
        link = links[lane.link_id]
        for bit, name, row_id in (
            (Counted.USER, "user", lane.user_id),
            (Counted.LINK, "link", link.id),
            (Counted.SITE_OUT, "site out", link.source_id),
            (Counted.SITE_IN, "site in", link.destination_id),
        ):
            running[name, row_id] += bool(task.counted & bit)
    for link in links.values():
        found += _differing(f"link {link.id}.inflight", link.inflight, running["link", link.id])
    for site in connection.execute(_SITES):
        found += _differing(f"site {site.id}.inflight_out", site.inflight_out, running["site out", site.id])
        found += _differing(f"site {site.id}.inflight_in", site.inflight_in, running["site in", site.id])
    for user in connection.execute(_USERS):
        found += _differing(f"user {user.id}.inflight", user.inflight, running["user", user.id])
    return found


def _tasks(connection: Connection, tasks: Any) -> list[str]:
    replicas = set(connection.execute(_REPLICAS).scalars())
    found = []
    for task in tasks:
        if task.state == TaskState.RUNNING:
            if task.replica_id not in replicas:
                found.append(f"task {task.id} runs in the name of replica {task.replica_id}, which nobody will reap")
        elif task.replica_id is not None or task.thumbprint is not None:
            found.append(f"task {task.id} does not run and still has a worker")
        if task.state == TaskState.FAILED and task.failure is None:
            found.append(f"task {task.id} has failed and does not say why")
        found += _differing(
            f"task {task.id} has a time to wait for", task.not_before_ms is not None, task.state == TaskState.DELAYED
        )
        if task.left_behind and task.kind != TaskKind.COPY_FILES:
            found.append(f"task {task.id} copies nothing and has left something behind")
        if task.kind not in CHUNKS:
            continue
        settled = bitmap.count(task.settled)
        if settled > task.entry_count or task.files_done > settled:
            found.append(
                f"task {task.id} counts {task.files_done} files, by its bitmap {settled} of {task.entry_count}"
            )
        if task.files_done + task.files_failed > task.entry_count:
            found.append(f"task {task.id} counts more files than it has")
        if task.state == TaskState.SUCCEEDED:
            found += _differing(f"task {task.id}, which succeeded, is settled in", settled, task.entry_count)
    return found


def _failures(connection: Connection, tasks: Any, jobs: dict[int, Any]) -> list[str]:
    """What walks could not take in is counted by job alone, and stands in the failures with its place."""
    walks = {task.id for task in tasks if task.kind in WALKS}
    extraneous = {task.id for task in tasks if task.extraneous}
    left_out: Counter[int] = Counter()
    skipped: Counter[int] = Counter()
    stay: Counter[int] = Counter()
    left_out_bytes: Counter[int] = Counter()
    for row in connection.execute(_FAILURES):
        if row.job_id in jobs and row.task_id in walks and row.entry_index >= 0:
            if row.skipped:
                skipped[row.job_id] += 1
            elif row.task_id in extraneous:
                stay[row.job_id] += 1
            else:
                left_out[row.job_id] += 1
                left_out_bytes[row.job_id] += row.size_bytes
    by_job: dict[int, list[Any]] = {job_id: [] for job_id in jobs}
    for task in tasks:
        by_job[task.job_id].append(task)
    found = []
    for job_id, mine in by_job.items():
        job = jobs[job_id]
        failed = [task for task in mine if task.state == TaskState.FAILED]
        own = [task for task in mine if not task.extraneous]
        # What a walk finds to need nothing is done there and then, and stands nowhere else.
        there = [task for task in own if task.kind in WALKS]
        counted = {
            "files_total": sum(task.entry_count for task in own)
            + sum(walk.files_done for walk in there)
            + left_out[job_id],
            "bytes_total": sum(task.total_bytes for task in own)
            + sum(walk.bytes_done for walk in there)
            + left_out_bytes[job_id],
            "files_failed": sum(task.files_failed for task in own) + left_out[job_id],
            "bytes_failed": sum(task.bytes_failed for task in own) + left_out_bytes[job_id],
            "files_unchanged": sum(task.files_unchanged for task in own),
            "bytes_unchanged": sum(task.bytes_unchanged for task in own),
            "directories_failed": sum(task.kind in WALKS | DIRECTORY_WORK for task in failed if not task.extraneous),
            "entries_skipped": skipped[job_id],
            "extraneous_total": sum(_extraneous_entries(task) for task in mine if task.extraneous),
            "extraneous_removed": sum(_extraneous_gone(task) for task in mine if task.extraneous and not job.dry_run),
        }
        for name, value in counted.items():
            found += _differing(f"job {job_id}.{name}", getattr(job, name), value)
        noted = left_out[job_id] + stay[job_id]
        if not len(failed) + bool(noted) <= job.tasks_failed <= len(failed) + noted:
            said = f"{len(failed)} and {noted} files left out"
            found.append(f"job {job_id}.tasks_failed says {job.tasks_failed}, counted {said}")
        if job.failure is None and (job.tasks_failed or job.files_failed):
            found.append(f"job {job_id} has failed in something and does not say why")
    return found


def _extraneous_entries(task: Any) -> int:
    """How many files and directories, that only the destination has, a task is about; a directory's own removal is not
    counted besides its walk."""
    return int(task.kind in WALKS) if task.kind not in CHUNKS else int(task.entry_count)


def _extraneous_gone(task: Any) -> int:
    """How many of them it has removed."""
    if task.kind in CHUNKS:
        return int(task.files_done)
    if task.kind == TaskKind.WALK_REMOVE and task.removal_reported:
        return 0  # its directory goes later, by a task of its own
    return int(task.state == TaskState.SUCCEEDED)


def _jobs(tasks: Any, jobs: dict[int, Any]) -> list[str]:
    by_job: dict[int, list[Any]] = {job_id: [] for job_id in jobs}
    for task in tasks:
        by_job[task.job_id].append(task)
    found = []
    for job_id, mine in by_job.items():
        job = jobs[job_id]
        open_tasks = [task for task in mine if task.state not in ENDED]
        counted = {
            "tasks_open": len(open_tasks),
            "tasks_running": sum(task.state == TaskState.RUNNING for task in mine),
            "tasks_cancelled": sum(task.state == TaskState.CANCELLED for task in mine),
            "walks_open": sum(task.kind in WALKS and task.state != TaskState.BLOCKED for task in open_tasks),
            "files_done": sum(task.files_done for task in mine if not task.extraneous),
            "bytes_done": sum(task.bytes_done for task in mine if not task.extraneous),
        }
        for name, value in counted.items():
            found += _differing(f"job {job_id}.{name}", getattr(job, name), value)
        found += _differing(f"job {job_id} has ended", job.ended_ms is not None, not open_tasks)
        if job.dry_run and any(task.kind not in WALKS and task.fence for task in mine):
            found.append(f"job {job_id} is a dry run, and something was leased of it that does")
        if job.extraneous_removed and not job.delete_extraneous:
            found.append(f"job {job_id} has removed what nobody asked to have removed")
        if job.files_done + job.files_failed > job.files_total:
            found.append(f"job {job_id} has done {job.files_done} and failed {job.files_failed} of {job.files_total}")
        if not job.cancelled and any(task.state == TaskState.BLOCKED for task in mine):
            later = {task.phase for task in open_tasks if task.state == TaskState.BLOCKED}
            if min(later) <= max((t.phase for t in open_tasks if t.state != TaskState.BLOCKED), default=-1):
                found.append(f"job {job_id} has tasks of phases open together")
        phase_open = sum(task.state != TaskState.BLOCKED for task in open_tasks)
        if job.phase_open != phase_open:
            found += _differing(f"job {job_id}.phase_open", job.phase_open, phase_open)
    return found
