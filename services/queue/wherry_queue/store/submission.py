"""Makes jobs, and adds to them what walks find."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from wherry_chassis.sql import database_now_ms

from wherry_queue.fairness import rank
from wherry_queue.growing import Grown, grow
from wherry_queue.jobs import Found, LeaseLost, NewJob, NewTask
from wherry_queue.models import EntryFailure, Job, Json, Lane, ListingChunk, Site, Task, User
from wherry_queue.states import CLEAN_UP, WALKS, TaskKind, TaskState, first_state
from wherry_queue.store import banning
from wherry_queue.store.lanes import add_pending, starting_vtime
from wherry_queue.store.naming import made, made_link
from wherry_queue.store.sign_ins import remember


def submit(connection: Connection, new: NewJob) -> tuple[int, str]:
    """Makes a job with its lane and first tasks; returns (id, uid). The same request id gives the same job."""
    user_id = made(connection, User, new.user)
    if new.request_id and (found := _by_request(connection, user_id, new.request_id)):
        return found
    if not new.clean_up:  # nobody asks for it who could be refused: it is made, and held
        banning.check(connection, new.user, {new.source_site, new.destination_site})
    link_id = made_link(connection, new.source_site, new.destination_site)
    uid = secrets.token_hex(8)
    values = {
        "uid": uid,
        "user_id": user_id,
        "link_id": link_id,
        "request_id": new.request_id or None,
        "operation": new.operation,
        "specification": new.specification,
        "summary": new.summary,
        "work_class": CLEAN_UP if new.clean_up else new.work_class,
        "priority": new.priority,
        "attempts": new.attempts,
        "recursive": new.recursive,
        "overwrite": new.overwrite,
        "options": new.options,
        "dry_run": new.dry_run,
        "delete_extraneous": new.delete_extraneous,
        "directories_only": new.directories_only,
        "hold": int(new.hold),
        "created_ms": database_now_ms(connection),
        "tasks_open": len(new.tasks),
        "phase_open": len(new.tasks),
        "walks_open": sum(task.kind in WALKS for task in new.tasks),
        "files_total": sum(task.entry_count for task in new.tasks),
        "bytes_total": sum(task.total_bytes for task in new.tasks),
        "item_count": new.item_count,
    }
    try:
        with connection.begin_nested():
            job_id = connection.execute(sa.insert(Job).values(values).returning(Job.id)).scalar_one()
    except IntegrityError:
        # Two requests with one id at once: the other was first.
        found = _by_request(connection, user_id, new.request_id or "")
        if found is None:
            raise
        return found
    vtime = connection.execute(sa.select(User.vtime).where(User.id == user_id)).scalar_one()
    lane_id = connection.execute(
        sa.insert(Lane)
        .values(
            job_id=job_id,
            user_id=user_id,
            link_id=link_id,
            work_class=new.work_class,
            priority=new.priority,
            rank=rank(max(vtime, starting_vtime(connection)), new.priority),
            hold=int(new.hold),
        )
        .returning(Lane.id)
    ).scalar_one()
    ends = {made(connection, Site, site): until_ms for site, until_ms in sorted(new.sessions.items())}
    for site_id, until_ms in sorted(ends.items()):
        remember(connection, user_id, site_id, until_ms)
    added = insert_tasks(connection, job_id, lane_id, new.tasks)
    add_pending(connection, {lane_id: added.ready})
    return job_id, uid


def submit_all(connection: Connection, new: Sequence[NewJob]) -> list[tuple[int, str]]:
    """Makes jobs, all or none, as `submit`; returns their (id, uid) in the order given."""
    return [submit(connection, one) for one in new]


def earlier(connection: Connection, user: str, request_ids: Sequence[str]) -> list[tuple[int, str]] | None:
    """Returns the jobs, as (id, uid), that a user's requests have made already; None unless each of them has."""
    query = sa.select(Job.id, Job.uid, Job.request_id).join(User, User.id == Job.user_id)
    rows = connection.execute(query.where(User.name == user, Job.request_id.in_(set(request_ids)))).all()
    made_before = {row.request_id: (row.id, row.uid) for row in rows}
    return [made_before[one] for one in request_ids] if made_before.keys() >= set(request_ids) else None


