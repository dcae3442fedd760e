"""Dry runs: only walks run, all else is planned and ends so; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from wherry_queue.job_files import ChunkPart, Cursor, FileState
from wherry_queue.jobs import NothingToRetry
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState
from wherry_queue.store import control, job_files, job_tasks, retrying
from wherry_queue.store.reading import JobFilter, list_jobs
from wherry_testing.queue_acts import pack
from wherry_testing.queue_cases import QueueCase, copy_job, files

pytestmark = pytest.mark.row("J11", missing="reachable both ways")


async def walked(queue: QueueCase, *, extraneous: bool = False, **values: Any) -> tuple[int, str]:
    """A dry run whose walk has found two files to copy and a sub-directory with one, and has ended."""
    job_id, uid = await queue.submit(copy_job(dry_run=True, delete_extraneous=extraneous))
    root = await queue.lease_one()
    await queue.report(root, chunks=[files(2)], directories=[b"sub"], directories_done=1, **values)
    await queue.settle(root)
    walk = await queue.lease_one()
    assert walk.kind is TaskKind.WALK_COPY
    await queue.report(walk, chunks=[files(1)], directories_done=1)
    await queue.settle(walk)
    return job_id, uid


async def states_of(queue: QueueCase, job_id: int) -> set[JobState]:
    """The states by which the list of jobs finds a job."""
    found = set()
    for state in JobState:
        page = await queue.database.read(list_jobs, "users/a", None, 10, JobFilter(states={state}))
        found |= {state for view in page.views if view.row.id == job_id}
    return found


async def test_what_would_be_copied_is_planned_and_never_leased(queue: QueueCase) -> None:
    job_id, uid = await walked(queue)
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.SUCCEEDED
    job = await queue.job(job_id)
    assert (job.files_total, job.bytes_total, job.files_done, job.bytes_done) == (3, 30, 0, 0)
    assert (job.directories_total, job.directories_done) == (2, 0), "no directory was made"
    tasks = await queue.database.read(job_tasks.list_tasks, "users/a", uid, 0, 10, {TaskState.PLANNED})
    assert [(row.kind, row.entry_count) for row in tasks.rows] == [(TaskKind.COPY_FILES, 2), (TaskKind.COPY_FILES, 1)]
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 10, {FileState.PLANNED})
    assert sum(len(part.files) for part in page.parts if isinstance(part, ChunkPart)) == 3
    assert await states_of(queue, job_id) == {JobState.SUCCEEDED}
    with pytest.raises(NothingToRetry):
        await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()


async def test_clashes_are_failures_and_the_job_ends_as_it_would_have(queue: QueueCase) -> None:
    clash = FailedEntry(0, b"/from/there", 7, Failure("DESTINATION_EXISTS", "it is there"))
    job_id, uid = await walked(queue, failures=[clash])
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    assert await states_of(queue, job_id) == {JobState.PARTIALLY_FAILED}
    with pytest.raises(NothingToRetry):
        await queue.database.write(retrying.retry, "users/a", uid, pack)
    await queue.check_counters()


async def test_a_source_that_is_not_there_fails_the_job(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(dry_run=True))
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=Failure("SOURCE_NOT_FOUND", "nothing there"))
    assert await queue.state(job_id) is JobState.FAILED
    assert await states_of(queue, job_id) == {JobState.FAILED}
    await queue.check_counters()


@pytest.mark.row("J8")
async def test_what_would_be_removed_is_looked_through_and_planned(queue: QueueCase) -> None:
    extra: dict[str, Any] = {"extraneous_chunks": [files(2)], "extraneous_directories": [b"old"]}
    job_id, uid = await walked(queue, extraneous=True, **extra)
    walk = await queue.lease_one()
    assert (walk.kind, walk.source_path, walk.extraneous) == (TaskKind.WALK_REMOVE, b"/to/old", True)
    await queue.report(walk, chunks=[files(1)], remove_directory=True)
    await queue.settle(walk)
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.SUCCEEDED
    job = await queue.job(job_id)
    assert (job.files_total, job.extraneous_total, job.extraneous_removed) == (3, 4, 0)
    tasks = await queue.database.read(job_tasks.list_tasks, "users/a", uid, 0, 20, {TaskState.PLANNED})
    kinds = [row.kind for row in tasks.rows if row.kind != TaskKind.COPY_FILES]
    assert sorted(kinds) == [TaskKind.REMOVE_FILES, TaskKind.REMOVE_FILES, TaskKind.REMOVE_DIRECTORY]
    await queue.check_counters()


@pytest.mark.row("J8")
async def test_a_dry_run_with_clashes_says_that_nothing_would_be_removed(queue: QueueCase) -> None:
    clash = FailedEntry(0, b"/from/there", 7, Failure("DESTINATION_EXISTS", "it is there"))
    extra: dict[str, Any] = {"extraneous_chunks": [files(2)], "extraneous_directories": [b"old"]}
    job_id, uid = await walked(queue, extraneous=True, failures=[clash], **extra)
    assert await queue.lease() == []
    failures = await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)
    assert [row.failure["reason"] for row in failures.rows] == ["DESTINATION_EXISTS", "EXTRANEOUS_KEPT"]
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()


async def test_a_dry_run_can_be_cancelled(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(dry_run=True))
    root = await queue.lease_one()
    await queue.report(root, chunks=[files(2)], directories=[b"sub"], directories_done=1)
    await queue.database.write(control.cancel, "users/a", uid)
    await queue.settle(root, Outcome.CANCELLED)
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()
