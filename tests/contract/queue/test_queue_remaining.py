"""Of which jobs it is said how long they still take; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wherry_queue.progress import Folded, Moved
from wherry_queue.remaining import Rates
from wherry_queue.states import TaskKind
from wherry_queue.store import control, moving
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, files

pytestmark = [pytest.mark.row("J5"), pytest.mark.row("B6")]


RATES = Rates(bytes_least=1.0, bytes_most=2.0, files_least=1.0, files_most=2.0)


async def test_what_is_removed_after_all_copying_takes_nobody_knows_how_long(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(delete_extraneous=True))
    walk = await queue.lease_one()
    await queue.report(walk, chunks=[files(2), files(2)], extraneous_chunks=[files(1)], directories_done=1)
    await queue.settle(walk)
    await queue.lease(1)
    moved = {job_id: Folded(Moved(5, 0), 20.0, 1, RATES, 1)}
    await queue.database.write(moving.write_progress, queue.replica_id, moved)
    view = await queue.view("users/a", uid)
    assert (view.bytes_moving, view.remaining) == (5, None)


async def test_of_a_removal_only_the_number_of_files_counts(queue: QueueCase) -> None:
    task = replace(chunk_task(), kind=TaskKind.REMOVE_FILES, destination_path=None)
    job_id, uid = await queue.submit(copy_job(operation="remove", tasks=[task]))
    await queue.lease(1)
    rates = Rates(files_least=1.0, files_most=2.0)
    await queue.database.write(moving.write_progress, queue.replica_id, {job_id: Folded(Moved(0, 1), 0.0, 1, rates, 1)})
    found = (await queue.view("users/a", uid)).remaining
    assert found is not None
    assert (found.least_s, found.most_s) == (0.5, 1.0)


async def test_a_job_that_is_held_is_given_no_time_however_much_still_moves(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    await queue.lease(1)
    moved = {job_id: Folded(Moved(5, 0), 20.0, 1, RATES, 1)}
    await queue.database.write(moving.write_progress, queue.replica_id, moved)
    found = (await queue.view("users/a", uid)).remaining
    assert found is not None
    assert (found.least_s, found.most_s) == (17.5, 35.0)
    await queue.database.write(control.pause, "users/a", uid)
    assert (await queue.view("users/a", uid)).remaining is None
    await queue.database.write(control.resume, "users/a", uid)
    assert (await queue.view("users/a", uid)).remaining is not None
    await queue.database.write(control.cancel, "users/a", uid)
    assert (await queue.view("users/a", uid)).remaining is None
