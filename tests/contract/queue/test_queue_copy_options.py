"""What walks and chunks tell of a copy with options: unchanged, skipped, how the bytes went; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from wherry_queue.job_files import Cursor, FileState, LeftOut
from wherry_queue.jobs import NewJob, NothingToRetry, tree_tasks
from wherry_queue.models import Task
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import JobState, Outcome, TaskKind
from wherry_queue.store import job_files, job_tasks, retrying
from wherry_testing.queue_acts import pack
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, failed, files


def _tree_job(kind: TaskKind, operation: str) -> NewJob:
    return copy_job(
        source_site="sites/a", destination_site="sites/a", operation=operation, tasks=tree_tasks(kind, [b"/tree"])
    )


def skipped(number: int) -> FailedEntry:
    """An entry that a walk left out as it was told to."""
    return FailedEntry(0, b"/from/link%d" % number, 0, Failure("SYMLINK_SKIPPED", "links are left out"))


@pytest.mark.row("J8")
async def test_files_that_need_nothing_count_as_done_there_and_then(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, b"m", chunks=[files(2)], files_unchanged=3, bytes_unchanged=300, directories_done=1)
    await queue.report(walk, b"m", chunks=[files(2)], files_unchanged=3, bytes_unchanged=300)  # sent again
    job = await queue.job(job_id)
    assert (job.files_total, job.files_done, job.files_unchanged) == (5, 3, 3)
    assert (job.bytes_total, job.bytes_done) == (320, 300)
    await queue.check_counters()
    await queue.settle(walk)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("J8")
async def test_a_walk_that_goes_on_after_a_return_counts_what_it_finds_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    first = await queue.lease_one()
    await queue.report(first, b"m", files_unchanged=3, bytes_unchanged=300, directories_done=1)
    await queue.settle(first, Outcome.RETURNED)
    await queue.release()
    second = await queue.lease_one()
    assert second.cursor == b"m"
    await queue.report(second, b"z", b"m", files_unchanged=1, bytes_unchanged=100, directories_done=1)
    await queue.settle(second)
    job = await queue.job(job_id)
    assert (job.files_total, job.files_unchanged, job.bytes_done, job.directories_done) == (4, 4, 400, 1)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("J8")
async def test_files_that_their_worker_finds_unchanged_are_among_those_done(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(3)]))
    await queue.settle(await queue.lease_one(), done=b"\x07", files_done=3, bytes_done=30, files_unchanged=9)
    job = await queue.job(job_id)
    assert (job.files_done, job.files_unchanged) == (3, 3), "never more of them than were done"
    await queue.check_counters()


@pytest.mark.row("J6")
@pytest.mark.row("D9")
async def test_what_is_skipped_is_shown_with_its_reason_and_is_no_failure(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, chunks=[files(1)], skipped=[skipped(0), skipped(1)], directories_done=1)
    await queue.settle(walk)
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1, bytes_done=10)
    job = await queue.job(job_id)
    assert (job.entries_skipped, job.files_total, job.files_failed, job.failure) == (2, 1, 0, None)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    assert (await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)).rows == []
    for wanted in ((), {FileState.SKIPPED}):
        page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 10, wanted)
        left = [part for part in page.parts if isinstance(part, LeftOut)]
        assert [(part.failure.path, part.state) for part in left] == [
            (b"/from/link0", FileState.SKIPPED),
            (b"/from/link1", FileState.SKIPPED),
        ]
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 10, {FileState.FAILED})
    assert page.parts == []
    with pytest.raises(NothingToRetry):
        await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()


@pytest.mark.row("J6")
@pytest.mark.parametrize("bound", [1, 2, 3, 100])
async def test_what_failed_and_what_was_skipped_is_listed_once_however_few_are_looked_at_at_a_time(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    _, uid = await queue.submit(copy_job())
    root = await queue.lease_one()
    await queue.report(root, directories=[b"a", b"b", b"c", b"d"], directories_done=1)
    await queue.settle(root)
    expected = []
    # Of each walk: how many it skipped, how many failed.
    for place, (left_out, wrong) in enumerate([(3, 0), (0, 3), (2, 2), (1, 0)]):
        walk = await queue.lease_one()
        links = [replace(skipped(n), path=b"/from/%d/link%d" % (place, n)) for n in range(left_out)]
        faults = [replace(failed(n), path=b"/from/%d/fault%d" % (place, n)) for n in range(wrong)]
        await queue.report(walk, skipped=links, failures=faults, directories_done=1)
        await queue.settle(walk)
        expected += sorted(entry.path for entry in (*links, *faults))
    monkeypatch.setattr(job_files, "_FAILURES", bound)
    listed: list[bytes] = []
    after: Cursor | None = Cursor()
    wanted = {FileState.FAILED, FileState.SKIPPED}
    while after is not None:
        page = await queue.database.read(job_files.list_files, "users/a", uid, after, 2, wanted)
        listed += [part.failure.path for part in page.parts if isinstance(part, LeftOut)]
        after = page.next
    assert len(listed) == len(expected)
    assert sorted(listed) == expected


@pytest.mark.row("J6")
async def test_a_retry_leaves_what_was_skipped_as_it_is(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, chunks=[files(1)], skipped=[skipped(0)], directories_done=1)
    await queue.settle(walk)
    await queue.settle(await queue.lease_one(), failures=[failed(0)])
    assert await queue.state(job_id) is JobState.FAILED
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    job = await queue.job(job_id)
    assert (job.tasks_failed, job.failure, job.entries_skipped) == (0, None, 1)
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_a_job_remembers_each_way_in_which_its_bytes_went(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(3)]))
    for channel in (1, 3, 0):
        task = await queue.lease_one()
        await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20, data_channel=channel)
    assert (await queue.job(job_id)).data_channels == 1 << 1 | 1 << 3


@pytest.mark.row("J10")
async def test_each_walk_knows_its_path_below_what_the_user_named(queue: QueueCase) -> None:
    await queue.submit(copy_job(options=b"options"))
    root = await queue.lease_one()
    assert (root.path_below, root.options) == (b"", b"options")
    await queue.report(root, directories=[b"sub"], directories_done=1)
    await queue.settle(root)
    below = await queue.lease_one()
    await queue.report(below, directories=[b"deep\xff"], directories_done=1)
    await queue.settle(below)
    deepest = await queue.lease_one()
    assert (below.path_below, deepest.path_below) == (b"sub", b"sub/deep\xff")
    assert (deepest.source_path, deepest.options) == (b"/from/sub/deep\xff", b"options")


async def test_a_walk_that_is_made_anew_by_a_retry_knows_it_too(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job())
    root = await queue.lease_one()
    await queue.report(root, directories=[b"sub"], directories_done=1)
    await queue.settle(root)
    walk = await queue.lease_one()
    blocked = FailedEntry(0, b"/from/sub/dir", 0, Failure("DESTINATION_NOT_A_DIRECTORY", "a file is there"))
    await queue.report(walk, failures=[blocked], directories_done=1)
    await queue.settle(walk)
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    assert (await queue.lease_one()).path_below == b"sub/dir"


@pytest.mark.row("J1")
@pytest.mark.row("D6")
async def test_permissions_are_changed_files_first_and_directories_deepest_first(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(_tree_job(TaskKind.WALK_CHANGE_MODE, "change_mode"))
    root = await queue.lease_one()
    assert (root.kind, root.root, root.recursive) == (TaskKind.WALK_CHANGE_MODE, True, True)
    await queue.report(root, chunks=[files(2)], directories=[b"sub"], remove_directory=True)
    await queue.settle(root)
    leased = {task.kind: task for task in await queue.lease()}
    assert set(leased) == {TaskKind.CHANGE_MODE_OF_FILES, TaskKind.WALK_CHANGE_MODE}
    walk = leased[TaskKind.WALK_CHANGE_MODE]
    await queue.report(walk, chunks=[files(1)], remove_directory=True)
    await queue.settle(walk)
    await queue.settle(leased[TaskKind.CHANGE_MODE_OF_FILES], done=b"\x03", files_done=2)
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1)
    deeper = await queue.lease_one()
    assert (deeper.kind, deeper.source_path) == (TaskKind.CHANGE_MODE_OF_DIRECTORY, b"/tree/sub")
    assert await queue.lease() == []
    await queue.settle(deeper)
    last = await queue.lease_one()
    assert (last.kind, last.source_path) == (TaskKind.CHANGE_MODE_OF_DIRECTORY, b"/tree")
    await queue.settle(last)
    job = await queue.job(job_id)
    assert (job.files_done, job.directories_total, job.directories_done) == (3, 2, 2)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("D6")
async def test_where_nobody_said_what_becomes_of_files_they_stay_whatever_a_walk_reports(queue: QueueCase) -> None:
    new = replace(_tree_job(TaskKind.WALK_CHANGE_MODE, "change_mode"), directories_only=True)
    job_id, _ = await queue.submit(new)
    root = await queue.lease_one()
    await queue.report(root, chunks=[files(2)], remove_directory=True)
    await queue.settle(root)
    directory = await queue.lease_one()
    assert directory.kind is TaskKind.CHANGE_MODE_OF_DIRECTORY
    await queue.settle(directory)
    assert (await queue.job(job_id)).files_total == 0
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("J1")
@pytest.mark.row("J9")
async def test_checksums_are_computed_in_chunks_and_failed_ones_are_tried_again(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(_tree_job(TaskKind.WALK_CHECKSUM, "checksum"))
    root = await queue.lease_one()
    await queue.report(root, chunks=[files(2)], directories=[b"sub"], remove_directory=True)
    await queue.settle(root)
    leased = {task.kind: task for task in await queue.lease()}
    assert set(leased) == {TaskKind.CHECKSUM_FILES, TaskKind.WALK_CHECKSUM}
    await queue.settle(leased[TaskKind.WALK_CHECKSUM])
    chunk = leased[TaskKind.CHECKSUM_FILES]
    await queue.settle(chunk, done=b"\x01", files_done=1, bytes_done=10, results=b"sums", failures=[failed(1)])
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed, job.directories_total) == (1, 1, 0)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()
    await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_a_walk_that_was_left_with_unchanged_files_still_fits_into_a_session(queue: QueueCase) -> None:
    await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, b"m", files_unchanged=3, bytes_unchanged=1 << 50, directories_done=1)
    await queue.settle(walk, Outcome.RETURNED)
    await queue.release()
    assert (await queue.lease_one()).task_id == walk.task_id
    bytes_done = await queue.database.read(lambda c: c.execute(sa.select(Task.bytes_done)).scalar_one())
    assert bytes_done == 1 << 50
