"""The files of a job, one by one, out of its chunks; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from wherry_queue.job_files import ChunkPart, Cursor, FileState, LeftOut
from wherry_queue.jobs import NewTask
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import Outcome, TaskKind
from wherry_queue.store import control, job_files
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, failed, files

ALL: Collection[FileState] = ()
Seen = tuple[int, int, FileState]
"""Task, place in it (-1 for what a walk left out), state."""


async def pages(queue: QueueCase, uid: str, limit: int = 100, states: Collection[FileState] = ALL) -> list[list[Seen]]:
    """The pages of a job's files."""
    found: list[list[Seen]] = []
    after: Cursor | None = Cursor()
    while after is not None:
        page = await queue.database.read(job_files.list_files, "users/a", uid, after, limit, states)
        found.append([seen for part in page.parts for seen in _seen(part)])
        assert len(found[-1]) <= limit
        assert page.next != after, "a page that leads nowhere"
        after = page.next
    return found


def _seen(part: ChunkPart | LeftOut) -> Sequence[Seen]:
    if isinstance(part, LeftOut):
        return [(part.task_id, -1, FileState.FAILED)]
    return [(part.task_id, index, state) for index, state in part.files]


async def listed(queue: QueueCase, uid: str, limit: int = 100, states: Collection[FileState] = ALL) -> list[Seen]:
    """All of a job's files."""
    return [seen for page in await pages(queue, uid, limit, states) for seen in page]


@pytest.mark.row("J3")
async def test_each_file_has_the_state_that_its_chunk_gives_it(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task(entries=3) for _ in range(5)]))
    done, part_failed, running, returned, lost = await queue.lease(5)
    await queue.settle(done, done=b"\x07", files_done=3, bytes_done=30)
    await queue.settle(part_failed, done=b"\x05", files_done=2, bytes_done=20, failures=[failed(1)])
    await queue.settle(returned, Outcome.RETURNED, done=b"\x02", files_done=1, bytes_done=10)
    await queue.settle(lost, Outcome.FAILED, failure=Failure("DENIED", "no"), done=b"\x01", files_done=1, bytes_done=10)
    yes, no, waits, runs = FileState.DONE, FileState.FAILED, FileState.WAITING, FileState.RUNNING
    expected = [
        *((done.task_id, index, yes) for index in range(3)),
        *((part_failed.task_id, index, state) for index, state in enumerate((yes, no, yes))),
        *((running.task_id, index, runs) for index in range(3)),
        *((returned.task_id, index, state) for index, state in enumerate((waits, yes, waits))),
        *((lost.task_id, index, state) for index, state in enumerate((yes, no, no))),
    ]
    assert await listed(queue, uid) == expected
    for limit in (1, 2, 7):
        assert await listed(queue, uid, limit) == expected
    for state in FileState:
        only = [seen for seen in expected if seen[2] is state]
        assert await listed(queue, uid, 2, {state}) == only
        assert await listed(queue, uid, 100, {state, FileState.RUNNING}) == [
            seen for seen in expected if seen[2] in (state, FileState.RUNNING)
        ]


@pytest.mark.row("J3")
async def test_what_was_not_done_when_its_job_was_cancelled_says_so(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    running, _ = await queue.lease(2)
    await queue.database.write(control.cancel, "users/a", uid)
    await queue.settle(running, Outcome.CANCELLED, done=b"\x01", files_done=1, bytes_done=10)
    states = [state for _, _, state in await listed(queue, uid)]
    assert states[:2] == [FileState.DONE, FileState.CANCELLED]


@pytest.mark.row("J3")
async def test_files_that_a_walk_could_not_put_into_a_chunk_are_among_the_failed(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    failure = Failure("DESTINATION_IS_DIRECTORY", "in the way")
    in_the_way = [FailedEntry(index, b"/from/%d" % index, 7, failure) for index in range(3)]
    await queue.report(walk, chunks=[files(2)], failures=in_the_way, directories_done=1)
    await queue.settle(walk, Outcome.FAILED, failure=Failure("SOURCE_LOST", "gone"))
    expected = [(walk.task_id, -1, FileState.FAILED)] * 3
    chunk_id = walk.task_id + 1
    assert await listed(queue, uid, 2, {FileState.FAILED}) == expected
    assert await listed(queue, uid, 2) == [
        *expected, (chunk_id, 0, FileState.WAITING), (chunk_id, 1, FileState.WAITING)
    ]  # fmt: skip
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 2)
    assert [part.failure.path for part in page.parts if isinstance(part, LeftOut)] == [b"/from/0", b"/from/1"]


@pytest.mark.row("J3")
async def test_a_page_has_what_there_is_to_open_and_no_more(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))  # somebody else's would be as good: it is another job
    tasks = [
        NewTask(TaskKind.COPY_FILES, b"/s%d" % n, b"/d%d" % n, payload=b"payload %d" % n, entry_count=2, total_bytes=20)
        for n in range(3)
    ]
    _, uid = await queue.submit(copy_job(tasks=tasks))
    first = next(task for task in await queue.lease(4) if task.payload == b"payload 0")
    await queue.settle(first, done=b"\x01", files_done=1, bytes_done=10, results=b"one", failures=[failed(1)])
    page = await queue.database.read(job_files.list_files, "users/a", uid, Cursor(), 3)
    one, two = page.parts
    assert isinstance(one, ChunkPart)
    assert isinstance(two, ChunkPart)
    assert (one.source_path, one.destination_path, one.payload) == (b"/s0", b"/d0", b"payload 0")
    assert list(one.results) == [b"one"]
    assert one.failures[1].failure["reason"] == "NO_SPACE"
    assert (two.payload, list(two.results), list(two.files)) == (b"payload 1", [], [(0, FileState.RUNNING)])
    assert page.next == Cursor(two.task_id, 1)


@pytest.mark.row("J3")
async def test_a_filter_looks_at_a_bounded_part_of_a_large_job_and_then_goes_on(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(40)]))
    leased = await queue.lease(40)
    await queue.settle(leased[37], done=b"\x02", files_done=1, bytes_done=10, failures=[failed(0)])
    monkeypatch.setattr(job_files, "LOOKED_AT", 8)
    found = await pages(queue, uid, 10, {FileState.DONE})
    assert [seen for page in found for seen in page] == [(leased[37].task_id, 1, FileState.DONE)]
    assert len(found) == 5
    # What has failed is known by itself, however far back it is.
    assert await pages(queue, uid, 10, {FileState.FAILED}) == [[(leased[37].task_id, 0, FileState.FAILED)]]


@pytest.mark.row("J3")
async def test_very_many_failures_are_gone_through_in_pages(queue: QueueCase, monkeypatch: pytest.MonkeyPatch) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task(entries=6) for _ in range(5)]))
    for task in await queue.lease(5):
        await queue.settle(task, failures=[failed(index) for index in range(6)])
    monkeypatch.setattr(job_files, "_FAILURES", 4)
    assert len(await listed(queue, uid, 4, {FileState.FAILED})) == 30
    assert len(set(await listed(queue, uid, 100, {FileState.FAILED}))) == 30
