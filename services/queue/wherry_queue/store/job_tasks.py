"""Reads jobs' tasks, their attempts and their failures for the jobs' owners. Lists go by key, never by offset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.jobs import AttemptNotFound, TaskNotFound
from wherry_queue.models import Attempt, EntryFailure, Task
from wherry_queue.states import TaskState
from wherry_queue.store.reading import job_id_of

_SHOWN: tuple[Any, ...] = (
    Task.id, Task.kind, Task.state, Task.source_path, Task.destination_path, Task.entry_count, Task.total_bytes,
    Task.attempt_count, Task.failure, Task.phase,
)  # fmt: skip
"""What owners see of a task; its payload is large and not among it."""
_ATTEMPT = (Attempt.worker, Attempt.outcome, Attempt.failure, Attempt.ended_ms)
LOOKED_AT = 10_000
"""So many of a job's tasks a filter is held against in one request; then there is a page, however short."""
ATTEMPTS = 200
"""The list of a task's attempts has at most the last so many."""
LOGS = 20
"""And of so many the logs, of up to 64 KiB each; the others' are there one by one."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, in the order of their ids.

    Attributes:
        after_id: behind which the next page begins; None: there is none.
    """

    rows: Sequence[Any]
    after_id: int | None

    def after(self, shown: int) -> int | None:
        """Returns behind which the next page begins if only the first so many rows (one, at least) were shown."""
        return self.after_id if shown == len(self.rows) else int(self.rows[shown - 1].id)


def list_tasks(
    connection: Connection, user: str, uid: str, after_id: int, limit: int, states: Collection[TaskState] = ()
) -> Page:
    """Returns a job's tasks in the order they were made, behind `after_id`; raises JobNotFound.

    With states a page may hold less than `limit` though more follow: a request looks at a bounded number of tasks.
    """
    behind = (Task.job_id == job_id_of(connection, user, uid), Task.id > after_id)
    if not states:
        return _page(connection, sa.select(*_SHOWN).where(*behind), limit)
    window = sa.select(Task.id).where(*behind).order_by(Task.id).limit(LOOKED_AT).subquery("looked_at")
    page = _page(
        connection, sa.select(*_SHOWN).join(window, window.c.id == Task.id).where(Task.state.in_(sorted(states))), limit
    )
    if page.after_id is not None:
        return page
    looked_at, last_id = connection.execute(sa.select(sa.func.count(), sa.func.max(window.c.id))).one()
    return Page(page.rows, last_id if looked_at == LOOKED_AT else None)


def _page(connection: Connection, query: sa.Select[Any], limit: int) -> Page:
    rows = connection.execute(query.order_by(Task.id).limit(limit + 1)).all()
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def get_task(connection: Connection, user: str, uid: str, task_id: int) -> Any:
    """Returns a task; raises JobNotFound or TaskNotFound."""
    job_id = job_id_of(connection, user, uid)
    row = connection.execute(sa.select(*_SHOWN).where(Task.job_id == job_id, Task.id == task_id)).one_or_none()
    if row is None:
        raise TaskNotFound(task=str(task_id))
    return row


def list_attempts(connection: Connection, user: str, uid: str, task_id: int) -> list[tuple[int, Any]]:
    """Returns a task's settled attempts, oldest first, each with its number; raises as `get_task`.

    At most the last `ATTEMPTS`; `log` is None except in the last `LOGS`.
    """
    get_task(connection, user, uid, task_id)
    of_task = sa.select(*_ATTEMPT).where(Attempt.task_id == task_id).order_by(Attempt.fence.desc())
    with_logs = of_task.add_columns(Attempt.log).limit(LOGS)
    without = of_task.add_columns(sa.null().label("log")).offset(LOGS).limit(ATTEMPTS - LOGS)
    rows = [row for query in (with_logs, without) for row in connection.execute(query)]
    last = _attempt_count(connection, task_id)
    return [(last - place, row) for place, row in enumerate(rows)][::-1]


def get_attempt(connection: Connection, user: str, uid: str, task_id: int, index: int) -> tuple[int, Any]:
    """Returns one of a task's settled attempts with its log, and its number.

    Args:
        index: from 1, or from the end from -1.

    Raises:
        JobNotFound, TaskNotFound: as `get_task`.
        AttemptNotFound: there are not so many.
    """
    get_task(connection, user, uid, task_id)
    last = _attempt_count(connection, task_id)
    number = index if index > 0 else last + 1 + index
    if index == 0 or not 1 <= number <= last:
        raise AttemptNotFound(attempt=str(index), task=str(task_id))
    query = sa.select(*_ATTEMPT, Attempt.log).where(Attempt.task_id == task_id).order_by(Attempt.fence)
    row = connection.execute(query.offset(number - 1).limit(1)).one_or_none()
    if row is None:
        raise AttemptNotFound(attempt=str(index), task=str(task_id))  # it was cleared away just now
    return number, row


def _attempt_count(connection: Connection, task_id: int) -> int:
    query = sa.select(sa.func.count()).select_from(Attempt).where(Attempt.task_id == task_id)
    return int(connection.execute(query).scalar_one())


def list_failures(connection: Connection, user: str, uid: str, after_id: int, limit: int) -> Page:
    """Returns a job's failures in the order they were recorded, behind `after_id`; raises JobNotFound.

    What was left out as the job's options say is among its files only.
    """
    job_id = job_id_of(connection, user, uid)
    query = (
        sa.select(EntryFailure.__table__)
        .where(EntryFailure.job_id == job_id, EntryFailure.id > after_id, ~EntryFailure.skipped)
        .order_by(EntryFailure.id)
        .limit(limit + 1)
    )
    rows = connection.execute(query).all()
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)
