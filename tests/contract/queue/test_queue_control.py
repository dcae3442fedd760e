"""Cancelling, and keeping the database in order; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import JobNotFound, NewTask
from wherry_queue.models import Job, Task
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import control, leases, phases, replicas, retention
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job


@pytest.mark.row("J7")
async def test_cancelling_ends_what_waits_and_lets_what_runs_be_stopped(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task(), chunk_task()]))
    running = await queue.lease_one()
    await queue.database.write(control.cancel, "users/a", uid)
    assert await queue.lease(10) == []
    assert await queue.state(job_id) is JobState.CANCELLING
    await queue.settle(running, Outcome.CANCELLED, done=b"\x01", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.CANCELLED
    assert (await queue.job(job_id)).files_done == 1
    await queue.check_counters()


async def test_a_cancelled_task_whose_worker_is_lost_is_not_leased_again(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(control.cancel, "users/a", uid)
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    assert await queue.lease(10) == []
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()


async def test_a_phase_that_was_not_opened_before_a_crash_is_opened_by_the_sweep(queue: QueueCase) -> None:
    from wherry_queue.settling import Settlement
    from wherry_queue.store import settlements
    from wherry_testing.queue_cases import POLICY

    job_id, _ = await queue.submit(
        copy_job(operation="remove", tasks=[NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)])
    )
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"", remove_directory=True)
    word = Settlement(walk.task_id, walk.fence, Outcome.COMPLETED)
    await queue.database.write(settlements.settle, [word], POLICY)
    assert await queue.lease(1) == []
    assert await queue.database.read(phases.stalled_jobs) == [job_id]
    assert await queue.database.write(phases.open_next_phase, job_id)
    assert not await queue.database.write(phases.open_next_phase, job_id)
    assert (await queue.lease_one()).kind is TaskKind.REMOVE_DIRECTORY


async def test_old_listings_are_cleared_away_and_jobs_are_kept(queue: QueueCase) -> None:
    kept, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    listing = copy_job(
        operation="list",
        tasks=[NewTask(TaskKind.LIST, b"/d")],
        work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )
    _, uid = await queue.submit(listing)
    (task,) = await queue.lease(1, WorkClass.INTERACTIVE)
    await queue.report(task, cursor=b"b", entries=b"one")
    await queue.settle(task)
    assert await queue.database.write(retention.sweep_listings, 60_000) == 0
    assert await queue.database.write(retention.sweep_listings, -1000) == 1
    with pytest.raises(JobNotFound):
        await queue.view("users/a", uid)
    assert (await queue.job(kept)).files_done == 2


async def test_published_keys_are_those_that_have_not_expired(queue: QueueCase) -> None:
    await queue.database.write(replicas.publish_key, "old", b"1" * 32, -1)
    await queue.database.write(replicas.publish_key, "new", b"2" * 32, 60_000)
    assert [key.kid for key in await queue.database.read(replicas.published_keys)] == ["new"]


async def test_what_a_race_leaves_behind_in_a_cancelled_job_is_ended_by_the_sweep(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    await queue.database.write(control.cancel, "users/a", uid)
    # As a settlement that read the job before the cancel and committed after it would leave it.
    await queue.database.write(
        lambda c: (
            c.execute(sa.update(Task).where(Task.id == 1).values(state=TaskState.DELAYED, not_before_ms=0)).rowcount,
            c.execute(sa.update(Job).values(tasks_open=1, tasks_cancelled=1, ended_ms=None)).rowcount,
        )
    )
    await queue.release()
    assert await queue.database.read(control.half_cancelled) == [job_id]
    await queue.database.write(control.cancel_job, job_id)
    assert await queue.state(job_id) is JobState.CANCELLED
    assert await queue.database.read(control.half_cancelled) == []
    await queue.check_counters()
