"""Small building blocks for tests of the queue's store: jobs, chunks, and a worker's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import Database
from wherry_queue.jobs import Chunk, Found, NewJob, NewTask
from wherry_queue.models import Job, Lane, Link, Task, User
from wherry_queue.settling import FailedEntry, Failure, RetryPolicy, Settlement
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState, WorkClass, job_state
from wherry_queue.store import control, lanes, leases, reading, settlements, submission
from wherry_queue.store.leases import LeasedTask

POLICY = RetryPolicy(attempts=3, back_off_s=0.0)


def copy_job(user: str = "users/a", *, tasks: Sequence[NewTask] | None = None, **changes: Any) -> NewJob:
    """A copy between two sites; one walk, unless other tasks are given."""
    values: dict[str, Any] = {
        "user": user,
        "source_site": "sites/a",
        "destination_site": "sites/b",
        "operation": "copy",
        "specification": b"",
        "tasks": tasks or [NewTask(TaskKind.WALK_COPY, b"/from", b"/to", root=True)],
        "recursive": True,
    }
    return NewJob(**(values | changes))


def chunk_task(entries: int = 2, size_bytes: int = 10) -> NewTask:
    """A chunk of files of equal size."""
    return NewTask(
        TaskKind.COPY_FILES, b"/from", b"/to", payload=b"packed", entry_count=entries, total_bytes=entries * size_bytes
    )


def failed(index: int, *, retryable: bool = False, size_bytes: int = 10) -> FailedEntry:
    """An entry that failed."""
    return FailedEntry(index, b"/from/%d" % index, size_bytes, Failure("NO_SPACE", "disk full", retryable=retryable))


@dataclass
class QueueCase:
    """A queue's database with one replica."""

    database: Database
    replica_id: int = 0

    async def begin(self) -> QueueCase:
        """Makes the replica's row."""
        self.replica_id = await self.database.write(control.renew_replica, None, 60_000)
        return self

    async def submit(self, job: NewJob) -> tuple[int, str]:
        """Makes a job."""
        return await self.database.write(submission.submit, job)

    async def lease(self, want: int = 10, work_class: WorkClass = WorkClass.BULK) -> list[LeasedTask]:
        """Leases."""
        return await self.database.write(leases.lease, self.replica_id, work_class, want)

    async def lease_one(self) -> LeasedTask:
        """Leases the one task that there is to lease."""
        (task,) = await self.lease(1)
        return task

    async def settle(self, task: LeasedTask, outcome: Outcome = Outcome.COMPLETED, **values: Any) -> bool:
        """Settles a lease; tells whether it counted."""
        fence = values.pop("fence", task.fence)
        word = Settlement(task.task_id, fence, outcome, **values)
        answers, jobs = await self.database.write(settlements.settle, [word], POLICY)
        for job_id in jobs:
            await self.database.write(lanes.open_next_phase, job_id)
        return answers[0]

    async def report(self, task: LeasedTask, cursor: bytes = b"z", after: bytes = b"", **values: Any) -> None:
        """Reports a walk's batch."""
        found = Found(task.task_id, values.pop("fence", task.fence), after, cursor, **values)
        await self.database.write(submission.report, found)

    async def release(self) -> None:
        """Makes delayed tasks ready that are due."""
        await self.database.write(lambda c: lanes.release_delayed(c, 1 << 60))

    async def job(self, job_id: int) -> Any:
        """A job's row."""
        return await self.database.read(lambda c: c.execute(sa.select(Job.__table__).where(Job.id == job_id)).one())

    async def state(self, job_id: int) -> JobState:
        """A job's state."""
        return job_state(await self.job(job_id))

    async def view(self, user: str, uid: str) -> reading.JobView:
        """A job as its owner sees it."""
        return await self.database.read(reading.view_job, user, uid)

    async def check_counters(self) -> None:
        """Asserts that every counter is what counting gives."""
        await self.database.read(assert_counters)


def files(entries: int, size_bytes: int = 10) -> Chunk:
    """A chunk as a walk reports it."""
    return Chunk(b"packed", entries, entries * size_bytes)


def assert_counters(connection: Connection) -> None:
    """Counts everything that is kept as a counter and asserts that it is right."""
    tasks = connection.execute(sa.select(Task.__table__)).all()
    open_states = {TaskState.READY, TaskState.RUNNING, TaskState.BLOCKED, TaskState.DELAYED}
    lanes_by_user: dict[int, int] = {}
    for lane in connection.execute(sa.select(Lane.__table__)):
        ready = [task for task in tasks if task.lane_id == lane.id and task.state == TaskState.READY]
        assert lane.pending == len(ready), f"lane {lane.id} counts {lane.pending}, has {len(ready)}"
        assert all(task.id >= lane.head for task in ready), "a ready task lies before its lane's head"
        if lane.pending:
            lanes_by_user[lane.user_id] = lanes_by_user.get(lane.user_id, 0) + 1
    for user in connection.execute(sa.select(User.__table__)):
        assert user.active_lanes == lanes_by_user.get(user.id, 0)
    for link in connection.execute(sa.select(Link.__table__).where(Link.cap.is_not(None))):
        of_link = {row.id for row in connection.execute(sa.select(Lane.id).where(Lane.link_id == link.id))}
        running = sum(task.state == TaskState.RUNNING and task.lane_id in of_link for task in tasks)
        assert link.inflight == running, f"link {link.id} counts {link.inflight}, has {running}"
    for job in connection.execute(sa.select(Job.__table__)):
        mine = [task for task in tasks if task.job_id == job.id]
        assert job.tasks_open == sum(task.state in open_states for task in mine)
        assert job.tasks_running == sum(task.state == TaskState.RUNNING for task in mine)
        assert job.walks_open == sum(
            task.state in open_states and task.kind in (TaskKind.WALK_COPY, TaskKind.WALK_REMOVE) for task in mine
        )
        assert job.files_done == sum(task.files_done for task in mine)
        assert job.bytes_done == sum(task.bytes_done for task in mine)
        assert job.files_done + job.files_failed <= max(job.files_total, sum(task.entry_count for task in mine))
        assert (job.ended_ms is not None) == (job.tasks_open == 0)