def report(connection: Connection, found: Found) -> int:
    """Makes durable what a walk or a listing found; returns the job's id. A batch that is durable already is dropped.

    Raises:
        LeaseLost: the fence is not the task's newest, or it is not running.
    """
    task = connection.execute(
        sa.select(
            Task.__table__,
            Job.cancelled.label("job_cancelled"),
            Job.dry_run,
            Job.delete_extraneous,
            Job.directories_only,
        )
        .join(Job, Job.id == Task.job_id)
        .where(Task.id == found.task_id, Task.state + 0 == int(TaskState.RUNNING))  # see `settlements`
        .with_for_update(of=Task)
    ).one_or_none()
    if task is None or (task.fence, task.thumbprint) != (found.fence, found.thumbprint):
        raise LeaseLost(task=str(found.task_id))
    if task.job_cancelled:
        # Nothing grows any more; what it would add could never be leased, and the job would never end.
        raise LeaseLost(task=str(found.task_id))
    fresh = task.batches == 0 or (found.after == task.cursor and found.cursor > task.cursor)
    removal = found.remove_directory and not task.removal_reported
    if task.kind == TaskKind.LIST:
        if fresh:
            connection.execute(sa.insert(ListingChunk).values(job_id=task.job_id, payload=found.entries))
            _advance(connection, task, found, removal=False)
        return int(task.job_id)
    if not fresh and not removal:
        return int(task.job_id)
    if not fresh:
        found = Found(found.task_id, found.fence, task.cursor, task.cursor, remove_directory=True)
    elif found.remove_directory and not removal:
        # Somebody added files behind the cursor after the last batch; the removal of the directory waits for them.
        found = replace(found, remove_directory=False)
    if task.batches > 0 and found.directories_done:
        # A walk that goes on behind its cursor counts its directory once, with its first batch.
        found = replace(found, directories_done=0)
    grown = grow(task, _asked_for(task, found))
    added = insert_tasks(
        connection, task.job_id, task.lane_id, grown.tasks, open_phase=task.phase, dry_run=task.dry_run
    )
    add_pending(connection, {task.lane_id: added.ready})
    if found.failures or found.skipped:
        _insert_failures(connection, task, found)
    _advance(connection, task, found, removal=removal)
    if task.dry_run:
        grown = replace(grown, directories_done=0)  # it is there, or would be made
    _grow_job(connection, task, grown, found, added)
    return int(task.job_id)


def _asked_for(job: Any, found: Found) -> Found:
    """Returns a batch without what nobody has asked to have done, whatever its walk says."""
    if not job.delete_extraneous:
        found = replace(found, extraneous_chunks=(), extraneous_directories=())
    return replace(found, chunks=()) if job.directories_only else found


def _by_request(connection: Connection, user_id: int, request_id: str) -> tuple[int, str] | None:
    row = connection.execute(
        sa.select(Job.id, Job.uid).where(Job.user_id == user_id, Job.request_id == request_id)
    ).one_or_none()
    return (row.id, row.uid) if row else None


@dataclass(frozen=True, slots=True)
class Added:
    """What came of tasks that were added to a job.

    Attributes:
        ready: ids of those that may be leased.
        opened: how many have not ended: all but what is only planned.
    """

    ready: list[int]
    opened: int


