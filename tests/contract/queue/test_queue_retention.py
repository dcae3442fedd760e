"""What is deleted when, and that nothing is lost or left behind by it; and replicas' rows."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import JobExpired, JobNotFound
from wherry_queue.models import Attempt, EntryFailure, Job, Lane, Replica, Task
from wherry_queue.settling import Failure
from wherry_queue.states import JobState, Outcome, WorkClass
from wherry_queue.store import leases, replicas, retention, retrying
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

_AT_ONCE = -1000
"""Everything that has ended is old."""


async def _sweep(queue: QueueCase) -> None:
    while await queue.database.write(retention.sweep_jobs, _AT_ONCE):
        pass


async def _count(queue: QueueCase, table: type) -> int:
    return await queue.database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.mark.row("O4", missing="backup and restore")
async def test_jobs_that_have_ended_are_deleted_with_all_that_is_theirs_and_open_ones_stay(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=Failure("DENIED", "no"))
    kept, _ = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task(), chunk_task()]))
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    running = await queue.lease_one()
    assert await queue.database.write(retention.sweep_jobs, 60_000) == 0
    assert await _count(queue, Job) == 2
    await _sweep(queue)
    assert [await _count(queue, table) for table in (Job, Lane, Task, Attempt, EntryFailure)] == [1, 1, 3, 1, 0]
    await queue.check_counters()
    await queue.settle(running, done=b"\x03", files_done=2, bytes_done=20)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(kept) is JobState.SUCCEEDED


@pytest.mark.row("O4", missing="backup and restore")
async def test_a_job_that_is_open_again_is_not_deleted(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=Failure("DENIED", "no"))
    await queue.database.write(retrying.retry, "users/a", uid, lambda _: b"packed")
    await _sweep(queue)
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("O4", missing="backup and restore")
async def test_a_large_job_is_deleted_a_part_at_a_time(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(1500)]))
    for task in await queue.lease(1500):
        assert task.fence == 1
    words = sa.update(Task).values(state=5, replica_id=None)
    ended = sa.update(Job).values(tasks_open=0, phase_open=0, tasks_running=0, ended_ms=1)
    await queue.database.write(lambda c: c.execute(words).rowcount + c.execute(ended).rowcount)
    assert await queue.database.write(retention.sweep_jobs, 0) == 1000
    assert await _count(queue, Job) == 1
    await _sweep(queue)
    assert (await _count(queue, Job), await _count(queue, Task)) == (0, 0)


@pytest.mark.row("O4", missing="backup and restore")
async def test_a_job_of_which_parts_are_deleted_is_not_opened_again(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_TASKS", 2)
    _, uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(3)]))
    for task in await queue.lease(3):
        await queue.settle(task, Outcome.FAILED, failure=Failure("DENIED", "no"))
    assert await queue.database.write(retention.sweep_jobs, _AT_ONCE) == 2
    with pytest.raises(JobExpired):
        await queue.database.write(retrying.retry, "users/a", uid, lambda _: b"packed")
    await _sweep(queue)
    assert (await _count(queue, Job), await _count(queue, Task)) == (0, 0)
    with pytest.raises(JobNotFound):
        await queue.database.write(retrying.retry, "users/a", uid, lambda _: b"packed")


@pytest.mark.row("W2")
async def test_what_was_deleted_is_never_taken_for_what_came_after_it(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    old = await queue.lease_one()
    await queue.settle(old, done=b"\x03", files_done=2, bytes_done=20)
    await _sweep(queue)
    assert await _count(queue, Task) == 0
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    new = await queue.lease_one()
    assert new.task_id != old.task_id
    # As the worker of the first says it again that never heard an answer; its fence is the same as the second's.
    assert (new.fence, await queue.settle(old, done=b"\x03", files_done=2, bytes_done=20)) == (old.fence, False)
    assert await queue.state(job_id) is JobState.RUNNING
    await queue.check_counters()


@pytest.mark.row("D2")
async def test_a_replica_in_whose_name_something_runs_is_not_forgotten(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    dead = await queue.database.write(replicas.renew_replica, None, 60_000)
    (task,) = await queue.database.write(leases.lease, dead, WorkClass.BULK, 1)
    await queue.database.write(lambda c: c.execute(sa.update(Replica).where(Replica.id == dead).values(until_ms=1)))
    assert await queue.database.read(replicas.dead_replicas, 60_000) == [dead]
    await queue.database.write(replicas.forget_replica, dead)
    assert await queue.database.read(replicas.dead_replicas, 60_000) == [dead]
    await queue.database.write(leases.requeue, dead, [(task.task_id, task.fence)])
    await queue.database.write(replicas.forget_replica, dead)
    assert await queue.database.read(replicas.dead_replicas, 60_000) == []
    assert (await queue.lease_one()).task_id == task.task_id


@pytest.mark.row("D2")
async def test_a_replica_that_was_forgotten_gets_no_leases_from_anybody(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    gone = await queue.database.write(replicas.renew_replica, None, 60_000)
    await queue.database.write(replicas.forget_replica, gone)
    assert await queue.database.write(leases.lease, gone, WorkClass.BULK, 1) == []
    task = await queue.lease_one()
    assert await queue.database.write(leases.adopt, gone, [(task.task_id, task.fence)]) == []
    assert await queue.database.read(leases.running_on, queue.replica_id) == [(task.task_id, task.fence)]
    again = await queue.database.write(replicas.renew_replica, gone, 60_000)
    assert again != gone or queue.database.dialect == "sqlite"
    await queue.check_counters()
