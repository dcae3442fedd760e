"""Small building blocks for tests of the queue's store: jobs, chunks, and a worker's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from wherry_chassis.sql import Database
from wherry_queue.jobs import Chunk, Found, NewJob, NewTask
from wherry_queue.models import Job
from wherry_queue.settling import FailedEntry, Failure, RetryPolicy, Settlement
from wherry_queue.states import JobState, Outcome, TaskKind, WorkClass, job_state
from wherry_queue.store import lanes, leases, phases, reading, replicas, settlements, submission
from wherry_queue.store.leases import LeasedTask
from wherry_testing.queue_books import assert_counters

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
        self.replica_id = await self.database.write(replicas.renew_replica, None, 60_000)
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
        answers, jobs, _ = await self.database.write(settlements.settle, [word], POLICY)
        for job_id in jobs:
            await self.database.write(phases.open_next_phase, job_id)
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
