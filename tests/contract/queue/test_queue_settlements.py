"""What workers' words about tasks change, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from wherry_chassis.sql import database_now_ms
from wherry_queue.models import Task
from wherry_queue.settling import Failure, Settlement
from wherry_queue.states import JobState, Outcome
from wherry_queue.store import job_tasks, lanes, leases, retrying, settlements, sign_ins, stopping
from wherry_testing.queue_acts import pack
from wherry_testing.queue_cases import POLICY, QueueCase, chunk_task, copy_job, failed, files


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
async def test_a_settlement_that_is_repeated_is_answered_alike_and_counts_once(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    for _ in range(3):
        assert await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    job = await queue.job(job_id)
    assert (job.files_done, job.bytes_done) == (2, 20)
    await queue.check_counters()


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
    failures = await queue.database.read(job_tasks.list_failures, "users/a", uid, 0, 10)
    assert [(row.entry_index, row.failure["reason"]) for row in failures.rows] == [(1, "NO_SPACE"), (2, "NO_SPACE")]
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


@pytest.mark.row("W4")
async def test_a_task_returned_for_an_expired_session_shows_as_waiting_once_the_site_service_says_so(
    queue: QueueCase,
) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    await queue.settle(task, Outcome.RETURNED, failure=Failure("SITE_SESSION_EXPIRED", "sign in"))
    words = [(task.task_id, "sites/a"), (task.task_id, "sites/c"), (task.task_id + 1000, "sites/a")]
    pairs = await queue.database.read(sign_ins.doubted, words)
    assert pairs == [("users/a", "sites/a")]
    await queue.database.write(sign_ins.learn, "users/a", {"sites/a": 0})
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    await queue.release()
    assert await queue.lease() == []
    await queue.database.write(sign_ins.learn, "users/a", {"sites/a": 1 << 50})
    again = await queue.lease_one()
    await queue.settle(again, done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED


@pytest.mark.row("W4")
async def test_a_workers_word_alone_parks_and_stops_nothing(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    doubted, other = await queue.lease(2)
    ended = Failure("SITE_SESSION_EXPIRED", "sign in")
    await queue.settle(doubted, Outcome.RETURNED, failure=ended, sign_in_site="sites/a")
    await queue.database.read(sign_ins.doubted, [(doubted.task_id, "sites/a")])
    assert await queue.state(job_id) is JobState.RUNNING
    assert await queue.database.read(sign_ins.parked, 10) == []
    assert await queue.database.read(stopping.to_stop, queue.replica_id) == {}
    await queue.settle(other, done=b"\x03", files_done=2, bytes_done=20)
    await queue.release()
    again = await queue.lease_one()
    assert again.task_id == doubted.task_id
    assert await queue.database.read(lambda c: set(c.execute(sa.select(Task.tries)).scalars())) == {0}
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_a_task_whose_sign_in_is_in_doubt_is_not_tried_again_at_once_and_each_time_later(
    queue: QueueCase,
) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    rests_ms = []
    for _ in range(8):
        task = await queue.lease_one()
        await queue.settle(task, Outcome.RETURNED, failure=Failure("SITE_SESSION_EXPIRED", "sign in"))
        due_ms = await queue.database.read(lanes.next_release_ms)
        assert due_ms is not None
        rests_ms.append(due_ms - await queue.database.read(database_now_ms))
        await queue.release()
    assert 2_000 < rests_ms[0] < 7_000
    assert 14_000 < rests_ms[-1] < 26_000
    assert len(set(rests_ms[3:])) > 1, "all tasks of a user would come back at the same moment"


async def test_a_task_that_its_worker_stopped_unasked_rests_before_it_is_leased_again(queue: QueueCase) -> None:
    await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.settle(await queue.lease_one(), Outcome.CANCELLED)
    due_ms = await queue.database.read(lambda c: c.execute(sa.select(Task.not_before_ms)).scalar_one())
    now_ms = await queue.database.read(database_now_ms)
    assert due_ms is not None
    assert due_ms - now_ms > 500


async def test_what_failed_for_good_says_why_also_if_the_rest_went_well_later(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(entries=2)]))
    await queue.settle(await queue.lease_one(), failures=[failed(0), failed(1, retryable=True)])
    await queue.release()
    await queue.settle(await queue.lease_one(), done=b"\x02", files_done=1, bytes_done=10)
    job = await queue.job(job_id)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    assert job.failure["reason"] == "NO_SPACE"
    task = await queue.database.read(lambda c: c.execute(sa.select(Task.failure)).scalar_one())
    assert task is not None
    assert task["reason"] == "NO_SPACE"
    await queue.check_counters()


@pytest.mark.row("J1")
@pytest.mark.parametrize(("asked", "tries"), [(None, 3), (1, 1), (5, 5)])
async def test_a_jobs_tasks_are_tried_as_often_as_it_asks_or_as_the_deployment_has_it(
    queue: QueueCase, asked: int | None, tries: int
) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()], attempts=asked))
    failure = Failure("NO_SPACE", "disk full", retryable=True)
    for attempt in range(1, tries + 1):
        assert (await queue.job(job_id)).tasks_failed == 0
        await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=failure)
        await queue.release()
        assert (await queue.state(job_id) is JobState.FAILED) is (attempt == tries)
    assert await queue.lease(1) == []
    await queue.check_counters()


@pytest.mark.row("J1")
async def test_the_files_of_a_chunk_are_tried_as_often_as_their_job_asks(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task(entries=2)], attempts=1))
    failures = [failed(1, retryable=True)]
    await queue.settle(await queue.lease_one(), done=b"\x01", files_done=1, bytes_done=10, failures=failures)
    job = await queue.job(job_id)
    assert (job.files_done, job.files_failed) == (1, 1)
    assert await queue.state(job_id) is JobState.PARTIALLY_FAILED
    await queue.check_counters()


@pytest.mark.row("J1")
async def test_settlements_of_several_jobs_in_one_call_go_by_the_attempts_of_each(queue: QueueCase) -> None:
    asked = (1, None, 2)
    jobs = [(await queue.submit(copy_job(tasks=[chunk_task()], attempts=attempts)))[0] for attempts in asked]
    failure = Failure("NO_SPACE", "disk full", retryable=True)
    leased = await queue.lease(3)
    words = [Settlement(task.task_id, task.fence, Outcome.FAILED, failure) for task in leased]
    await queue.database.write(settlements.settle, words, POLICY)
    assert [await queue.state(job_id) is JobState.FAILED for job_id in jobs] == [True, False, False]
    await queue.check_counters()


@pytest.mark.row("J1")
async def test_a_lost_worker_and_a_task_given_back_are_no_attempt(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()], attempts=1))
    first = await queue.lease_one()
    await queue.database.write(leases.requeue, queue.replica_id, [(first.task_id, first.fence)])
    await queue.settle(await queue.lease_one(), Outcome.RETURNED)
    await queue.release()
    await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    assert await queue.state(job_id) is JobState.SUCCEEDED


@pytest.mark.row("J1")
async def test_a_job_that_is_retried_has_all_its_attempts_again(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()], attempts=1))
    failure = Failure("NO_SPACE", "disk full", retryable=True)
    for _ in range(2):
        await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=failure)
        assert await queue.state(job_id) is JobState.FAILED
        await queue.database.write(retrying.retry, "users/a", uid, pack)
    assert await queue.state(job_id) is JobState.RUNNING
