"""Lists of jobs, filtered and in pages; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from wherry_queue.models import Job
from wherry_queue.states import JobState
from wherry_queue.store import control, reading
from wherry_queue.store.reading import JobFilter
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job


async def listed(queue: QueueCase, limit: int = 100, **wanted: Any) -> list[list[int]]:
    """The pages that a filter gives, as ids of jobs."""
    pages, before_id, more = [], None, True
    while more:
        page = await queue.database.read(reading.list_jobs, "users/a", before_id, limit, JobFilter(**wanted))
        pages.append([view.row.id for view in page.views])
        before_id = page.before_id
        more = before_id is not None
    return pages


async def created(queue: QueueCase, job_id: int, at_ms: int) -> None:
    """Puts a job's creation to another time."""
    await queue.database.write(lambda c: c.execute(sa.update(Job).where(Job.id == job_id).values(created_ms=at_ms)))


@pytest.mark.row("J2")
async def test_jobs_are_filtered_by_state_operation_and_site(queue: QueueCase) -> None:
    done, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    removal, _ = await queue.submit(copy_job(operation="remove", destination_site="sites/a", tasks=[chunk_task()]))
    paused, uid = await queue.submit(copy_job(source_site="sites/c"))
    await queue.database.write(control.pause, "users/a", uid)
    await queue.submit(copy_job("users/b"))
    assert await listed(queue) == [[paused, removal, done]]
    assert await listed(queue, states={JobState.SUCCEEDED}) == [[done]]
    assert await listed(queue, states={JobState.PAUSED, JobState.QUEUED}) == [[paused, removal]]
    assert await listed(queue, operations={"remove"}) == [[removal]]
    assert await listed(queue, operations={"remove", "copy"}) == [[paused, removal, done]]
    assert await listed(queue, site="sites/b") == [[paused, done]]
    assert await listed(queue, site="sites/a") == [[removal, done]]
    assert await listed(queue, site="sites/none") == [[]]
    assert await listed(queue, site="sites/b", states={JobState.PAUSED}) == [[paused]]


@pytest.mark.row("J2")
async def test_jobs_are_filtered_by_the_time_of_their_creation(queue: QueueCase) -> None:
    jobs = [(await queue.submit(copy_job()))[0] for _ in range(4)]
    for hour, job_id in enumerate(jobs):
        await created(queue, job_id, hour * 3_600_000)
    assert await listed(queue, from_ms=2 * 3_600_000) == [[jobs[3], jobs[2]]]
    assert await listed(queue, until_ms=2 * 3_600_000) == [[jobs[1], jobs[0]]]
    assert await listed(queue, from_ms=3_600_000, until_ms=3 * 3_600_000) == [[jobs[2], jobs[1]]]


@pytest.mark.row("J2")
async def test_a_filter_goes_through_many_jobs_a_part_at_a_time_and_misses_none(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [(await queue.submit(copy_job(operation="rename" if n % 5 == 0 else "copy")))[0] for n in range(12)]
    monkeypatch.setattr(reading, "LOOKED_AT", 4)
    newest_first = jobs[::-1]
    pages = await listed(queue, operations={"rename"})
    assert [job for page in pages for job in page] == [jobs[10], jobs[5], jobs[0]]
    assert len(pages) <= 5
    copies = [job for job in newest_first if jobs.index(job) % 5]
    pages = await listed(queue, limit=2, operations={"copy"})
    assert [job for page in pages for job in page] == copies
    assert all(len(page) <= 2 for page in pages)


@pytest.mark.row("J2")
async def test_a_filter_by_time_does_not_go_on_to_the_oldest_job(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [(await queue.submit(copy_job()))[0] for _ in range(9)]
    for job_id in jobs[:6]:
        await created(queue, job_id, 1000)
    monkeypatch.setattr(reading, "LOOKED_AT", 3)
    assert await listed(queue, from_ms=1_000_000_000) == [jobs[:5:-1], []]


@pytest.mark.row("J2")
async def test_lists_show_a_summary_of_a_job_with_many_items_and_a_look_at_it_all_of_them(queue: QueueCase) -> None:
    many, uid = await queue.submit(copy_job(specification=b"all of them", summary=b"some", item_count=1000))
    few, _ = await queue.submit(copy_job(specification=b"both", item_count=2))
    page = await queue.database.read(reading.list_jobs, "users/a", None, 10)
    assert [(view.row.id, view.row.specification) for view in page.views] == [(few, b"both"), (many, b"some")]
    assert (await queue.view("users/a", uid)).row.specification == b"all of them"
