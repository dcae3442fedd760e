"""Takes results: tasks, failures, counters and links in one transaction, idempotent on (task, fence).

These statements are hot. They are built once, with named parameters, and run for all settlements of a call together:
building an SQLAlchemy expression for each task cost ten times what the database did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Attempt, EntryFailure, Job, Lane, Link, Task
from wherry_queue.progress import Moved
from wherry_queue.settling import Decision, RetryPolicy, Settlement, decide, leaves_behind
from wherry_queue.states import ENDED, WALKS, TaskKind, TaskState
from wherry_queue.store.limits import give_back
from wherry_queue.store.moving import lower_progress

_TASK: Any = Task.__table__
_JOB: Any = Job.__table__

_SELECT_TASKS = (
    sa.select(
        _TASK, Job.cancelled.label("job_cancelled"), Job.dry_run.label("job_dry_run"),
        Job.attempts.label("job_attempts"), Job.user_id,
        Link.id.label("link_id"), Link.source_id, Link.destination_id, Lane.work_class,
    )
    .join(Job, Job.id == _TASK.c.job_id)
    .join(Lane, Lane.id == _TASK.c.lane_id)
    .join(Link, Link.id == Lane.link_id)
    # Only those that run: a lease passes a ready task over that somebody has locked, and never looks at it again. Not
    # the state itself, whose index would be used where its statistics say that hardly anything runs.
    .where(_TASK.c.id.in_(sa.bindparam("ids", expanding=True)), _TASK.c.state + 0 == int(TaskState.RUNNING))
    .order_by(_TASK.c.id)
    .with_for_update(of=_TASK)
)  # fmt: skip
_SETTLED_FENCES = sa.select(_TASK.c.id, _TASK.c.settled_fence).where(
    _TASK.c.id.in_(sa.bindparam("ids", expanding=True))
)
_UPDATE_TASK = (
    sa.update(_TASK)
    .where(_TASK.c.id == sa.bindparam("task"))
    .values(
        replica_id=None,
        thumbprint=None,
        counted=0,
        state=sa.bindparam("new_state"),
        settled=sa.bindparam("new_settled"),
        settled_fence=sa.bindparam("new_settled_fence"),
        tries=sa.bindparam("new_tries"),
        lapses=sa.bindparam("new_lapses"),
        files_done=_TASK.c.files_done + sa.bindparam("more_files_done"),
        bytes_done=_TASK.c.bytes_done + sa.bindparam("more_bytes_done"),
        files_unchanged=_TASK.c.files_unchanged + sa.bindparam("more_files_unchanged"),
        bytes_unchanged=_TASK.c.bytes_unchanged + sa.bindparam("more_bytes_unchanged"),
        files_failed=_TASK.c.files_failed + sa.bindparam("more_files_failed"),
        bytes_failed=_TASK.c.bytes_failed + sa.bindparam("more_bytes_failed"),
        not_before_ms=sa.bindparam("new_not_before_ms"),
        failure=sa.bindparam("new_failure"),
        left_behind=sa.bindparam("new_left_behind"),
    )
)
_OF_FILES = (
    "files_done", "bytes_done", "files_unchanged", "bytes_unchanged", "files_failed", "bytes_failed",
    "directories_done", "directories_failed",
)  # fmt: skip
"""What a decision and a job have by the same name."""
_SUMS = (
    "tasks_running", "tasks_open", "phase_open", "walks_open", "tasks_failed", "tasks_cancelled", "extraneous_removed",
    *_OF_FILES,
)  # fmt: skip
_UPDATE_JOB = (
    sa.update(_JOB)
    .where(_JOB.c.id == sa.bindparam("job"))
    .values(
        {name: _JOB.c[name] + sa.bindparam(f"more_{name}") for name in _SUMS}
        | {
            "failure": sa.func.coalesce(_JOB.c.failure, sa.bindparam("new_failure", type_=_JOB.c.failure.type)),
            "data_channels": _JOB.c.data_channels.op("|")(sa.bindparam("channels")),
            "ended_ms": sa.case(
                (_JOB.c.tasks_open + sa.bindparam("more_tasks_open") == 0, sa.bindparam("now_ms")),
                else_=_JOB.c.ended_ms,
            ),
        }
    )
)


def running_tasks(connection: Connection, ids: Sequence[int]) -> dict[int, Any]:
    """Returns those of the tasks that run, by id, locked, each with its job's `job_cancelled`, `job_dry_run`,
    `job_attempts` and `user_id` and its lane's `work_class`, `link_id`, `source_id` and `destination_id` beside its
    columns."""
    return {row.id: row for row in connection.execute(_SELECT_TASKS, {"ids": sorted(set(ids))})}


class Settled(NamedTuple):
    """What came of workers' words.

    Attributes:
        answers: whether each counted, now or before.
        jobs: those that changed.
        counted: the tasks and fences of the words that counted now.
    """

    answers: list[bool]
    jobs: set[int]
    counted: set[tuple[int, int]]


def settle(
    connection: Connection,
    settlements: Sequence[Settlement],
    policy: RetryPolicy,
    replica_id: int | None = None,
    landed: Sequence[tuple[int, Moved]] = (),
) -> Settled:
    """Applies workers' words.

    Args:
        replica_id, landed: by job, what this replica's progress counts as moving and is done now: taken off in the
            same transaction.
    """
    lower_progress(connection, replica_id, landed)
    rows = running_tasks(connection, [settlement.task_id for settlement in settlements])
    settled_fences = {task_id: row.settled_fence for task_id, row in rows.items()}
    if others := sorted({settlement.task_id for settlement in settlements}.difference(rows)):
        found = connection.execute(_SETTLED_FENCES, {"ids": others})
        settled_fences |= {row.id: row.settled_fence for row in found}
    answers: list[bool] = []
    changes: dict[int, Change] = {}
    words: list[tuple[Any, Settlement]] = []
    for settlement in settlements:
        row = rows.get(settlement.task_id)
        before = changes.get(settlement.task_id)
        if settlement.fence in (settled_fences.get(settlement.task_id), before.settled_fence if before else None):
            answers.append(True)
        elif row is None or before or row.fence != settlement.fence:
            answers.append(False)
        elif row.thumbprint != settlement.thumbprint:
            answers.append(False)  # not the worker that has the lease
        else:
            own = policy.of_job(row.job_attempts)
            decision = decide(row, settlement, job_cancelled=row.job_cancelled, policy=own)
            channel = settlement.data_channel if row.kind == TaskKind.COPY_FILES else 0
            left = leaves_behind(row, settlement, decision)
            changes[row.id] = Change(row, decision, settlement.fence, row.lapses, channel, left)
            words.append((row, settlement))
            answers.append(True)
    if changes:
        _record_attempts(connection, words)
        apply_changes(connection, list(changes.values()))
    jobs = {change.task.job_id for change in changes.values()}
    return Settled(answers, jobs, {(task_id, change.task.fence) for task_id, change in changes.items()})


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a running task.

    Attributes:
        task: its row, from `running_tasks`.
        settled_fence: the fence of the word that decided, or the one before where none did.
        data_channel: how bytes went, as the contract numbers it; 0: none did.
        left_behind: whether temporary files of it may lie at its destination.
    """

    task: Any
    decision: Decision
    settled_fence: int | None
    lapses: int
    data_channel: int = 0
    left_behind: bool = False


