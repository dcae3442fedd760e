"""What only the destination of a copy has: removed at the end, and only if nothing has failed; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from wherry_queue.job_files import ChunkPart, Cursor, FileState
from wherry_queue.jobs import NothingToRetry
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState
from wherry_queue.store import control, job_files, job_tasks, retrying
from wherry_queue.store.leases import LeasedTask
from wherry_testing.queue_acts import pack
from wherry_testing.queue_cases import QueueCase, copy_job, failed, files

pytestmark = pytest.mark.row("J8")
ONE_DONE: dict[str, Any] = {"done": b"\x01", "files_done": 1, "bytes_done": 10}


async def synced(queue: QueueCase, **values: Any) -> tuple[int, str]:
    """A copy of one file, whose destination has two files and a directory more; its walk has ended."""
    job_id, uid = await queue.submit(copy_job(delete_extraneous=True))
    walk = await queue.lease_one()
    found: dict[str, Any] = {"extraneous_chunks": [files(2)], "extraneous_directories": [b"old"], "directories_done": 1}
    await queue.report(walk, chunks=[files(1)], **(found | values))
    await queue.settle(walk)
    return job_id, uid


async def remove_all(queue: QueueCase) -> list[LeasedTask]:
    """Does all that removes; returns it in its order."""
    done: list[LeasedTask] = []
    while leased := await queue.lease():
        for task in leased:
            if task.kind is TaskKind.WALK_REMOVE:
                await queue.report(task, chunks=[files(1)], remove_directory=True)
            sums: dict[str, Any] = (
                ONE_DONE if task.entry_count == 1 else {"done": b"\x03", "files_done": 2, "bytes_done": 20}
            )
            await queue.settle(task, **(sums if task.entry_count else {}))
        done += leased
    return done


async def test_it_is_removed_after_all_copying_and_counted_by_itself(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    chunk = await queue.lease_one()
    assert (chunk.kind, chunk.extraneous) == (TaskKind.COPY_FILES, False)
    assert await queue.lease() == [], "nothing is removed while something is being copied"
    await queue.settle(chunk, **ONE_DONE)
    removed = await remove_all(queue)
    assert all(task.extraneous for task in removed)
    assert {task.kind for task in removed[:2]} == {TaskKind.REMOVE_FILES, TaskKind.WALK_REMOVE}
    assert {task.source_path for task in removed[:2]} == {b"/to", b"/to/old"}
    assert [task.kind for task in removed[2:]] == [TaskKind.REMOVE_FILES, TaskKind.REMOVE_DIRECTORY]
    assert await queue.state(job_id) is JobState.SUCCEEDED
    job = await queue.job(job_id)
    assert (job.files_total, job.bytes_total, job.files_done, job.bytes_done) == (1, 10, 1, 10)
    assert (job.directories_total, job.directories_done) == (1, 1)
    assert (job.extraneous_total, job.extraneous_removed) == (4, 4)
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 10)
    assert [part.extraneous for part in page.parts if isinstance(part, ChunkPart)] == [False, True, True]
    await queue.check_counters()


async def test_nothing_is_removed_where_a_file_could_not_be_copied_and_the_job_says_so(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    await queue.settle(await queue.lease_one(), failures=[failed(0)])
    assert await queue.lease() == []
    job = await queue.job(job_id)
    assert (job.extraneous_total, job.extraneous_removed, job.walks_open) == (3, 0, 0)
    assert await queue.state(job_id) is JobState.FAILED
    failures = await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)
    assert [row.failure["reason"] for row in failures.rows] == ["NO_SPACE", "EXTRANEOUS_KEPT"]
    tasks = await queue.database.read(job_tasks.list_tasks, "users/a", uid, 0, 10, {TaskState.CANCELLED})
    assert {row.failure["reason"] for row in tasks.rows} == {"EXTRANEOUS_KEPT"}
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 10, {FileState.CANCELLED})
    assert sum(len(part.files) for part in page.parts if isinstance(part, ChunkPart)) == 2
    await queue.check_counters()


async def test_a_retry_that_mends_all_removes_it(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    await queue.settle(await queue.lease_one(), failures=[failed(0)])
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()
    chunk = await queue.lease_one()
    assert chunk.kind is TaskKind.COPY_FILES
    assert await queue.lease() == []
    await queue.settle(chunk, **ONE_DONE)
    await remove_all(queue)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.job(job_id)).extraneous_removed == 4
    assert (await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)).rows == []
    await queue.check_counters()


async def test_a_retry_removes_nothing_while_something_stays_failed_for_good(queue: QueueCase) -> None:
    special = FailedEntry(0, b"/from/pipe", 0, Failure("NOT_A_FILE", "a pipe"))
    job_id, uid = await synced(queue, failures=[special])
    await queue.settle(await queue.lease_one(), failures=[failed(0)])
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.settle(await queue.lease_one(), **ONE_DONE)
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    with pytest.raises(NothingToRetry):
        await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()


async def test_a_cancelled_job_removes_nothing_until_it_is_retried_and_all_is_copied(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    await queue.database.write(control.cancel, "users/a", uid)
    assert await queue.state(job_id) is JobState.CANCELLED
    assert await queue.lease() == []
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    chunk = await queue.lease_one()
    assert chunk.kind is TaskKind.COPY_FILES
    await queue.settle(chunk, **ONE_DONE)
    await remove_all(queue)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_what_cannot_be_removed_fails_and_is_tried_again_by_itself(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    await queue.settle(await queue.lease_one(), **ONE_DONE)
    for task in await queue.lease():
        if task.kind is TaskKind.WALK_REMOVE:
            await queue.settle(task, Outcome.FAILED, failure=Failure("DENIED", "no"))
        else:
            await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10, failures=[failed(1)])
    job = await queue.job(job_id)
    assert (job.files_failed, job.directories_failed, job.extraneous_removed) == (0, 0, 1)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()
    for task in await queue.lease():
        if task.kind is TaskKind.WALK_REMOVE:
            await queue.report(task, remove_directory=True)
            await queue.settle(task)
        else:
            assert task.settled == b"\x01"
            await queue.settle(task, done=b"\x03", files_done=1, bytes_done=10)
    await remove_all(queue)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.job(job_id)).extraneous_removed == 3
    await queue.check_counters()


async def test_a_job_that_copies_reads_as_running_though_it_will_list_again_to_remove(queue: QueueCase) -> None:
    job_id, uid = await synced(queue)
    assert (await queue.job(job_id)).walks_open == 0
    assert await queue.state(job_id) is JobState.RUNNING
    await queue.check_counters()
    await queue.database.write(control.cancel, "users/a", uid)
    assert (await queue.job(job_id)).walks_open == 0
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    assert (await queue.job(job_id)).walks_open == 0
    await queue.settle(await queue.lease_one(), **ONE_DONE)
    assert (await queue.job(job_id)).walks_open == 1
    assert await queue.state(job_id) is JobState.EXPANDING
    await queue.check_counters()
    await queue.database.write(control.cancel, "users/a", uid)
    assert (await queue.job(job_id)).walks_open == 0
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()


async def test_a_link_to_a_directory_is_gone_once_its_walk_has_removed_it(queue: QueueCase) -> None:
    job_id, _ = await synced(queue, extraneous_chunks=[])
    await queue.settle(await queue.lease_one(), **ONE_DONE)
    walk = await queue.lease_one()
    assert walk.kind is TaskKind.WALK_REMOVE
    await queue.report(walk, cursor=b"", directories_done=1)
    await queue.settle(walk)
    job = await queue.job(job_id)
    assert (job.extraneous_total, job.extraneous_removed) == (1, 1)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_without_having_been_asked_to_nothing_is_removed_whatever_a_walk_reports(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, extraneous_chunks=[files(2)], extraneous_directories=[b"old"], directories_done=1)
    await queue.settle(walk)
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.job(job_id)).extraneous_total == 0
    await queue.check_counters()