def insert_tasks(
    connection: Connection,
    job_id: int,
    lane_id: int,
    tasks: Sequence[NewTask],
    *,
    open_phase: int = 0,
    dry_run: bool = False,
) -> Added:
    """Inserts tasks: those of later phases than the open one blocked; of a dry run, all but walks planned."""
    if not tasks:
        return Added([], 0)
    rows: list[dict[str, object]] = [
        {
            "job_id": job_id,
            "lane_id": lane_id,
            "kind": task.kind,
            "state": first_state(task.kind, task.phase, open_phase=open_phase, dry_run=dry_run),
            "phase": task.phase,
            "depth": task.depth,
            "root": task.root,
            "root_length": task.root_length,
            "extraneous": task.extraneous,
            "below": task.below,
            "source_path": task.source_path,
            "destination_path": task.destination_path,
            "payload": task.payload,
            "entry_count": task.entry_count,
            "total_bytes": task.total_bytes,
        }
        for task in tasks
    ]
    for row, task in zip(rows, tasks, strict=True):
        if task.kind is TaskKind.REMOVE_TEMPORARIES:  # its job has no others: all rows have the same columns
            row |= {"cleans": task.cleans, "cleans_fence": task.cleans_fence}
    made = connection.execute(sa.insert(Task).returning(Task.id, Task.state), rows).all()
    ready = [row.id for row in made if row.state == TaskState.READY]
    return Added(ready, sum(row.state != TaskState.PLANNED for row in made))


def _insert_failures(connection: Connection, task: Any, found: Found) -> None:
    connection.execute(
        sa.insert(EntryFailure),
        [
            {
                "job_id": task.job_id,
                "task_id": task.id,
                "entry_index": entry.index,
                "path": entry.path,
                "size_bytes": entry.size_bytes,
                "failure": entry.failure.as_json(),
                "skipped": skipped,
            }
            for entries, skipped in ((found.failures, False), (found.skipped, True))
            for entry in entries
        ],
    )


def _advance(connection: Connection, task: Any, found: Found, *, removal: bool) -> None:
    connection.execute(
        sa.update(Task)
        .where(Task.id == task.id)
        .values(
            cursor=max(found.cursor, task.cursor),
            batches=Task.batches + 1,
            removal_reported=task.removal_reported or removal,
            files_done=Task.files_done + found.files_unchanged,
            bytes_done=Task.bytes_done + found.bytes_unchanged,
            files_unchanged=Task.files_unchanged + found.files_unchanged,
            bytes_unchanged=Task.bytes_unchanged + found.bytes_unchanged,
        )
    )


def _grow_job(connection: Connection, task: Any, grown: Grown, found: Found, added: Added) -> None:
    # What only the destination has is in no total of the copy, nor is what of it cannot be removed.
    failed = [] if task.extraneous else found.failures
    failed_bytes = sum(entry.size_bytes for entry in failed)
    values: dict[str, Any] = {
        "tasks_open": Job.tasks_open + added.opened,
        "phase_open": Job.phase_open + len(added.ready),
        "walks_open": Job.walks_open + sum(one.kind in WALKS and one.phase <= task.phase for one in grown.tasks),
        "files_total": Job.files_total + grown.files_total + len(failed),
        "bytes_total": Job.bytes_total + grown.bytes_total + failed_bytes,
        "files_done": Job.files_done + found.files_unchanged,
        "bytes_done": Job.bytes_done + found.bytes_unchanged,
        "files_unchanged": Job.files_unchanged + found.files_unchanged,
        "bytes_unchanged": Job.bytes_unchanged + found.bytes_unchanged,
        "entries_skipped": Job.entries_skipped + len(found.skipped),
        "extraneous_total": Job.extraneous_total + grown.extraneous_total,
        "files_failed": Job.files_failed + len(failed),
        "bytes_failed": Job.bytes_failed + failed_bytes,
        "directories_total": Job.directories_total + grown.directories_total,
        "directories_done": Job.directories_done + grown.directories_done,
    }
    if found.failures:
        values["tasks_failed"] = Job.tasks_failed + 1
        values["failure"] = sa.func.coalesce(Job.failure, sa.literal(found.failures[0].failure.as_json(), type_=Json))
    connection.execute(sa.update(Job).where(Job.id == task.job_id).values(values))
