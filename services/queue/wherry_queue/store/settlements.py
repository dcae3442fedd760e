"""Takes results: task, failures, counters and links in one transaction, idempotent on (task, fence)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Attempt, EntryFailure, Job, Json, Lane, Link, Task
from wherry_queue.settling import Decision, RetryPolicy, Settlement, decide
from wherry_queue.states import ENDED, WALKS, TaskState, WorkClass


def settle(
    connection: Connection, settlements: Sequence[Settlement], policy: RetryPolicy
) -> tuple[list[bool], set[int]]:
    """Applies workers' words; returns whether each counted (now or before), and the jobs that changed."""
    ids = sorted({settlement.task_id for settlement in settlements})
    rows = {
        row.id: row
        for row in connection.execute(
            sa.select(Task.__table__).where(Task.id.in_(ids)).order_by(Task.id).with_for_update()
        )
    }
    cancelled = {
        row.id: row.cancelled
        for row in connection.execute(
            sa.select(Job.id, Job.cancelled).where(Job.id.in_({row.job_id for row in rows.values()}))
        )
    }
    answers: list[bool] = []
    jobs: set[int] = set()
    applied: set[tuple[int, int]] = set()
    for settlement in settlements:
        row = rows.get(settlement.task_id)
        ref = (settlement.task_id, settlement.fence)
        if row is not None and (row.settled_fence == settlement.fence or ref in applied):
            answers.append(True)
            continue
        if row is None or row.fence != settlement.fence or row.state != TaskState.RUNNING:
            answers.append(False)
            continue
        decision = decide(row, settlement, job_cancelled=cancelled[row.job_id], policy=policy)
        _record_attempt(connection, row, settlement)
        apply_decision(connection, row, decision, settled_fence=settlement.fence)
        applied.add(ref)
        jobs.add(row.job_id)
        answers.append(True)
    return answers, jobs


def apply_decision(
    connection: Connection,
    task: Any,
    decision: Decision,
    *,
    settled_fence: int | None = None,
    lapses: int | None = None,
) -> None:
    """Writes what becomes of a running task, and adds it to its job's counters."""
    now_ms = database_now_ms(connection)
    ended = decision.state in ENDED
    connection.execute(
        sa.update(Task)
        .where(Task.id == task.id)
        .values(
            state=decision.state,
            settled=decision.settled or None,
            settled_fence=settled_fence if settled_fence is not None else task.settled_fence,
            tries=decision.tries,
            lapses=task.lapses if lapses is None else lapses,
            files_done=Task.files_done + decision.files_done,
            bytes_done=Task.bytes_done + decision.bytes_done,
            files_failed=Task.files_failed + decision.files_failed,
            bytes_failed=Task.bytes_failed + decision.bytes_failed,
            replica_id=None,
            not_before_ms=None if ended else now_ms + int(decision.delay_s * 1000),
            # A chunk's entries are of no use once all is settled; what was done stands in the attempts.
            payload=None if ended else Task.payload,
            failure=decision.failure.as_json() if decision.failure else None,
        )
    )
    if decision.failures:
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
                }
                for entry in decision.failures
            ],
        )
    _free_link(connection, task)
    _count_job(connection, task, decision, ended=ended, now_ms=now_ms)


def _free_link(connection: Connection, task: Any) -> None:
    lane = sa.select(Lane.link_id).where(Lane.id == task.lane_id, Lane.work_class == WorkClass.BULK).scalar_subquery()
    connection.execute(
        sa.update(Link)
        .where(Link.id == lane, Link.cap.is_not(None), Link.inflight > 0)
        .values(inflight=Link.inflight - 1)
    )


def _count_job(connection: Connection, task: Any, decision: Decision, *, ended: bool, now_ms: int) -> None:
    over = 1 if ended else 0
    values: dict[str, Any] = {
        "tasks_running": Job.tasks_running - 1,
        "tasks_open": Job.tasks_open - over,
        "phase_open": Job.phase_open - over,
        "walks_open": Job.walks_open - (over if task.kind in WALKS else 0),
        "files_done": Job.files_done + decision.files_done,
        "bytes_done": Job.bytes_done + decision.bytes_done,
        "files_failed": Job.files_failed + decision.files_failed,
        "bytes_failed": Job.bytes_failed + decision.bytes_failed,
        "directories_done": Job.directories_done + decision.directories_done,
        "directories_failed": Job.directories_failed + decision.directories_failed,
        "tasks_failed": Job.tasks_failed + (1 if decision.task_failed and ended else 0),
        "tasks_cancelled": Job.tasks_cancelled + (1 if decision.state is TaskState.CANCELLED else 0),
        "ended_ms": sa.case((Job.tasks_open == over, now_ms), else_=None) if over else Job.ended_ms,
    }
    if decision.sign_in_needed is not None:
        values["sign_in_needed"] = decision.sign_in_needed
    if decision.failure is not None and decision.task_failed:
        values["failure"] = sa.func.coalesce(Job.failure, sa.literal(decision.failure.as_json(), type_=Json))
    connection.execute(sa.update(Job).where(Job.id == task.job_id).values(values))


def _record_attempt(connection: Connection, task: Any, settlement: Settlement) -> None:
    connection.execute(
        sa.insert(Attempt).values(
            task_id=task.id,
            fence=settlement.fence,
            worker=task.worker,
            outcome=settlement.outcome,
            failure=settlement.failure.as_json() if settlement.failure else None,
            results=settlement.results or None,
            log=settlement.log,
            ended_ms=database_now_ms(connection),
        )
    )
