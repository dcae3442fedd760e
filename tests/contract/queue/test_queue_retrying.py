"""Retrying: only what failed or was not done, and what a walk had to leave out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from wherry_queue.banning import UserSuspended
from wherry_queue.jobs import JobNotEnded, NothingToRetry
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import JobState, Outcome, TaskKind
from wherry_queue.store import banning, control, job_tasks, retrying
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, failed

pytestmark = pytest.mark.row("J7")


def pack(files: Sequence[tuple[bytes, bytes, int]]) -> bytes:
    """A payload that a test can read."""
    return b"|".join(name + b">" + other for name, other, _ in files)


async def retry(queue: QueueCase, uid: str, user: str = "users/a") -> int:
    return await queue.database.write(retrying.retry, user, uid, pack)


async def test_only_the_entries_that_failed_are_given_out_again(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(3)]))
    await queue.settle(await queue.lease_one(), done=b"\x05", files_done=2, bytes_done=20, failures=[failed(1)])
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await retry(queue, uid)
    await queue.check_counters()
    again = await queue.lease_one()
    assert (again.settled, again.payload, again.fence) == (b"\x05", b"packed", 2)
    await queue.settle(again, done=b"\x07", files_done=1, bytes_done=10)
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed, job.failure, await queue.state(job_id)) == (
        3,
        0,
        None,
        JobState.SUCCEEDED,
    )
    await queue.check_counters()


async def test_what_was_cancelled_goes_on_where_it_was(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(2), chunk_task(2)]))
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    await queue.database.write(control.cancel, "users/a", uid)
    assert await queue.state(job_id) is JobState.CANCELLED
    await retry(queue, uid)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.job(job_id)).files_done == 4
    await queue.check_counters()


async def test_a_job_with_work_left_and_one_that_is_all_done_are_not_retried(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    with pytest.raises(JobNotEnded):
        await retry(queue, uid)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    with pytest.raises(NothingToRetry):
        await retry(queue, uid)


async def left_out(queue: QueueCase, *reasons: str) -> tuple[int, str]:
    """A copy of a directory whose walk has left something out for each of the reasons, and has ended."""
    job_id, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    entries = [FailedEntry(0, b"/from/%d" % n, 7, Failure(reason, "no")) for n, reason in enumerate(reasons)]
    await queue.report(walk, failures=entries, directories_done=1)
    await queue.settle(walk)
    return job_id, uid


async def test_a_file_that_something_stood_in_the_way_of_becomes_a_chunk(queue: QueueCase) -> None:
    job_id, uid = await left_out(queue, "DESTINATION_EXISTS", "DESTINATION_IS_A_DIRECTORY")
    await retry(queue, uid)
    await queue.check_counters()
    chunk = await queue.lease_one()
    assert (chunk.kind, chunk.source_path, chunk.destination_path) == (TaskKind.COPY_FILES, b"/from", b"/to")
    assert (chunk.payload, chunk.entry_count, chunk.total_bytes) == (b"0>|1>", 2, 14)
    await queue.settle(chunk, done=b"\x03", files_done=2, bytes_done=14)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)).rows == []
    await queue.check_counters()


async def test_a_directory_that_a_file_stood_in_the_way_of_is_walked(queue: QueueCase) -> None:
    job_id, uid = await left_out(queue, "DESTINATION_NOT_A_DIRECTORY")
    await retry(queue, uid)
    walk = await queue.lease_one()
    assert (walk.kind, walk.source_path, walk.destination_path) == (TaskKind.WALK_COPY, b"/from/0", b"/to/0")
    await queue.report(walk, directories_done=1)
    await queue.settle(walk)
    job = await queue.job(job_id)
    assert (job.files_total, job.files_failed, job.directories_total, job.directories_done) == (0, 0, 2, 2)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_what_can_never_be_copied_is_not_tried_again(queue: QueueCase) -> None:
    job_id, uid = await left_out(queue, "SYMLINK_SKIPPED", "DESTINATION_EXISTS")
    await retry(queue, uid)
    chunk = await queue.lease_one()
    assert chunk.payload == b"1>"
    await queue.settle(chunk, done=b"\x01", files_done=1, bytes_done=7)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    with pytest.raises(NothingToRetry):
        await retry(queue, uid)


async def test_nothing_of_somebody_who_is_banned_is_retried(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(1)]))
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=Failure("NO_SPACE", "disk full"))
    await queue.database.write(banning.create, "operator", "users/a", "too much")
    with pytest.raises(UserSuspended):
        await retry(queue, uid)
    assert await queue.state(job_id) is JobState.FAILED
