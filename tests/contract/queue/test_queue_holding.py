"""Pausing, resuming and priorities, and when a job that is held for several reasons goes on."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import JobEnded, JobNotFound, NewTask
from wherry_queue.models import User
from wherry_queue.states import Hold, JobState, Outcome, TaskKind, WorkClass
from wherry_queue.store import control, lanes, leases, stopping
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

ALL: dict[str, Any] = {"done": b"\x03", "files_done": 2, "bytes_done": 20}
"""Both files of a chunk are done."""


async def active(queue: QueueCase, user: str = "users/a") -> int:
    """How many bulk lanes of a user have something to lease, as the fair share counts it."""
    query = sa.select(User.active_bulk).where(User.name == user)
    return await queue.database.read(lambda c: c.execute(query).scalar_one())


@pytest.mark.row("J7")
@pytest.mark.row("D4")
async def test_nothing_of_a_paused_job_is_leased_and_all_of_it_after_it_is_resumed(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    await queue.database.write(control.pause, "users/a", uid)
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.PAUSED
    assert await active(queue) == 0
    await queue.check_counters()
    await queue.database.write(control.resume, "users/a", uid)
    assert await active(queue) == 1
    assert len(await queue.lease()) == 2
    await queue.check_counters()


@pytest.mark.row("J7")
async def test_what_runs_when_a_job_is_paused_is_stopped_gently_and_its_rest_goes_on_later(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(control.pause, "users/a", uid)
    assert await queue.database.read(stopping.to_stop, queue.replica_id) == {job_id: "JOB_PAUSED"}
    assert await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10)
    await queue.release()
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.PAUSED
    await queue.check_counters()
    await queue.database.write(control.resume, "users/a", uid)
    rest = await queue.lease_one()
    assert rest.settled == b"\x01"
    await queue.settle(rest, done=b"\x03", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.SUCCEEDED


async def test_a_task_whose_worker_is_lost_while_its_job_is_paused_waits_for_it(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(control.pause, "users/a", uid)
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    assert await queue.lease() == []
    assert await active(queue) == 0
    await queue.check_counters()
    await queue.database.write(control.resume, "users/a", uid)
    assert (await queue.lease_one()).task_id == task.task_id


async def test_pausing_or_resuming_again_changes_nothing(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.database.write(control.resume, "users/a", uid)
    for _ in range(2):
        await queue.database.write(control.pause, "users/a", uid)
    await queue.check_counters()
    for _ in range(2):
        await queue.database.write(control.resume, "users/a", uid)
    await queue.check_counters()
    assert len(await queue.lease()) == 1


async def test_only_ones_own_open_jobs_can_be_paused_resumed_or_put_in_order(queue: QueueCase) -> None:
    _, ended = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), **ALL)
    _, cancelled = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.lease_one()
    await queue.database.write(control.cancel, "users/a", cancelled)
    listing = copy_job(
        operation="list", tasks=[NewTask(TaskKind.LIST, b"/d")], work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )  # fmt: skip
    _, list_uid = await queue.submit(listing)
    for work, arguments in ((control.pause, ()), (control.resume, ()), (control.set_priority, (9,))):
        for uid in (ended, cancelled):
            with pytest.raises(JobEnded):
                await queue.database.write(work, "users/a", uid, *arguments)
        for user, uid in (("users/b", ended), ("users/a", "nothing"), ("users/a", list_uid)):
            with pytest.raises(JobNotFound):
                await queue.database.write(work, user, uid, *arguments)


@pytest.mark.row("J7")
async def test_a_paused_job_can_be_cancelled(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(control.pause, "users/a", uid)
    await queue.database.write(control.cancel, "users/a", uid)
    assert await queue.database.read(stopping.to_stop, queue.replica_id) == {job_id: "JOB_CANCELLED"}
    await queue.settle(task, Outcome.CANCELLED)
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()


@pytest.mark.row("J7")
async def test_a_job_that_is_held_for_several_reasons_goes_on_when_all_have_gone(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    reasons = [Hold.USER_BANNED, Hold.SOURCE_SIGN_IN, Hold.DESTINATION_BANNED]
    await queue.database.write(control.pause, "users/a", uid)
    for reason in reasons:
        assert await queue.database.write(lanes.set_hold, [job_id], add=reason) == [job_id]
        assert await queue.database.write(lanes.set_hold, [job_id], add=reason) == []
    for reason in reasons:
        assert await queue.lease() == []
        await queue.database.write(lanes.set_hold, [job_id], remove=reason)
        await queue.check_counters()
    assert await queue.lease() == []
    await queue.database.write(control.resume, "users/a", uid)
    assert len(await queue.lease()) == 1


async def test_time_in_which_ones_jobs_are_paused_is_not_saved_up(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(40)]))
    await queue.database.write(control.pause, "users/a", uid)
    await queue.submit(copy_job("users/b", tasks=[chunk_task() for _ in range(60)]))
    assert len(await queue.lease(30)) == 30
    await queue.database.write(control.resume, "users/a", uid)
    served = [task.user for task in await queue.lease(20)]
    assert served.count("users/b") == 10


@pytest.mark.row("J1")
async def test_another_priority_holds_from_the_next_lease_on(queue: QueueCase) -> None:
    first, first_uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(6)], priority=5))
    second, second_uid = await queue.submit(copy_job(tasks=[chunk_task() for _ in range(6)], priority=5))
    assert {task.job_id for task in await queue.lease(4)} == {first, second}
    await queue.database.write(control.set_priority, "users/a", second_uid, 9)
    assert {task.job_id for task in await queue.lease(3)} == {second}
    await queue.database.write(control.set_priority, "users/a", second_uid, 0)
    assert {task.job_id for task in await queue.lease(3)} == {first}
    await queue.database.write(control.set_priority, "users/a", first_uid, 0)
    assert {task.job_id for task in await queue.lease(2)} == {first, second}
    await queue.check_counters()
