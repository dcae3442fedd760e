"""Reading what retention clears away at that very moment; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from wherry_chassis.errors import DomainError
from wherry_queue.jobs import AttemptNotFound, JobNotFound, ListingGone, NewTask
from wherry_queue.models import Job, ListingChunk
from wherry_queue.states import TaskKind, WorkClass
from wherry_queue.store import job_tasks, reading, retention
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

T = TypeVar("T")
ME = "users/a"
_AT_ONCE = -1000
"""Everything that has ended is old."""


async def read_while(queue: QueueCase, word: str, sweep: Callable[..., int], work: Callable[..., T], *args: Any) -> T:
    """Reads, while something is swept just before the first statement with a word in it."""
    loop = asyncio.get_running_loop()
    pending = [word]

    def read(connection: Connection) -> T:
        @event.listens_for(connection, "before_cursor_execute")
        def before(_: object, __: object, statement: str, *___: object) -> None:
            if pending and pending[0] in statement:
                pending.clear()
                asyncio.run_coroutine_threadsafe(queue.database.write(sweep, _AT_ONCE), loop).result(10)

        return work(connection, *args)

    try:
        return await queue.database.read(read)
    finally:
        assert not pending, "nothing was read that has the word in it"


async def ended_copy(queue: QueueCase) -> tuple[int, str, int]:
    """A copy that has ended: its id, its uid, its task."""
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20, log="all went well")
    return job_id, uid, task.task_id


@pytest.mark.row("O4", missing="backup and restore")
async def test_a_listing_that_is_swept_between_two_readings_is_not_found_and_not_at_its_end(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(
        copy_job(operation="list", tasks=[NewTask(TaskKind.LIST, b"/from")], work_class=WorkClass.INTERACTIVE)
    )
    (task,) = await queue.lease(1, WorkClass.INTERACTIVE)
    await queue.report(task, entries=b"some")
    await queue.settle(task)
    read = (queue, "FROM listing_chunk", retention.sweep_listings, reading.listing_after, job_id, 0)
    if queue.database.dialect == "sqlite":  # what is read there is of one moment
        chunks, _ = await read_while(*read)
        assert [payload for _, payload in chunks] == [b"some"]
    else:
        with pytest.raises(ListingGone):
            await read_while(*read)
    with pytest.raises(ListingGone):
        await queue.database.read(reading.listing_after, job_id, 0)


@pytest.mark.row("O4", missing="backup and restore")
async def test_a_long_listing_is_swept_in_parts_and_at_no_time_looks_like_a_shorter_one(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(
        copy_job(operation="list", tasks=[NewTask(TaskKind.LIST, b"/from")], work_class=WorkClass.INTERACTIVE)
    )
    (task,) = await queue.lease(1, WorkClass.INTERACTIVE)
    cursor = b""
    for number in range(450):
        after, cursor = cursor, b"%04d" % number
        await queue.report(task, cursor, after, entries=b"some")
    await queue.settle(task)

    def kept(connection: Connection) -> int:
        return connection.execute(sa.select(sa.func.count()).select_from(ListingChunk)).scalar_one()

    left = []
    while await queue.database.write(retention.sweep_listings, _AT_ONCE):
        left.append(await queue.database.read(kept))
        with pytest.raises(ListingGone):
            await queue.database.read(reading.listing_after, job_id, 0)
    assert left == [250, 50, 0]
    assert await queue.database.read(lambda c: c.execute(sa.select(Job.id)).all()) == []


@pytest.mark.row("O4", missing="backup and restore")
@pytest.mark.parametrize(
    ("word", "work", "error"),
    [
        ("FROM job_progress", lambda c, uid, _: reading.view_job(c, ME, uid), JobNotFound),
        ("AS destination", lambda c, uid, _: reading.sites_of(c, ME, uid), JobNotFound),
        ("OFFSET", lambda c, uid, task_id: job_tasks.get_attempt(c, ME, uid, task_id, -1), AttemptNotFound),
    ],
    ids=["a job", "its sites", "an attempt"],
)
async def test_what_is_swept_between_two_statements_is_not_found(
    queue: QueueCase, word: str, work: Callable[..., Any], error: type[DomainError]
) -> None:
    _, uid, task_id = await ended_copy(queue)
    if queue.database.dialect == "sqlite":  # what is read there is of one moment
        await read_while(queue, word, retention.sweep_jobs, work, uid, task_id)
    else:
        with pytest.raises(error):
            await read_while(queue, word, retention.sweep_jobs, work, uid, task_id)
    with pytest.raises(JobNotFound):
        await queue.database.read(work, uid, task_id)
    assert await queue.database.read(lambda c: c.execute(sa.select(sa.func.count(Job.id))).scalar_one()) == 0
