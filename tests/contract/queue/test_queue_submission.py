"""Jobs, and what walks add to them, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import LeaseLost, NewTask
from wherry_queue.models import EntryFailure
from wherry_queue.states import JobState, Outcome, TaskKind
from wherry_queue.store import control, leases
from wherry_testing.queue_cases import QueueCase, copy_job, failed, files


@pytest.mark.row("J10")
async def test_the_same_request_id_gives_the_same_job(queue: QueueCase) -> None:
    first = await queue.submit(copy_job(request_id="r1"))
    again = await queue.submit(copy_job(request_id="r1"))
    other_user = await queue.submit(copy_job("users/b", request_id="r1"))
    assert first == again
    assert other_user != first
    assert len(await queue.lease(10)) == 2


async def test_requests_with_one_id_at_the_same_time_make_one_job(queue: QueueCase) -> None:
    made = await asyncio.gather(*(queue.submit(copy_job(request_id="same")) for _ in range(8)))
    assert len(set(made)) == 1
    assert len(await queue.lease(10)) == 1
    await queue.check_counters()


@pytest.mark.row("D1")
async def test_a_batch_that_is_reported_twice_counts_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    for _ in range(2):
        await queue.report(walk, cursor=b"m", chunks=[files(3)], directories=[b"sub"], directories_done=1)
    await queue.report(walk, after=b"m", cursor=b"z", chunks=[files(2)])
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_total, job.directories_done) == (5, 2, 1)
    await queue.check_counters()


@pytest.mark.row("J6")
async def test_sub_directories_that_a_walk_goes_into_itself_are_done_and_what_lies_deeper_has_walks(
    queue: QueueCase,
) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"z", chunks=[files(1)], directories_done=1)
    for _ in range(2):
        await queue.report(
            walk,
            after=b"z",
            cursor=b"z//b/f",
            chunks=[files(3), files(2)],
            directories=[b"a/deeper", b"left"],
            inner_directories=2,
            below=True,
        )
    assert await queue.settle(walk)
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_total, job.directories_done) == (6, 5, 3)
    tasks = await queue.lease(10)
    walks = {task.source_path: task.destination_path for task in tasks if task.kind is TaskKind.WALK_COPY}
    assert walks == {
        walk.source_path + b"/a/deeper": (walk.destination_path or b"") + b"/a/deeper",
        walk.source_path + b"/left": (walk.destination_path or b"") + b"/left",
    }
    assert {task.path_below for task in tasks if task.kind is TaskKind.WALK_COPY} == {b"a/deeper", b"left"}
    chunks = [task for task in tasks if task.kind is TaskKind.COPY_FILES]
    assert sorted((task.entry_count, task.below, task.source_path) for task in chunks) == [
        (1, False, walk.source_path),
        (2, True, walk.source_path),
        (3, True, walk.source_path),
    ]
    await queue.check_counters()


async def test_a_walk_of_an_empty_directory_reports_it_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    for _ in range(2):
        await queue.report(walk, cursor=b"", directories_done=1)
    assert await queue.settle(walk)
    job = await queue.job(job_id)
    assert (job.directories_total, job.directories_done) == (1, 1)
    assert await queue.state(job_id) is JobState.SUCCEEDED


async def test_a_walk_goes_on_behind_its_cursor_after_its_worker_was_lost(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"m", chunks=[files(3)], directories_done=1)
    await queue.database.write(leases.requeue, queue.replica_id, [(walk.task_id, walk.fence)])
    again = next(task for task in await queue.lease(10) if task.task_id == walk.task_id)
    assert again.cursor == b"m"
    await queue.report(again, after=b"m", cursor=b"z", chunks=[files(2)], directories_done=1)
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_done) == (5, 1)


async def test_a_removal_takes_files_first_and_directories_deepest_first(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(
        copy_job(
            operation="remove", tasks=[NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)], destination_site="sites/a"
        )
    )
    top = await queue.lease_one()
    await queue.report(top, directories=[b"sub"], chunks=[files(1)], remove_directory=True)
    await queue.settle(top)
    order = []
    while leased := await queue.lease(10):
        for task in leased:
            order.append((task.kind, task.source_path))
            if task.kind is TaskKind.WALK_REMOVE:
                await queue.report(task, chunks=[files(1)], remove_directory=True)
                await queue.settle(task)
            elif task.kind is TaskKind.REMOVE_FILES:
                await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10)
            else:
                await queue.settle(task)
    kinds = [kind for kind, _ in order]
    directories = [path for kind, path in order if kind is TaskKind.REMOVE_DIRECTORY]
    assert directories == [b"/d/sub", b"/d"]
    assert kinds.index(TaskKind.REMOVE_DIRECTORY) > max(
        i for i, kind in enumerate(kinds) if kind is not TaskKind.REMOVE_DIRECTORY
    )
    job = await queue.job(job_id)
    assert (job.files_done, job.directories_done, job.directories_total) == (2, 2, 2)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_unlistable_entries_are_failures_and_do_not_stop_the_rest(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, chunks=[files(1)], failures=[failed(0)])
    await queue.settle(walk)
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    job = await queue.job(job_id)
    assert (job.files_total, job.files_done, job.files_failed) == (2, 1, 1)
    rows = await queue.database.read(lambda c: c.execute(sa.select(EntryFailure.path)).scalars().all())
    assert rows == [b"/from/0"]


async def test_a_walk_of_a_cancelled_job_adds_nothing_more(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.database.write(control.cancel, "users/a", uid)
    with pytest.raises(LeaseLost):
        await queue.report(walk, chunks=[files(5)])
    await queue.settle(walk, Outcome.CANCELLED)
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()


async def test_a_removal_takes_in_what_appeared_behind_its_last_batch(queue: QueueCase) -> None:
    tasks = [NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)]
    job_id, _ = await queue.submit(copy_job(operation="remove", tasks=tasks, destination_site="sites/a"))
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"m", chunks=[files(1)], remove_directory=True)
    await queue.database.write(leases.requeue, queue.replica_id, [(walk.task_id, walk.fence)])
    again = next(task for task in await queue.lease(10) if task.task_id == walk.task_id)
    await queue.report(again, after=b"m", cursor=b"z", chunks=[files(2)], remove_directory=True)
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_total) == (3, 1)
