"""What the queue's books have to say when everything has come to its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Connection
from wherry.queue.v1 import lease_service_pb2
from wherry_queue import bitmap
from wherry_queue.models import (
    Attempt,
    Ban,
    EntryFailure,
    Job,
    Lane,
    Link,
    Site,
    StagedChunk,
    StagedCopy,
    Task,
    User,
)
from wherry_queue.states import CHUNKS, ENDED, Outcome, TaskState
from wherry_queue.store.staging import sweep_staged
from wherry_testing.queue_books import discrepancies


def faults(connection: Connection) -> list[str]:
    """Returns in words what is wrong with the books of a queue that has nothing left to do."""
    return [*discrepancies(connection), *_unrest(connection), *_double_work(connection)]


def swept(connection: Connection) -> int:
    """Sweeps what streams of pairs have left that broke off, as is done an hour later; returns how many there were."""
    count = 0
    while found := sweep_staged(connection, -1):
        count += found
    return count


def unfinished(connection: Connection) -> Iterator[str]:
    """Describes jobs that have not ended, for whoever wants to know why."""
    for job in connection.execute(sa.select(Job.__table__).where(Job.ended_ms.is_(None)).limit(5)).mappings():
        shown = {key: value for key, value in job.items() if key not in ("specification", "summary")}
        yield f"not ended: {shown}"
        tasks = sa.select(
            Task.id, Task.state, Task.fence, Task.settled_fence, Task.replica_id, Task.lane_id, Task.not_before_ms
        )
        open_tasks = tasks.where(Task.job_id == job["id"], Task.state.not_in(ENDED)).limit(5)
        yield from (f"open: {dict(row)}" for row in connection.execute(open_tasks).mappings())
        lanes = connection.execute(sa.select(Lane.__table__).where(Lane.job_id == job["id"])).mappings()
        yield from (f"lane: {dict(row)}" for row in lanes)


def _unrest(connection: Connection) -> Iterator[str]:
    """What still runs or waits, and what is still counted as running."""
    states = connection.execute(sa.select(Task.state, sa.func.count()).group_by(Task.state))
    for state, count in states:
        if state not in ENDED:
            yield f"{count} tasks are {TaskState(state).name} at the end"
    open_jobs = connection.execute(sa.select(Job.uid).where(Job.ended_ms.is_(None)).limit(20)).scalars().all()
    if open_jobs:
        yield f"jobs have not ended: {', '.join(open_jobs)}"
    counters: list[tuple[Any, list[Any]]] = [
        (Lane, [Lane.pending]),
        (User, [User.active_bulk, User.active_interactive, User.inflight]),
        (Link, [Link.inflight]),
        (Site, [Site.inflight_in, Site.inflight_out]),
    ]
    for table, columns in counters:
        for column in columns:
            for row_id, value in connection.execute(sa.select(table.id, column).where(column != 0).limit(20)):
                yield f"{table.__tablename__} {row_id}.{column.key} says {value}, with nothing to do"
    leased = sa.or_(Task.replica_id.is_not(None), Task.thumbprint.is_not(None), Task.counted != 0)
    for row_id in connection.execute(sa.select(Task.id).where(leased).limit(20)).scalars():
        yield f"task {row_id} has ended and bears marks of a lease"
    for staged in (StagedCopy, StagedChunk):
        if left := connection.execute(sa.select(sa.func.count()).select_from(staged)).scalar_one():
            yield f"{left} rows of {staged.__tablename__} are left"
    if bans := connection.execute(sa.select(Ban.subject)).scalars().all():
        yield f"bans are left: {', '.join(bans)}"


def _double_work(connection: Connection) -> Iterator[str]:
    """What was counted twice, or counted without having been done."""
    attempts: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(
        sa.select(Attempt.task_id, Attempt.fence, Attempt.outcome, Attempt.results).order_by(Attempt.fence)
    ):
        attempts[row.task_id].append(row)
    failed: dict[int, Counter[int]] = defaultdict(Counter)
    for task_id, index in connection.execute(sa.select(EntryFailure.task_id, EntryFailure.entry_index)):
        failed[task_id][index] += 1
    tasks = connection.execute(
        sa.select(
            Task.id, Task.kind, Task.state, Task.fence, Task.settled_fence, Task.settled, Task.entry_count,
            Task.files_done, Task.files_failed, Task.attempt_count,
        )
    )  # fmt: skip
    for task in tasks:
        mine = attempts[task.id]
        if task.state == TaskState.SUCCEEDED:
            yield from _ended_once(task, mine)
        if any(row.fence > task.fence for row in mine) or len({row.fence for row in mine}) != len(mine):
            yield f"task {task.id} has attempts under fences {[row.fence for row in mine]}, its own is {task.fence}"
        if task.kind in CHUNKS:
            yield from _entries_once(task, mine, failed[task.id])


def _ended_once(task: Any, attempts: list[Any]) -> Iterator[str]:
    if not attempts or (attempts[-1].fence, attempts[-1].outcome) != (task.fence, Outcome.COMPLETED):
        yield f"task {task.id} has succeeded, but its last attempt is not the one that did it"
    if task.settled_fence != task.fence:
        yield f"task {task.id} has succeeded under fence {task.settled_fence}, its own is {task.fence}"
    completed = sum(row.outcome == Outcome.COMPLETED for row in attempts)
    if task.kind not in CHUNKS and completed != 1:
        yield f"task {task.id} was completed {completed} times"


def _entries_once(task: Any, attempts: list[Any], failed: Counter[int]) -> Iterator[str]:
    done: Counter[int] = Counter()
    for row in attempts:
        if row.results:
            results = lease_service_pb2.ChunkResults.FromString(zstandard.decompress(row.results))
            done.update(result.index for result in results.results)
    twice = sorted(index for index, count in done.items() if count > 1)
    if twice:
        yield f"entries {twice} of task {task.id} were counted as done more than once"
    settled = {index for index in range(task.entry_count) if bitmap.contains(task.settled, index)}
    entries = {index for index in failed if index >= 0}
    if -1 not in failed and set(done) | entries != settled:
        yield f"task {task.id} has {sorted(settled)} settled, {sorted(done)} done and {sorted(entries)} failed"
    if len(done) != task.files_done:
        yield f"task {task.id} counts {task.files_done} files as done, its attempts did {len(done)}"
    if task.state == TaskState.SUCCEEDED and task.files_done != task.entry_count:
        yield f"task {task.id} has succeeded with {task.files_done} of {task.entry_count} files"
