"""What owners see of their jobs, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from wherry_queue.job_files import Cursor
from wherry_queue.jobs import AttemptNotFound, JobNotFound, NewTask, TaskNotFound
from wherry_queue.models import Attempt
from wherry_queue.settling import Failure
from wherry_queue.states import Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import control, job_files, job_tasks, reading, retrying
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job


@pytest.mark.row("J3")
async def test_what_belongs_to_somebody_else_does_not_exist(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job("users/a"))
    task = await queue.lease_one()
    for work, args in (
        (reading.view_job, ()),
        (reading.sites_of, ()),
        (control.cancel, ()),
        (control.pause, ()),
        (control.resume, ()),
        (control.set_priority, (1,)),
        (retrying.retry, (lambda _: b"",)),
        (job_tasks.list_tasks, (0, 10)),
        (job_tasks.get_task, (task.task_id,)),
        (job_tasks.list_attempts, (task.task_id,)),
        (job_tasks.get_attempt, (task.task_id, 1)),
        (job_tasks.list_failures, (0, 10)),
        (job_files.list_files, (Cursor(), 10)),
    ):
        with pytest.raises(JobNotFound):
            await queue.database.write(work, "users/b", uid, *args)
    assert not (await queue.database.read(reading.list_jobs, "users/b", None, 10)).views


@pytest.mark.row("J3")
async def test_a_task_of_another_job_is_not_this_ones(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job())
    await queue.submit(copy_job(tasks=[chunk_task()]))
    page = await queue.database.read(job_tasks.list_tasks, "users/a", uid, 0, 10)
    with pytest.raises(TaskNotFound):
        await queue.database.read(job_tasks.get_task, "users/a", uid, page.rows[0].id + 1)


@pytest.mark.row("J3")
async def test_tasks_and_attempts_of_ones_own_job_can_be_read(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    first = await queue.lease_one()
    await queue.settle(first, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True), log="lost it")
    await queue.release()
    second = await queue.lease_one()
    await queue.settle(second, done=b"\x03", files_done=2, bytes_done=20)
    (task,) = (await queue.database.read(job_tasks.list_tasks, "users/a", uid, 0, 10)).rows
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 2)
    attempts = await queue.database.read(job_tasks.list_attempts, "users/a", uid, task.id)
    assert [(number, row.outcome, row.log) for number, row in attempts] == [
        (1, Outcome.FAILED, "lost it"),
        (2, Outcome.COMPLETED, ""),
    ]


@pytest.mark.row("J3")
async def test_tasks_are_listed_by_state_in_pages(queue: QueueCase, monkeypatch: pytest.MonkeyPatch) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(6)]))
    leased = await queue.lease(6)
    for task in leased[3:]:
        await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)

    async def pages(after_id: int | None, limit: int, states: set[TaskState]) -> list[list[int]]:
        found = []
        while after_id is not None:
            page = await queue.database.read(job_tasks.list_tasks, "users/a", uid, after_id, limit, states)
            found.append([row.id for row in page.rows])
            after_id = page.after_id
        return found

    ids = [task.task_id for task in leased]
    assert await pages(0, 4, set()) == [ids[:4], ids[4:]]
    assert await pages(0, 2, {TaskState.SUCCEEDED}) == [ids[3:5], ids[5:]]
    assert await pages(0, 10, {TaskState.RUNNING, TaskState.SUCCEEDED}) == [ids]
    assert await pages(0, 10, {TaskState.FAILED}) == [[]]
    # A job of very many tasks is gone through a part at a time.
    monkeypatch.setattr(job_tasks, "LOOKED_AT", 2)
    assert await pages(0, 10, {TaskState.SUCCEEDED}) == [[], [ids[3]], ids[4:], []]


async def _attempts(queue: QueueCase, count: int) -> tuple[str, int]:
    """Makes a task with attempts that were settled, each with its number in its log."""
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    rows = [
        {"task_id": task.task_id, "fence": n, "outcome": Outcome.RETURNED, "log": f"log {n}", "ended_ms": n}
        for n in range(1, count + 1)
    ]
    await queue.database.write(lambda c: c.execute(sa.insert(Attempt), rows))
    return uid, task.task_id


@pytest.mark.row("J4")
async def test_an_attempt_is_got_by_its_number_from_either_end(queue: QueueCase) -> None:
    uid, task_id = await _attempts(queue, 3)
    for index, expected in ((1, 1), (3, 3), (-1, 3), (-3, 1)):
        number, row = await queue.database.read(job_tasks.get_attempt, "users/a", uid, task_id, index)
        assert (number, row.log) == (expected, f"log {expected}")
    for index in (0, 4, -4, 999_999_999, -999_999_999):
        with pytest.raises(AttemptNotFound):
            await queue.database.read(job_tasks.get_attempt, "users/a", uid, task_id, index)


@pytest.mark.row("J4")
async def test_a_list_of_attempts_has_the_last_ones_and_only_the_newest_logs(queue: QueueCase) -> None:
    uid, task_id = await _attempts(queue, 250)
    found = await queue.database.read(job_tasks.list_attempts, "users/a", uid, task_id)
    assert [number for number, _ in found] == list(range(51, 251))
    assert [number for number, row in found if row.log is not None] == list(range(231, 251))
    assert all(row.log == f"log {number}" for number, row in found if row.log is not None)
    assert [row.ended_ms for _, row in found] == list(range(51, 251))


async def test_jobs_are_listed_newest_first_by_key(queue: QueueCase) -> None:
    uids = [(await queue.submit(copy_job()))[1] for _ in range(5)]
    page = await queue.database.read(reading.list_jobs, "users/a", None, 3)
    assert [view.row.uid for view in page.views] == uids[:1:-1]
    rest = await queue.database.read(reading.list_jobs, "users/a", page.before_id, 3)
    assert [view.row.uid for view in rest.views] == uids[1::-1]
    assert rest.before_id is None


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
    listed = (await queue.database.read(reading.list_jobs, "users/a", None, 10)).views
    assert len(listed) == 1
    assert listed[0].row.id != job_id
