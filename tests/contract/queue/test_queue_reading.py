"""What owners see of their jobs, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from wherry_queue.jobs import JobNotFound, NewTask
from wherry_queue.settling import Failure
from wherry_queue.states import Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import control, reading
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job


@pytest.mark.row("J3", missing="per-file listing of a job")
async def test_what_belongs_to_somebody_else_does_not_exist(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job("users/a"))
    task = await queue.lease_one()
    for work, args in (
        (reading.view_job, ()),
        (control.cancel, ()),
        (reading.list_tasks, (0, 10)),
        (reading.get_task, (task.task_id,)),
        (reading.list_attempts, (task.task_id,)),
        (reading.list_failures, (0, 10)),
    ):
        with pytest.raises(JobNotFound):
            await queue.database.write(work, "users/b", uid, *args)
    assert await queue.database.read(reading.list_jobs, "users/b", None, 10) == []


@pytest.mark.row("J3", missing="per-file listing of a job")
async def test_tasks_and_attempts_of_ones_own_job_can_be_read(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    first = await queue.lease_one()
    await queue.settle(first, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True), log="lost it")
    await queue.release()
    second = await queue.lease_one()
    await queue.settle(second, done=b"\x03", files_done=2, bytes_done=20)
    (task,) = await queue.database.read(reading.list_tasks, "users/a", uid, 0, 10)
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 2)
    attempts = await queue.database.read(reading.list_attempts, "users/a", uid, task.id)
    assert [(row.outcome, row.log) for row in attempts] == [(Outcome.FAILED, "lost it"), (Outcome.COMPLETED, "")]


async def test_jobs_are_listed_newest_first_by_key(queue: QueueCase) -> None:
    uids = [(await queue.submit(copy_job()))[1] for _ in range(5)]
    page = await queue.database.read(reading.list_jobs, "users/a", None, 3)
    assert [view.row.uid for view in page] == uids[:1:-1]
    rest = await queue.database.read(reading.list_jobs, "users/a", page[-1].row.id, 3)
    assert [view.row.uid for view in rest] == uids[1::-1]


async def test_listings_have_a_class_of_their_own(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    listing = copy_job(
        operation="list",
        tasks=[NewTask(TaskKind.LIST, b"/d")],
        work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )
    job_id, _ = await queue.submit(listing)
    (task,) = await queue.lease(10, WorkClass.INTERACTIVE)
    assert task.kind is TaskKind.LIST
    await queue.report(task, cursor=b"b", entries=b"one")
    await queue.report(task, after=b"b", cursor=b"c", entries=b"two")
    chunks, row = await queue.database.read(reading.listing_after, job_id, 0)
    assert [payload for _, payload in chunks] == [b"one", b"two"]
    assert row.state == TaskState.RUNNING
    assert await queue.database.read(reading.list_jobs, "users/a", None, 10) != []
    assert all(view.row.id != job_id for view in await queue.database.read(reading.list_jobs, "users/a", None, 10))