def apply_changes(connection: Connection, changes: Sequence[Change], again: Sequence[Any] = ()) -> None:
    """Writes what becomes of running tasks, and adds it to their jobs' and links' counters.

    Args:
        again: rows, from `running_tasks`, of tasks that have been made ready instead: they run no longer.
    """
    now_ms = database_now_ms(connection)
    if changes:
        connection.execute(_UPDATE_TASK, [_task_values(change, now_ms) for change in changes])
    failures = [
        {
            "job_id": change.task.job_id,
            "task_id": change.task.id,
            "entry_index": entry.index,
            "path": entry.path,
            "size_bytes": entry.size_bytes,
            "failure": entry.failure.as_json(),
        }
        for change in changes
        for entry in change.decision.failures
    ]
    if failures:
        connection.execute(sa.insert(EntryFailure), failures)
    give_back(connection, [*(change.task for change in changes), *again])
    by_job: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        by_job[change.task.job_id].append(change)
    stopped = Counter(row.job_id for row in again)
    values = [_job_values(job, by_job.get(job, ()), stopped[job], now_ms) for job in sorted({*by_job, *stopped})]
    if values:
        connection.execute(_UPDATE_JOB, values)


def _task_values(change: Change, now_ms: int) -> dict[str, Any]:
    decision = change.decision
    return {
        "task": change.task.id,
        "new_state": decision.state,
        "new_settled": decision.settled or None,
        "new_settled_fence": change.settled_fence,
        "new_tries": decision.tries,
        "new_lapses": change.lapses,
        "more_files_done": decision.files_done,
        "more_bytes_done": decision.bytes_done,
        "more_files_unchanged": decision.files_unchanged,
        "more_bytes_unchanged": decision.bytes_unchanged,
        "more_files_failed": decision.files_failed,
        "more_bytes_failed": decision.bytes_failed,
        "new_not_before_ms": None if decision.state in ENDED else now_ms + int(decision.delay_s * 1000),
        "new_failure": _failure(change),
        "new_left_behind": change.left_behind,
    }


