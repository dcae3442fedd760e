"""The queue's store, the same promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from wherry_chassis import migrations
from wherry_chassis.sql import Database, database_now_ms
from wherry_queue.jobs import JobNotFound, LeaseLost, NewTask
from wherry_queue.models import EntryFailure, Job, Link, Replica, Task
from wherry_queue.settling import MAX_LAPSES, Failure
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState, WorkClass
from wherry_queue.store import control, lanes, leases, reading
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job, failed, files


@pytest.fixture(params=["sqlite", "postgresql"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueCase]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.db"
        migrations.upgrade(url, "wherry_queue")
    else:
        url = request.getfixturevalue("fresh_postgres")("wherry_queue")
    database = Database(url)
    try:
        yield await QueueCase(database).begin()
    finally:
        database.close()


@pytest.mark.row("J10", missing="filters, batch submission of many pairs")
async def test_the_same_request_id_gives_the_same_job(queue: QueueCase) -> None:
    first = await queue.submit(copy_job(request_id="r1"))
    again = await queue.submit(copy_job(request_id="r1"))
    other_user = await queue.submit(copy_job("users/b", request_id="r1"))
    assert first == again
    assert other_user != first
    assert len(await queue.lease(10)) == 2


async def test_requests_with_one_id_at_the_same_time_make_one_job(queue: QueueCase) -> None:
    made = await asyncio.gather(*(queue.submit(copy_job(request_id="same")) for _ in range(8)))
    assert len(set(made)) == 1
    assert len(await queue.lease(10)) == 1
    await queue.check_counters()


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
async def test_a_settlement_with_an_older_fence_changes_nothing(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    first = await queue.lease_one()
    await queue.database.write(leases.requeue, queue.replica_id, [(first.task_id, first.fence)])
    second = await queue.lease_one()
    assert second.fence == first.fence + 1
    assert not await queue.settle(first, done=b"\x03", files_done=2, bytes_done=20)
    assert (await queue.job(job_id)).files_done == 0
    assert await queue.settle(second, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
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


@pytest.mark.row("W2")
async def test_a_settlement_that_is_repeated_is_answered_alike_and_counts_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    for _ in range(3):
        assert await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    job = await queue.job(job_id)
    assert (job.files_done, job.bytes_done) == (2, 20)
    await queue.check_counters()


@pytest.mark.row("D1")
async def test_a_batch_that_is_reported_twice_counts_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    for _ in range(2):
        await queue.report(walk, cursor=b"m", chunks=[files(3)], directories=[b"sub"], directories_done=1)
    await queue.report(walk, after=b"m", cursor=b"z", chunks=[files(2)])
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_total, job.directories_done) == (5, 2, 1)
    await queue.check_counters()


async def test_a_walk_of_an_empty_directory_reports_it_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    for _ in range(2):
        await queue.report(walk, cursor=b"", directories_done=1)
    assert await queue.settle(walk)
    job = await queue.job(job_id)
    assert (job.directories_total, job.directories_done) == (1, 1)
    assert await queue.state(job_id) is JobState.SUCCEEDED


async def test_a_walk_goes_on_behind_its_cursor_after_its_worker_was_lost(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"m", chunks=[files(3)], directories_done=1)
    await queue.database.write(leases.requeue, queue.replica_id, [(walk.task_id, walk.fence)])
    again = next(task for task in await queue.lease(10) if task.task_id == walk.task_id)
    assert again.cursor == b"m"
    await queue.report(again, after=b"m", cursor=b"z", chunks=[files(2)], directories_done=1)
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_done) == (5, 1)


@pytest.mark.row("D1")
async def test_a_job_with_work_left_never_reads_as_finished(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    assert await queue.state(job_id) is JobState.QUEUED
    walk = await queue.lease_one()
    assert await queue.state(job_id) is JobState.EXPANDING
    await queue.report(walk, chunks=[files(2)])
    assert await queue.settle(walk)
    assert await queue.state(job_id) is JobState.RUNNING
    chunk = await queue.lease_one()
    assert await queue.settle(chunk, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_only_unfinished_entries_are_left_after_a_retry(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(entries=4)]))
    first = await queue.lease_one()
    await queue.settle(
        first,
        done=b"\x05",
        files_done=2,
        bytes_done=20,
        failures=[failed(1, retryable=True), failed(3, retryable=True)],
    )
    assert await queue.lease(1) == []
    await queue.release()
    second = await queue.lease_one()
    assert second.settled == b"\x05"
    await queue.settle(second, done=b"\x0f", files_done=2, bytes_done=20)
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed, job.bytes_done) == (4, 0, 40)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


async def test_entries_that_fail_for_good_are_kept_with_their_reason(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(entries=3)]))
    task = await queue.lease_one()
    await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10, failures=[failed(1), failed(2)])
    failures = await queue.database.read(reading.list_failures, "users/a", uid, 0, 10)
    assert [(row.entry_index, row.failure["reason"]) for row in failures] == [(1, "NO_SPACE"), (2, "NO_SPACE")]
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed, job.bytes_failed) == (1, 2, 20)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()


async def test_a_chunk_that_fails_for_good_fails_what_is_left_of_it(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(entries=5)]))
    task = await queue.lease_one()
    await queue.settle(task, Outcome.FAILED, failure=Failure("DENIED", "no"), done=b"\x01", files_done=1, bytes_done=10)
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed, job.bytes_failed) == (1, 4, 40)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()


async def test_a_retryable_failure_is_tried_as_often_as_the_policy_says(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    for _ in range(3):
        await queue.release()
        task = await queue.lease_one()
        await queue.settle(task, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True))
    await queue.release()
    assert await queue.lease(1) == []
    assert await queue.state(job_id) is JobState.FAILED
    await queue.check_counters()


async def test_a_returned_task_costs_no_attempt(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    for _ in range(5):
        await queue.release()
        await queue.settle(await queue.lease_one(), Outcome.RETURNED)
    assert (await queue.database.read(lambda c: c.execute(sa.select(Task.tries)).scalar_one())) == 0
    assert await queue.state(job_id) is JobState.RUNNING


@pytest.mark.row("W4", missing="parking by WatchSessions")
async def test_a_task_returned_for_an_expired_session_shows_as_waiting_for_sign_in(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.settle(task, Outcome.RETURNED, failure=Failure("SITE_SESSION_EXPIRED", "sign in"))
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    await queue.release()
    again = await queue.lease_one()
    await queue.settle(again, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED


@pytest.mark.row("W4", missing="parking by WatchSessions")
async def test_a_task_that_waits_for_a_sign_in_is_not_tried_again_at_once(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), Outcome.RETURNED, failure=Failure("SITE_SESSION_EXPIRED", "sign in"))
    due_ms = await queue.database.read(lanes.next_release_ms)
    now_ms = await queue.database.read(database_now_ms)
    assert due_ms is not None
    assert 2_000 < due_ms - now_ms < 30_000


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
    other = await queue.database.write(control.renew_replica, None, 60_000)
    adopted = await queue.database.write(leases.adopt, other, [(task.task_id, task.fence)])
    assert [found.task_id for found in adopted] == [task.task_id]
    assert adopted[0].user == "users/a"
    assert await queue.database.write(leases.adopt, other, [(task.task_id, task.fence + 1)]) == []
    await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
    assert await queue.lease(1) == [], "the replica that it left took it back all the same"


async def test_nothing_is_leased_without_an_unexpired_row_of_the_replica(queue: QueueCase) -> None:
    await queue.submit(copy_job())
    await queue.database.write(control.retire_replica, queue.replica_id)
    await queue.database.write(lambda c: c.execute(sa.update(Replica).values(until_ms=Replica.until_ms - 1)).rowcount)
    assert await queue.lease(1) == []


@pytest.mark.row("J7", missing="pause, resume, retry, cancel of a running copy within 1 s")
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


@pytest.mark.row("J3", missing="per-file listing of a job")
async def test_what_belongs_to_somebody_else_does_not_exist(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job("users/a"))
    task = await queue.lease_one()
    for work, args in (
        (reading.view_job, ()),
        (control.cancel, ()),
        (reading.list_tasks, (0, 10)),
        (reading.get_task, (task.task_id,)),
        (reading.list_attempts, (task.task_id,)),
        (reading.list_failures, (0, 10)),
    ):
        with pytest.raises(JobNotFound):
            await queue.database.write(work, "users/b", uid, *args)
    assert await queue.database.read(reading.list_jobs, "users/b", None, 10) == []


@pytest.mark.row("J3", missing="per-file listing of a job")
async def test_tasks_and_attempts_of_ones_own_job_can_be_read(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    first = await queue.lease_one()
    await queue.settle(first, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True), log="lost it")
    await queue.release()
    second = await queue.lease_one()
    await queue.settle(second, done=b"\x03", files_done=2, bytes_done=20)
    (task,) = await queue.database.read(reading.list_tasks, "users/a", uid, 0, 10)
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 2)
    attempts = await queue.database.read(reading.list_attempts, "users/a", uid, task.id)
    assert [(row.outcome, row.log) for row in attempts] == [(Outcome.FAILED, "lost it"), (Outcome.COMPLETED, "")]


async def test_jobs_are_listed_newest_first_by_key(queue: QueueCase) -> None:
    uids = [(await queue.submit(copy_job()))[1] for _ in range(5)]
    page = await queue.database.read(reading.list_jobs, "users/a", None, 3)
    assert [view.row.uid for view in page] == uids[:1:-1]
    rest = await queue.database.read(reading.list_jobs, "users/a", page[-1].row.id, 3)
    assert [view.row.uid for view in rest] == uids[1::-1]


async def test_a_removal_takes_files_first_and_directories_deepest_first(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(
        copy_job(
            operation="remove", tasks=[NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)], destination_site="sites/a"
        )
    )
    top = await queue.lease_one()
    await queue.report(top, directories=[b"sub"], chunks=[files(1)], remove_directory=True)
    await queue.settle(top)
    order = []
    while leased := await queue.lease(10):
        for task in leased:
            order.append((task.kind, task.source_path))
            if task.kind is TaskKind.WALK_REMOVE:
                await queue.report(task, chunks=[files(1)], remove_directory=True)
                await queue.settle(task)
            elif task.kind is TaskKind.REMOVE_FILES:
                await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10)
            else:
                await queue.settle(task)
    kinds = [kind for kind, _ in order]
    directories = [path for kind, path in order if kind is TaskKind.REMOVE_DIRECTORY]
    assert directories == [b"/d/sub", b"/d"]
    assert kinds.index(TaskKind.REMOVE_DIRECTORY) > max(
        i for i, kind in enumerate(kinds) if kind is not TaskKind.REMOVE_DIRECTORY
    )
    job = await queue.job(job_id)
    assert (job.files_done, job.directories_done, job.directories_total) == (2, 2, 2)
    assert await queue.state(job_id) is JobState.SUCCEEDED
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
    assert await queue.database.read(lanes.stalled_jobs) == [job_id]
    assert await queue.database.write(lanes.open_next_phase, job_id)
    assert not await queue.database.write(lanes.open_next_phase, job_id)
    assert (await queue.lease_one()).kind is TaskKind.REMOVE_DIRECTORY


@pytest.mark.row("D3", missing="the real queue with a user of a million files")
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


async def test_listings_have_a_class_of_their_own(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    listing = copy_job(
        operation="list",
        tasks=[NewTask(TaskKind.LIST, b"/d")],
        work_class=WorkClass.INTERACTIVE,
        destination_site="sites/a",
    )
    job_id, _ = await queue.submit(listing)
    (task,) = await queue.lease(10, WorkClass.INTERACTIVE)
    assert task.kind is TaskKind.LIST
    await queue.report(task, cursor=b"b", entries=b"one")
    await queue.report(task, after=b"b", cursor=b"c", entries=b"two")
    chunks, row = await queue.database.read(reading.listing_after, job_id, 0)
    assert [payload for _, payload in chunks] == [b"one", b"two"]
    assert row.state == TaskState.RUNNING
    assert await queue.database.read(reading.list_jobs, "users/a", None, 10) != []
    assert all(view.row.id != job_id for view in await queue.database.read(reading.list_jobs, "users/a", None, 10))


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
    assert await queue.database.write(control.sweep_listings, 60_000) == 0
    assert await queue.database.write(control.sweep_listings, -1000) == 1
    with pytest.raises(JobNotFound):
        await queue.view("users/a", uid)
    assert (await queue.job(kept)).files_done == 2


async def test_unlistable_entries_are_failures_and_do_not_stop_the_rest(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.report(walk, chunks=[files(1)], failures=[failed(0)])
    await queue.settle(walk)
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1, bytes_done=10)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    job = await queue.job(job_id)
    assert (job.files_total, job.files_done, job.files_failed) == (2, 1, 1)
    rows = await queue.database.read(lambda c: c.execute(sa.select(EntryFailure.path)).scalars().all())
    assert rows == [b"/from/0"]


async def test_published_keys_are_those_that_have_not_expired(queue: QueueCase) -> None:
    await queue.database.write(control.publish_key, "old", b"1" * 32, -1)
    await queue.database.write(control.publish_key, "new", b"2" * 32, 60_000)
    assert [key.kid for key in await queue.database.read(control.published_keys)] == ["new"]


async def test_a_walk_of_a_cancelled_job_adds_nothing_more(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.database.write(control.cancel, "users/a", uid)
    with pytest.raises(LeaseLost):
        await queue.report(walk, chunks=[files(5)])
    await queue.settle(walk, Outcome.CANCELLED)
    assert await queue.state(job_id) is JobState.CANCELLED
    await queue.check_counters()


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
    await queue.database.write(control.end_waiting, job_id)
    assert await queue.state(job_id) is JobState.CANCELLED
    assert await queue.database.read(control.half_cancelled) == []
    await queue.check_counters()


@pytest.mark.row("S6")
@pytest.mark.row("W2")
async def test_only_the_worker_that_has_a_lease_is_believed_about_it(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job())
    walk = await queue.lease_one()
    await queue.database.write(leases.assign, "aa", [(walk.task_id, walk.fence)])
    other = await queue.database.write(control.renew_replica, None, 60_000)
    assert await queue.database.write(leases.adopt, other, [(walk.task_id, walk.fence)], "bb") == []
    with pytest.raises(LeaseLost):
        await queue.report(walk, chunks=[files(5)], thumbprint="bb")
    assert not await queue.settle(walk, thumbprint="bb")
    await queue.report(walk, cursor=b"", directories_done=1, thumbprint="aa")
    assert await queue.settle(walk, thumbprint="aa")
    assert await queue.state(job_id) is JobState.SUCCEEDED


async def test_a_removal_takes_in_what_appeared_behind_its_last_batch(queue: QueueCase) -> None:
    tasks = [NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)]
    job_id, _ = await queue.submit(copy_job(operation="remove", tasks=tasks, destination_site="sites/a"))
    walk = await queue.lease_one()
    await queue.report(walk, cursor=b"m", chunks=[files(1)], remove_directory=True)
    await queue.database.write(leases.requeue, queue.replica_id, [(walk.task_id, walk.fence)])
    again = next(task for task in await queue.lease(10) if task.task_id == walk.task_id)
    await queue.report(again, after=b"m", cursor=b"z", chunks=[files(2)], remove_directory=True)
    job = await queue.job(job_id)
    assert (job.files_total, job.directories_total) == (3, 1)


async def test_a_task_that_its_worker_stopped_unasked_rests_before_it_is_leased_again(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), Outcome.CANCELLED)
    due_ms = await queue.database.read(lambda c: c.execute(sa.select(Task.not_before_ms)).scalar_one())
    now_ms = await queue.database.read(database_now_ms)
    assert due_ms is not None
    assert due_ms - now_ms > 500


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
