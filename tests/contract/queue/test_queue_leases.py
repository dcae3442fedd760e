"""Leases: to whom, how often, and when they are taken back; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import LeaseLost, NewTask
from wherry_queue.models import Link, Replica
from wherry_queue.settling import MAX_LAPSES, Failure, Settlement
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import leases, reading, replicas, settlements
from wherry_testing.queue_cases import POLICY, QueueCase, chunk_task, copy_job, files


async def test_a_leased_task_is_not_leased_again(queue: QueueCase) -> None:
    await queue.submit(copy_job())
    assert len(await queue.lease(10)) == 1
    assert await queue.lease(10) == []


async def test_leases_taken_at_the_same_time_never_share_a_task(queue: QueueCase) -> None:
    for user in "abcdefgh":
        await queue.submit(copy_job(f"users/{user}", tasks=[chunk_task() for _ in range(10)]))
    taken = [task.task_id for batch in await asyncio.gather(*(queue.lease(30) for _ in range(8))) for task in batch]
    while batch := await queue.lease(100):
        taken += [task.task_id for task in batch]
    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == 80
    await queue.check_counters()


@pytest.mark.row("W2")
async def test_a_report_with_an_older_fence_is_refused(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    first = await queue.lease_one()
    await queue.database.write(leases.requeue, queue.replica_id, [(first.task_id, first.fence)])
    second = await queue.lease_one()
    with pytest.raises(LeaseLost):
        await queue.report(first, chunks=[files(5)])
    await queue.report(second, chunks=[files(5)])
    assert (await queue.job(job_id)).files_total == 5
    await queue.check_counters()


@pytest.mark.row("D2")
async def test_a_task_whose_lease_has_lapsed_is_leased_again(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    first = await queue.lease_one()
    await queue.database.write(leases.requeue, queue.replica_id, [(first.task_id, first.fence)])
    second = await queue.lease_one()
    assert second.task_id == first.task_id
    await queue.settle(second, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("D2")
async def test_a_task_that_keeps_losing_its_workers_is_given_up_in_the_end(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    for _ in range(MAX_LAPSES):
        task = await queue.lease_one()
        await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    assert await queue.lease(1) == []
    assert await queue.state(job_id) is JobState.FAILED
    await queue.check_counters()


async def test_a_worker_that_comes_back_keeps_its_lease_by_its_fence(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    other = await queue.database.write(replicas.renew_replica, None, 60_000)
    adopted = await queue.database.write(leases.adopt, other, [(task.task_id, task.fence)])
    assert [found.task_id for found in adopted] == [task.task_id]
    assert adopted[0].user == "users/a"
    assert await queue.database.write(leases.adopt, other, [(task.task_id, task.fence + 1)]) == []
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    assert await queue.lease(1) == [], "the replica that it left took it back all the same"


async def test_nothing_is_leased_without_an_unexpired_row_of_the_replica(queue: QueueCase) -> None:
    await queue.submit(copy_job())
    await queue.database.write(replicas.retire_replica, queue.replica_id)
    await queue.database.write(lambda c: c.execute(sa.update(Replica).values(until_ms=Replica.until_ms - 1)).rowcount)
    assert await queue.lease(1) == []


@pytest.mark.row("D3")
async def test_a_user_of_many_tasks_does_not_hold_up_one_of_few(queue: QueueCase) -> None:
    await queue.submit(copy_job("users/big", tasks=[chunk_task() for _ in range(200)]))
    await queue.lease(50)
    await queue.submit(copy_job("users/small", tasks=[chunk_task() for _ in range(10)]))
    served = [task.user for task in await queue.lease(20)]
    assert served.count("users/small") == 10


async def test_a_limited_link_runs_no_more_than_its_limit(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(10)]))
    await queue.database.write(lambda c: c.execute(sa.update(Link).values(cap=3)).rowcount)
    taken = await queue.lease(10)
    assert len(taken) == 3
    assert await queue.lease(10) == []
    await queue.check_counters()
    await queue.settle(taken[0], done=b"\x03", files_done=2, bytes_done=20)
    assert len(await queue.lease(10)) == 1
    await queue.check_counters()


async def test_a_listing_whose_worker_is_lost_fails_at_once(queue: QueueCase) -> None:
    listing = copy_job(
        operation="list",
        tasks=[NewTask(TaskKind.LIST, b"/d")],
        work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )
    job_id, _ = await queue.submit(listing)
    (task,) = await queue.lease(1, WorkClass.INTERACTIVE)
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    _, row = await queue.database.read(reading.listing_after, job_id, 0)
    assert row.state == TaskState.FAILED
    assert row.failure["reason"] == "WORKER_LOST"


@pytest.mark.row("S6")
@pytest.mark.row("W2")
async def test_only_the_worker_that_has_a_lease_is_believed_about_it(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.database.write(leases.assign, "aa", [(walk.task_id, walk.fence)])
    other = await queue.database.write(replicas.renew_replica, None, 60_000)
    assert await queue.database.write(leases.adopt, other, [(walk.task_id, walk.fence)], "bb") == []
    with pytest.raises(LeaseLost):
        await queue.report(walk, chunks=[files(5)], thumbprint="bb")
    assert not await queue.settle(walk, thumbprint="bb")
    await queue.report(walk, cursor=b"", directories_done=1, thumbprint="aa")
    assert await queue.settle(walk, thumbprint="aa")
    assert await queue.state(job_id) is JobState.SUCCEEDED


async def test_a_lease_that_was_never_given_out_is_no_lapse(queue: QueueCase) -> None:
    listing = copy_job(
        operation="list",
        tasks=[NewTask(TaskKind.LIST, b"/d")],
        work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )
    await queue.submit(listing)
    (task,) = await queue.lease(1, WorkClass.INTERACTIVE)
    ref = (task.task_id, task.fence)
    await queue.database.write(leases.requeue, queue.replica_id, [ref], given=False)
    assert len(await queue.lease(1, WorkClass.INTERACTIVE)) == 1


@pytest.mark.row("D2")
async def test_a_lapse_costs_no_attempt(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    for _ in range(POLICY.attempts + 1):
        task = await queue.lease_one()
        await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    for _ in range(POLICY.attempts - 1):
        task = await queue.lease_one()
        await queue.settle(task, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True))
        await queue.release()
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED


@pytest.mark.row("D2")
@pytest.mark.row("W1")
@pytest.mark.parametrize("given", [True, False])
async def test_a_lease_that_is_taken_back_gives_its_places_back_just_once(queue: QueueCase, given: bool) -> None:
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(5)]))
    await queue.database.write(lambda c: c.execute(sa.update(Link).values(cap=2)).rowcount)
    taken = await queue.lease(5)
    refs = [(task.task_id, task.fence) for task in taken]
    for _ in range(2):
        await queue.database.write(leases.requeue, queue.replica_id, refs, given=given)
        await queue.check_counters()
    again = await queue.lease(5)
    assert {task.task_id for task in again} == {task.task_id for task in taken}
    assert not await queue.settle(taken[0])
    await queue.check_counters()
    assert await queue.lease(5) == []


async def test_a_stale_word_does_not_have_a_waiting_task_passed_over(queue: QueueCase) -> None:
    # Were its row locked meanwhile, a lease that passed over what is locked would not look there again.
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(3)]))
    first = (await queue.lease(1))[0]
    await queue.database.write(leases.requeue, queue.replica_id, [(first.task_id, first.fence)])
    if queue.database.dialect == "sqlite":
        assert not await queue.settle(first)
        return
    with queue.database.engine.begin() as other:
        settlements.settle(other, [Settlement(first.task_id, first.fence, Outcome.COMPLETED)], POLICY)
        assert first.task_id in [task.task_id for task in await queue.lease(2)]
    await queue.check_counters()


async def test_a_lease_that_was_taken_back_before_it_was_given_out_is_nobodys(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    await queue.database.write(leases.assign, "aa", [(task.task_id, task.fence)])
    await queue.check_counters()
    again = await queue.lease_one()
    assert not await queue.settle(again, thumbprint="aa")
