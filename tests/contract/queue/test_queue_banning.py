"""Bans: no work is taken that they are about, what there is is held, and nothing of it is lost."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from wherry_queue.banning import BanNotFound, BanRecord, SiteSuspended, UserSuspended
from wherry_queue.jobs import NewTask
from wherry_queue.models import Ban, Lane
from wherry_queue.states import Hold, Outcome, TaskKind, WorkClass
from wherry_queue.store import banning, control, lanes, stopping
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

ACTOR = "/O=Test/CN=operator"


async def ban(queue: QueueCase, subject: str, reason: str = "it fills the disks") -> BanRecord:
    return await queue.database.write(banning.create, ACTOR, subject, reason)


async def lift(queue: QueueCase, record: BanRecord) -> None:
    await queue.database.write(banning.delete, ACTOR, record.id)


async def settled(queue: QueueCase, limit: int = 100) -> set[int]:
    """Settles until nothing changes; returns the jobs that did."""
    changed: set[int] = set()
    while some := await queue.database.write(banning.settle, limit):
        changed.update(some)
    return changed


async def holds(queue: QueueCase, *job_ids: int) -> list[Hold]:
    found = [Hold((await queue.job(job_id)).hold) for job_id in job_ids]
    query = sa.select(Lane.job_id, Lane.hold).where(Lane.job_id.in_(job_ids))
    rows = await queue.database.read(lambda c: {row.job_id: row.hold for row in c.execute(query)})
    assert [rows[job_id] for job_id in job_ids] == found, "jobs and their lanes disagree"
    return found


async def jobs_of_two_users(queue: QueueCase) -> tuple[int, int, int, int]:
    """From a to b by each of two users, at a alone, and from b to a."""
    one, _ = await queue.submit(copy_job("users/a", tasks=[chunk_task()]))
    two, _ = await queue.submit(copy_job("users/b", tasks=[chunk_task()]))
    alone, _ = await queue.submit(copy_job("users/b", destination_site="sites/a", tasks=[chunk_task()]))
    back = {"source_site": "sites/b", "destination_site": "sites/a"}
    other, _ = await queue.submit(copy_job("users/b", tasks=[chunk_task()], **back))
    return one, two, alone, other


@pytest.mark.parametrize(
    ("subject", "held"),
    [
        ("users/a", [Hold.USER_BANNED, Hold(0), Hold(0), Hold(0)]),
        ("sites/a", [Hold.SOURCE_BANNED, Hold.SOURCE_BANNED, Hold.SOURCE_BANNED, Hold.DESTINATION_BANNED]),
        ("sites/b", [Hold.DESTINATION_BANNED, Hold.DESTINATION_BANNED, Hold(0), Hold.SOURCE_BANNED]),
        ("users/nobody", [Hold(0), Hold(0), Hold(0), Hold(0)]),
        ("sites/c", [Hold(0), Hold(0), Hold(0), Hold(0)]),
    ],
)
async def test_a_ban_holds_what_it_is_about_and_lifting_it_lets_just_that_go(
    queue: QueueCase, subject: str, held: list[Hold]
) -> None:
    jobs = await jobs_of_two_users(queue)
    await queue.database.write(lanes.set_hold, [jobs[1]], add=Hold.PAUSED)
    record = await ban(queue, subject)
    assert await settled(queue) == {job for job, hold in zip(jobs, held, strict=True) if hold}
    paused = [Hold(0), Hold.PAUSED, Hold(0), Hold(0)]
    assert await holds(queue, *jobs) == [hold | also for hold, also in zip(held, paused, strict=True)]
    await queue.check_counters()
    assert {task.job_id for task in await queue.lease(10)} == {
        job for job, hold, also in zip(jobs, held, paused, strict=True) if not hold | also
    }
    await lift(queue, record)
    assert await settled(queue) == {job for job, hold in zip(jobs, held, strict=True) if hold}
    assert await holds(queue, *jobs) == paused
    await queue.check_counters()


async def test_of_two_bans_on_one_job_lifting_one_leaves_it_held(queue: QueueCase) -> None:
    job, *_ = await jobs_of_two_users(queue)
    user, site = await ban(queue, "users/a"), await ban(queue, "sites/a")
    await settled(queue)
    await lift(queue, site)
    await settled(queue)
    assert await holds(queue, job) == [Hold.USER_BANNED]
    await lift(queue, user)
    await settled(queue)
    assert await holds(queue, job) == [Hold(0)]


async def test_many_jobs_are_held_and_let_go_some_at_a_time(queue: QueueCase) -> None:
    jobs = [(await queue.submit(copy_job(tasks=[chunk_task()])))[0] for _ in range(7)]
    record = await ban(queue, "users/a")
    assert len(await queue.database.write(banning.settle, 3)) == 3
    assert await settled(queue, 3) == set(jobs[3:])
    assert await queue.lease(10) == []
    await lift(queue, record)
    assert await settled(queue, 3) == set(jobs)
    assert len(await queue.lease(10)) == 7
    await queue.check_counters()


async def test_a_job_that_was_made_beside_a_ban_is_held_by_the_sweep(queue: QueueCase) -> None:
    """Its creation looked before the ban was there, and was written after the ban had been settled."""
    job, _ = await queue.submit(copy_job())
    await queue.database.write(lambda c: c.execute(sa.insert(Ban).values(subject="users/a", reason="x", created_ms=1)))
    assert await settled(queue) == {job}
    assert await settled(queue) == set()
    assert await queue.lease(1) == []


async def test_what_is_banned_is_refused_with_the_operators_words(queue: QueueCase) -> None:
    await ban(queue, "users/a", "mind {your} mails")
    await ban(queue, "sites/b", "it is being moved")
    with pytest.raises(UserSuspended, match=r"mind \{your\} mails"):
        await queue.database.read(banning.check, "users/a", ["sites/a"])
    with pytest.raises(SiteSuspended, match="sites/b: it is being moved"):
        await queue.database.read(banning.check, "users/b", ["sites/a", "sites/b"])
    await queue.database.read(banning.check, "users/b", ["sites/a", "sites/a"])


async def test_banning_again_changes_the_words_and_keeps_the_ban(queue: QueueCase) -> None:
    first, other = await ban(queue, "users/a", "one"), await ban(queue, "sites/a")
    again = await ban(queue, "users/a", "two")
    assert (again.id, again.created_ms, again.reason) == (first.id, first.created_ms, "two")
    assert await queue.database.read(banning.bans) == [other, again]


async def test_a_ban_that_is_not_there_cannot_be_lifted(queue: QueueCase) -> None:
    record = await ban(queue, "users/a")
    await lift(queue, record)
    with pytest.raises(BanNotFound):
        await lift(queue, record)


async def test_what_runs_is_stopped_as_suspended_and_goes_on_uncounted_where_it_was(queue: QueueCase) -> None:
    job, *_ = await jobs_of_two_users(queue)
    (task,) = [task for task in await queue.lease(10) if task.job_id == job]
    record = await ban(queue, "users/a")
    await settled(queue)
    assert await queue.database.read(stopping.to_stop, queue.replica_id) == {job: "SUSPENDED"}
    await queue.settle(task, Outcome.CANCELLED, done=b"\x01", files_done=1, bytes_done=10)
    await queue.release()
    assert await queue.lease(10) == []
    await lift(queue, record)
    await settled(queue)
    (again,) = await queue.lease(10)
    assert (again.job_id, again.settled, (await queue.job(job)).files_done) == (job, b"\x01", 1)
    await queue.check_counters()


async def test_a_banned_users_listing_is_not_served(queue: QueueCase) -> None:
    listing = copy_job(
        operation="list", tasks=[NewTask(TaskKind.LIST, b"/d")], work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )  # fmt: skip
    job, _ = await queue.submit(listing)
    await ban(queue, "sites/a")
    assert await settled(queue) == {job}
    assert await queue.lease(1, WorkClass.INTERACTIVE) == []
    await queue.check_counters()


async def test_what_has_ended_is_left_alone(queue: QueueCase) -> None:
    job, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.database.write(control.cancel, "users/a", uid)
    await ban(queue, "users/a")
    assert await settled(queue) == set()
    assert await holds(queue, job) == [Hold.CANCELLED]