def _failure(change: Change) -> dict[str, object] | None:
    """Returns why a task fails, or is not done yet; what failed for good in an attempt before is not forgotten."""
    if change.decision.failure is not None:
        return change.decision.failure.as_json()
    before: dict[str, object] | None = change.task.failure
    return before if change.task.files_failed else None


def _job_values(job_id: int, changes: Sequence[Change], stopped: int, now_ms: int) -> dict[str, Any]:
    sums = dict.fromkeys(_SUMS, 0) | {"tasks_running": -stopped}
    failure: dict[str, object] | None = None
    channels = 0
    for change in changes:
        decision = change.decision
        over = 1 if decision.state in ENDED else 0
        sums["tasks_running"] -= 1
        sums["tasks_open"] -= over
        sums["phase_open"] -= over
        sums["walks_open"] -= over if change.task.kind in WALKS else 0
        sums["tasks_failed"] += 1 if decision.task_failed and over else 0
        sums["tasks_cancelled"] += 1 if decision.state is TaskState.CANCELLED else 0
        if change.task.extraneous:
            sums["extraneous_removed"] += decision.files_done + decision.directories_done + _gone(change)
        else:
            for name in _OF_FILES:
                sums[name] += getattr(decision, name)
        channels |= 1 << change.data_channel if change.data_channel else 0
        if failure is None and (decision.task_failed or decision.failures):
            failure = _failure(change)
    return {
        "job": job_id,
        "now_ms": now_ms,
        "new_failure": failure,
        "channels": channels,
        **{f"more_{name}": value for name, value in sums.items()},
    }


def _gone(change: Change) -> int:
    """Returns 1 for a walk that found no directory to be removed later: a link, which is removed by now, or nothing."""
    task = change.task
    over = change.decision.state is TaskState.SUCCEEDED and not task.job_dry_run
    return int(over and task.kind == TaskKind.WALK_REMOVE and not task.removal_reported)


def _record_attempts(connection: Connection, words: Sequence[tuple[Any, Settlement]]) -> None:
    ended_ms = database_now_ms(connection)
    connection.execute(
        sa.insert(Attempt),
        [
            {
                "task_id": row.id,
                "fence": settlement.fence,
                "worker": settlement.worker,
                "outcome": settlement.outcome,
                "failure": settlement.failure.as_json() if settlement.failure else None,
                "results": settlement.results or None,
                "log": settlement.log,
                "ended_ms": ended_ms,
            }
            for row, settlement in words
        ],
    )
