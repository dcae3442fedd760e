"""What copies left at a destination is removed when no further attempt of theirs comes; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry_queue.bulletin import Bulletin
from wherry_queue.dispatching import Dispatcher, LeaseTerms
from wherry_queue.jobs import JobNotFound
from wherry_queue.models import Job, Lane, Task
from wherry_queue.overview import Overview
from wherry_queue.own_replica import OwnReplica
from wherry_queue.progress import ProgressBoard
from wherry_queue.servicer.lease_messages import lease_message
from wherry_queue.settling import MAX_LAPSES, Failure
from wherry_queue.sign_ins import SignInNews
from wherry_queue.states import CLEAN_UP, Hold, Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import cleaning, control, leases, overview, reading, retrying, sign_ins, watching
from wherry_queue.store.deletion import forget_user
from wherry_queue.store.deletion import sweep as sweep_deleted
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limits import NO_LIMITS
from wherry_queue.upkeep import Retention, Upkeep
from wherry_queue.workers import GivenLease
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, failed

pytestmark = pytest.mark.row("D2")

ALICE = "users/a"
LATER_MS = -60_000
"""A grace, or an age, that is over a minute before it began."""
BROKEN = Failure("SITE_AWAY", "the site does not answer", retryable=True)


async def lapse(queue: QueueCase, *tasks: LeasedTask, given: bool = True) -> None:
    refs = [(task.task_id, task.fence) for task in tasks]
    await queue.database.write(lambda c: leases.requeue(c, queue.replica_id, refs, given=given))


async def clean(queue: QueueCase) -> list[LeasedTask]:
    """Has clean-ups made of all that is due, and leases what there is to lease."""
    while await queue.database.write(cleaning.make, LATER_MS):
        pass
    await queue.check_counters()
    return await queue.lease(100)


async def clean_ups(queue: QueueCase) -> list[Any]:
    query = sa.select(Job.__table__).where(Job.work_class == CLEAN_UP).order_by(Job.id)
    return await queue.database.read(lambda c: list(c.execute(query)))


async def task_row(queue: QueueCase, task_id: int) -> Any:
    return await queue.database.read(lambda c: c.execute(sa.select(Task.__table__).where(Task.id == task_id)).one())


async def cancel(queue: QueueCase, uid: str) -> None:
    await queue.database.write(lambda c: control.cancel(c, ALICE, uid))


async def lapsed_and_cancelled(queue: QueueCase) -> tuple[int, str, LeasedTask]:
    """A job whose worker died over its chunk, cancelled before another came; returns its id, its uid and the lease."""
    job_id, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    task = await queue.lease_one()
    await lapse(queue, task)
    await cancel(queue, uid)
    return job_id, uid, task


@pytest.mark.row("J7")
async def test_what_a_dead_worker_left_of_a_cancelled_copy_is_removed_by_one_clean_up(queue: QueueCase) -> None:
    _, uid, task = await lapsed_and_cancelled(queue)
    (removal,) = await clean(queue)
    assert removal.kind is TaskKind.REMOVE_TEMPORARIES
    assert (removal.source_site, removal.destination_site, removal.user) == ("sites/b", "sites/b", ALICE)
    assert (removal.source_path, removal.work_class) == (b"/to", WorkClass.BULK)
    assert (removal.cleans, removal.cleans_fence) == (f"jobs/{uid}/tasks/{task.task_id}", task.fence)
    assert await queue.settle(removal)
    assert await clean(queue) == []
    (job,) = await clean_ups(queue)
    assert job.ended_ms is not None
    await queue.check_counters()


async def test_while_there_is_another_attempt_to_come_it_is_that_ones_business(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await lapse(queue, await queue.lease_one())
    (again,) = await clean(queue)
    assert (again.kind, again.fence) == (TaskKind.COPY_FILES, 2)
    await queue.settle(again, done=b"\x03", files_done=2, bytes_done=20)
    assert await clean(queue) == []
    assert not (await task_row(queue, again.task_id)).left_behind


async def test_it_waits_until_the_copy_has_been_over_for_a_moment(queue: QueueCase) -> None:
    await lapsed_and_cancelled(queue)
    assert not await queue.database.write(cleaning.make, 60_000)
    assert await queue.database.write(cleaning.make, LATER_MS)


async def test_of_a_copy_that_left_nothing_nothing_is_removed(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task(), chunk_task()]))
    done, stopped = await queue.lease(2)
    await queue.settle(done, done=b"\x03", files_done=2, bytes_done=20)
    await cancel(queue, uid)
    await queue.settle(stopped, Outcome.CANCELLED)
    assert await clean(queue) == []
    assert await clean_ups(queue) == []


async def test_attempts_that_are_used_up_leave_what_the_last_one_kept(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    for _ in range(3):
        task = await queue.lease_one()
        await queue.settle(task, Outcome.FAILED, failure=BROKEN, left_behind=True)
        await queue.release()
    (removal,) = await clean(queue)
    assert (removal.kind, removal.cleans_fence) == (TaskKind.REMOVE_TEMPORARIES, 3)


async def test_a_chunk_that_kills_its_workers_leaves_what_they_left(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    for _ in range(MAX_LAPSES):
        await lapse(queue, await queue.lease_one())
    (removal,) = await clean(queue)
    assert removal.cleans_fence == MAX_LAPSES


@pytest.mark.parametrize(
    "outcome", [Outcome.RETURNED, Outcome.CANCELLED, Outcome.FAILED], ids=lambda outcome: outcome.name.lower()
)
async def test_an_attempt_that_ended_early_does_not_vouch_for_those_before_it(
    queue: QueueCase, outcome: Outcome
) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await lapse(queue, await queue.lease_one())
    await queue.settle(await queue.lease_one(), outcome, failure=BROKEN)
    await cancel(queue, uid)
    (removal,) = await clean(queue)
    assert removal.cleans_fence == 2


async def test_an_attempt_that_was_paused_does_not_vouch_for_those_before_it(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await lapse(queue, await queue.lease_one())
    await queue.settle(await queue.lease_one())
    await cancel(queue, uid)
    assert len(await clean(queue)) == 1


async def test_an_attempt_that_failed_in_some_files_and_left_nothing_needs_no_clean_up(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await lapse(queue, await queue.lease_one())
    again = await queue.lease_one()
    await queue.settle(again, done=b"\x01", files_done=1, bytes_done=10, failures=[failed(1)])
    assert await clean(queue) == []


async def test_a_lease_that_no_worker_got_leaves_nothing(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await lapse(queue, await queue.lease_one(), given=False)
    await cancel(queue, uid)
    assert await clean(queue) == []


async def test_a_lease_that_seems_to_be_nobodys_may_have_been_a_workers(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.database.write(leases.assign, "thumbprint", [(task.task_id, task.fence)])
    await lapse(queue, task, given=False)
    await cancel(queue, uid)
    assert len(await clean(queue)) == 1


async def test_a_walk_whose_worker_died_has_left_nothing(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE))
    await lapse(queue, await queue.lease_one())
    await cancel(queue, uid)
    assert await clean(queue) == []


async def test_replicas_that_look_at_once_make_one_clean_up_of_each_job(queue: QueueCase) -> None:
    for _ in range(3):
        await lapsed_and_cancelled(queue)

    async def replica() -> None:
        while await queue.database.write(cleaning.make, LATER_MS):
            pass

    await asyncio.gather(*(replica() for _ in range(4)))
    assert len(await clean_ups(queue)) == 3
    assert len({task.cleans for task in await clean(queue)}) == 3


async def test_one_clean_up_has_all_tasks_of_its_job_and_no_more_at_once_than_it_can(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "_LEFT", cleaning._LEFT.limit(2))
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task() for _ in range(3)]))
    await lapse(queue, *await queue.lease(3))
    await cancel(queue, uid)
    assert len(await clean(queue)) == 3
    assert len(await clean_ups(queue)) == 2


# --- fences


@pytest.mark.row("W2")
async def test_a_clean_up_that_comes_late_goes_no_further_than_the_fence_at_which_its_copy_ended(
    queue: QueueCase,
) -> None:
    _, uid, task = await lapsed_and_cancelled(queue)
    while await queue.database.write(cleaning.make, LATER_MS):
        pass
    await queue.database.write(retrying.retry, ALICE, uid, lambda _files: b"")
    found = {one.kind: one for one in await queue.lease(10)}
    again, removal = found[TaskKind.COPY_FILES], found[TaskKind.REMOVE_TEMPORARIES]
    assert again.task_id == task.task_id
    assert removal.cleans_fence == task.fence < again.fence


async def test_a_job_that_is_opened_again_first_needs_no_clean_up(queue: QueueCase) -> None:
    _, uid, _ = await lapsed_and_cancelled(queue)
    await queue.database.write(retrying.retry, ALICE, uid, lambda _files: b"")
    (again,) = await clean(queue)
    assert again.kind is TaskKind.COPY_FILES
    await queue.settle(again, done=b"\x03", files_done=2, bytes_done=20)
    assert await clean(queue) == []


# --- what its worker is told


async def test_its_worker_gets_the_files_only_where_these_may_lie_below_the_directory(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task(), chunk_task()]))
    flat, deep = await queue.lease(2)
    await queue.database.write(lambda c: c.execute(sa.update(Task).where(Task.id == deep.task_id).values(below=True)))
    await lapse(queue, flat, deep)
    await cancel(queue, uid)
    works = {}
    for removal in await clean(queue):
        message = lease_message(GivenLease(removal, "token", 10.0))
        works[message.remove_temporaries.task] = message.remove_temporaries
    name = f"jobs/{uid}/tasks/{{}}"
    one = pb.RemoveTemporariesWork(task=name.format(flat.task_id), fence=1, destination_directory=b"/to")
    assert works[one.task] == one
    chunk = pb.EntryChunk(payload=b"packed")
    assert works[name.format(deep.task_id)] == pb.RemoveTemporariesWork(
        task=name.format(deep.task_id), fence=1, destination_directory=b"/to", chunk=chunk
    )


# --- how it goes on, and ends


async def test_a_clean_up_is_tried_again_for_as_long_as_its_site_is_away(queue: QueueCase) -> None:
    await lapsed_and_cancelled(queue)
    (removal,) = await clean(queue)
    for _ in range(10):
        await queue.settle(removal, Outcome.FAILED, failure=BROKEN)
        assert (await task_row(queue, removal.task_id)).state == TaskState.DELAYED
        await queue.release()
        (removal,) = await queue.lease(10)
    await queue.settle(removal)
    assert (await task_row(queue, removal.task_id)).state == TaskState.SUCCEEDED


async def test_a_clean_up_that_fails_or_whose_worker_dies_makes_no_further_one(queue: QueueCase) -> None:
    for _ in range(2):
        await lapsed_and_cancelled(queue)
    one, other = await clean(queue)
    await queue.settle(one, Outcome.FAILED, failure=replace(BROKEN, retryable=False), left_behind=True)
    for _ in range(MAX_LAPSES):
        await lapse(queue, other)
        (other,) = [*await queue.lease(1), other][:1]
    assert await clean(queue) == []
    gone = await queue.database.write(cleaning.sweep, LATER_MS)
    assert sorted(one.reason for one in gone) == ["SITE_AWAY", "WORKER_LOST"]
    assert {(one.user, one.site) for one in gone} == {(ALICE, "sites/b")}
    assert await clean_ups(queue) == []
    await queue.check_counters()


async def test_one_that_nobody_could_do_for_long_is_given_up_and_deleted(queue: QueueCase) -> None:
    _, uid, task = await lapsed_and_cancelled(queue)
    while await queue.database.write(cleaning.make, LATER_MS):
        pass
    assert await queue.database.read(cleaning.overdue, 60_000) == []
    (late,) = await queue.database.read(cleaning.overdue, LATER_MS)
    assert (late.user, late.site, late.cleans) == (ALICE, "sites/b", f"jobs/{uid}/tasks/{task.task_id}")
    await queue.database.write(control.cancel_job, late.job_id)
    assert await queue.database.read(cleaning.overdue, LATER_MS) == []
    assert [one.reason for one in await queue.database.write(cleaning.sweep, LATER_MS)] == [""]
    assert await clean(queue) == []


async def test_one_that_runs_is_not_given_up(queue: QueueCase) -> None:
    await lapsed_and_cancelled(queue)
    assert await clean(queue)
    assert await queue.database.read(cleaning.overdue, LATER_MS) == []


@pytest.fixture
def upkeep(queue: QueueCase) -> Upkeep:
    """What a replica does again and again: copies are over at once, and clean-ups are deleted as soon as they end."""
    replica, bulletin = OwnReplica(queue.database, 0.0), Bulletin(queue.database)
    dispatcher = Dispatcher(queue.database, replica, bulletin, ProgressBoard(), LeaseTerms(0.0, 0.0))
    return Upkeep(queue.database, replica, dispatcher, Retention(listing_s=-60, job_s=3600, audit_s=3600))


async def test_upkeep_makes_clean_ups_and_says_of_those_that_it_gives_up_that_something_stays(
    queue: QueueCase, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uid, task = await lapsed_and_cancelled(queue)
    with structlog.testing.capture_logs() as logs:
        await upkeep._clear_away()
        assert len(await clean_ups(queue)) == 1
        monkeypatch.setattr("wherry_queue.upkeep._CLEAN_UP_S", -60)
        await upkeep._clear_away()
    assert await clean_ups(queue) == []
    (said,) = [entry for entry in logs if entry["event"].startswith("clean_up")]
    assert said == {
        "event": "clean_up_given_up", "log_level": "warning", "user": ALICE, "site": "sites/b",
        "task": f"jobs/{uid}/tasks/{task.task_id}",
    }  # fmt: skip


async def test_upkeep_says_why_a_clean_up_failed(queue: QueueCase, upkeep: Upkeep) -> None:
    await lapsed_and_cancelled(queue)
    await upkeep._clear_away()
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=replace(BROKEN, retryable=False))
    with structlog.testing.capture_logs() as logs:
        await upkeep._clear_away()
    (said,) = [entry for entry in logs if entry["event"].startswith("clean_up")]
    assert (said["event"], said["reason"], said["site"]) == ("clean_up_failed", "SITE_AWAY", "sites/b")


# --- who sees it


async def test_nobody_sees_a_clean_up_among_their_jobs(queue: QueueCase) -> None:
    job_id, _, _ = await lapsed_and_cancelled(queue)
    (removal,) = await clean(queue)
    page = await queue.database.read(reading.list_jobs, ALICE, None, 10)
    assert [view.row.id for view in page.views] == [job_id]
    looked = await queue.database.read(lambda c: watching.look(c, [ALICE], 0, ()))
    assert set(looked.owners) == {job_id}
    with pytest.raises(JobNotFound):
        await queue.view(ALICE, removal.job_uid)
    with pytest.raises(JobNotFound):
        await cancel(queue, removal.job_uid)
    seen: Overview = await queue.database.read(overview.overview, 10, NO_LIMITS)
    assert seen.jobs_open == 0
    assert {figures.work_class: figures.tasks_running for figures in seen.classes}[WorkClass.BULK] == 1


@pytest.mark.row("W4")
async def test_a_clean_up_waits_for_its_user_to_sign_in(queue: QueueCase) -> None:
    def learn(until_ms: int) -> Any:
        return lambda c: sign_ins.learn(c, ALICE, {"sites/b": until_ms})

    await lapsed_and_cancelled(queue)
    await queue.database.write(learn(0))
    assert await clean(queue) == []
    (job,) = await clean_ups(queue)
    assert job.hold == Hold.SOURCE_SIGN_IN
    assert (ALICE, "sites/b") in await queue.database.read(sign_ins.parked, 10)
    news: SignInNews = await queue.database.write(learn(1 << 50))
    assert list(news.opened) == [job.id]
    assert len(await queue.lease(10)) == 1


@pytest.mark.row("U6")
async def test_the_clean_ups_of_a_deleted_user_go_with_them(queue: QueueCase) -> None:
    for _ in range(2):
        await lapsed_and_cancelled(queue)
    assert await queue.database.write(cleaning.make, LATER_MS)
    await queue.database.write(forget_user, ALICE)
    assert await clean(queue) == []
    while await queue.database.write(sweep_deleted):
        pass
    assert await clean_ups(queue) == []
    lanes = await queue.database.read(lambda c: list(c.execute(sa.select(Lane.id))))
    assert lanes == []
