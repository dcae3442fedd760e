"""Copies of very many files, kept out of sight until they are complete; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import Chunk, CopyForgotten, NewJob, TooMuchStaged
from wherry_queue.models import Job, StagedChunk, StagedCopy, Task
from wherry_queue.states import JobState, TaskKind
from wherry_queue.store import reading, staging
from wherry_queue.store.staging import Roots
from wherry_testing.queue_cases import QueueCase, copy_job

ROOTS = Roots(b"/from", b"/to")
MOST = 1 << 20


def a_copy(**changes: Any) -> NewJob:
    """A copy whose tasks are staged."""
    return replace(copy_job(**changes), tasks=(), recursive=False, item_count=5)


async def count(queue: QueueCase, table: Any) -> int:
    """How many rows a table has."""
    return await queue.database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


async def staged(queue: QueueCase, *sizes: int) -> int:
    """Stages a copy, a transaction for each of its chunks."""
    copy_id = await queue.database.write(staging.begin, "users/a")
    for number, size in enumerate(sizes):
        chunk = Chunk(b"chunk %d" % number, size, size * 10)
        await queue.database.write(staging.add, copy_id, [chunk], MOST)
    return copy_id


@pytest.mark.row("J10")
async def test_nothing_of_a_copy_is_there_before_it_is_complete(queue: QueueCase) -> None:
    copy_id = await staged(queue, 3, 2)
    assert await count(queue, Job) == 0
    assert await count(queue, Task) == 0
    assert await queue.lease(10) == []
    job_id, uid = await queue.database.write(staging.complete, copy_id, a_copy(), ROOTS)
    assert await queue.state(job_id) is JobState.QUEUED
    job = await queue.job(job_id)
    assert (job.files_total, job.bytes_total, job.tasks_open, job.phase_open) == (5, 50, 2, 2)
    await queue.check_counters()
    assert (await count(queue, StagedChunk), await count(queue, StagedCopy)) == (0, 0)
    assert (await queue.database.read(reading.list_jobs, "users/a", None, 10)).views[0].row.uid == uid


@pytest.mark.row("J10")
async def test_its_chunks_are_leased_in_the_order_they_came_and_may_lie_below_the_roots(queue: QueueCase) -> None:
    copy_id = await staged(queue, 3, 2, 1)
    job_id, _ = await queue.database.write(staging.complete, copy_id, a_copy(), ROOTS)
    leased = await queue.lease(10)
    assert [(task.payload, task.entry_count, task.total_bytes) for task in leased] == [
        (b"chunk 0", 3, 30), (b"chunk 1", 2, 20), (b"chunk 2", 1, 10)
    ]  # fmt: skip
    assert {(task.kind, task.source_path, task.destination_path) for task in leased} == {
        (TaskKind.COPY_FILES, b"/from", b"/to")
    }
    below = sa.select(Task.below).where(Task.job_id == job_id)
    assert set(await queue.database.read(lambda c: c.execute(below).scalars().all())) == {True}
    for task in leased:
        done = bytes([(1 << task.entry_count) - 1])
        await queue.settle(task, done=done, files_done=task.entry_count, bytes_done=task.total_bytes)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("J10")
async def test_the_same_request_again_gives_the_same_job_and_leaves_nothing_behind(queue: QueueCase) -> None:
    new = a_copy(request_id="r1")
    first = await queue.database.write(staging.complete, await staged(queue, 2), new, ROOTS)
    assert await queue.database.read(staging.earlier, "users/a", "r1") == first[1]
    assert await queue.database.read(staging.earlier, "users/b", "r1") is None
    again = await queue.database.write(staging.complete, await staged(queue, 2), new, ROOTS)
    assert again == first
    assert (await count(queue, Task), await count(queue, StagedChunk)) == (1, 0)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.database.write(staging.complete, await staged(queue, 2), new, ROOTS) == first
    assert await queue.state(first[0]) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("J10")
async def test_an_unfinished_copy_is_forgotten_and_a_later_word_of_it_is_refused(queue: QueueCase) -> None:
    old, new = await staged(queue, 2, 2), await staged(queue, 1)
    await queue.database.write(
        lambda c: c.execute(sa.update(StagedCopy).where(StagedCopy.id == old).values(added_ms=1000))
    )
    assert await queue.database.write(staging.sweep_staged, 3_600_000) == 1
    assert await count(queue, StagedChunk) == 1
    with pytest.raises(CopyForgotten):
        await queue.database.write(staging.add, old, [Chunk(b"late", 1, 1)], MOST)
    with pytest.raises(CopyForgotten):
        await queue.database.write(staging.complete, old, a_copy(), ROOTS)
    assert await count(queue, Job) == 0
    await queue.database.write(staging.complete, new, a_copy(), ROOTS)
    assert await queue.database.write(staging.sweep_staged, -10_000) == 0


@pytest.mark.row("J10")
async def test_a_late_word_of_a_forgotten_copy_is_not_taken_for_one_of_the_next(queue: QueueCase) -> None:
    old = await staged(queue, 1)
    await queue.database.write(staging.forget, old)
    assert await staged(queue, 1) != old
    with pytest.raises(CopyForgotten):
        await queue.database.write(staging.add, old, [Chunk(b"late", 1, 1)], MOST)


@pytest.mark.row("J10")
async def test_what_one_person_sends_at_once_has_a_bound_and_others_are_not_touched_by_it(queue: QueueCase) -> None:
    first, second = [await queue.database.write(staging.begin, "users/a") for _ in range(2)]
    other = await queue.database.write(staging.begin, "users/b")
    most = 100
    await queue.database.write(staging.add, first, [Chunk(b"x" * 60, 1, 1)], most)
    await queue.database.write(staging.add, second, [Chunk(b"x" * 40, 1, 1)], most)
    for copy_id in (first, second):
        with pytest.raises(TooMuchStaged, match="100 bytes"):
            await queue.database.write(staging.add, copy_id, [Chunk(b"x", 1, 1)], most)
    await queue.database.write(staging.add, other, [Chunk(b"x" * 100, 1, 1)], most)
    assert await count(queue, StagedChunk) == 3
    await queue.database.write(staging.complete, first, a_copy(), ROOTS)
    await queue.database.write(staging.add, second, [Chunk(b"x" * 60, 1, 1)], most)
