"""Sessions at sites that end, and that are too short: whose work is parked, and that it goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa
from wherry_chassis.sql import database_now_ms
from wherry_queue.models import Link, SignIn, Task
from wherry_queue.settling import Failure
from wherry_queue.sign_ins import ChangeKind, SessionChange, SignInNews
from wherry_queue.states import JobState, Outcome, TaskKind, TaskState
from wherry_queue.store import control, lanes, sign_ins, stopping
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

_HOUR_MS = 3_600_000
_SHORT_MS = 30_000
"""Less than anything may be begun with."""
_LARGE = 5_000_000_000
"""Bytes of a file that takes more than an hour where `_slow` is the rate."""


async def _in(queue: QueueCase, ms: int) -> int:
    return await queue.database.read(database_now_ms) + ms


async def _learn(queue: QueueCase, until_ms: int, site: str = "sites/a", user: str = "users/a") -> SignInNews:
    return await queue.database.write(sign_ins.learn, user, {site: until_ms})


def _changed(news: SignInNews) -> tuple[list[int], list[int]]:
    """The jobs that were set going and that were parked."""
    return sorted(news.opened), sorted(news.closed)


async def _slow(queue: QueueCase) -> None:
    await queue.database.write(lambda c: c.execute(sa.update(Link).values(bytes_per_second=1_000_000.0)).rowcount)


@pytest.mark.row("W4")
@pytest.mark.row("B4")
@pytest.mark.row("D16")
async def test_a_session_that_ends_parks_just_what_needs_it(queue: QueueCase) -> None:
    needs, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    back, _ = await queue.submit(copy_job(tasks=[chunk_task()], source_site="sites/b", destination_site="sites/a"))
    needs_not, _ = await queue.submit(copy_job(tasks=[chunk_task()], source_site="sites/b", destination_site="sites/c"))
    others, _ = await queue.submit(copy_job("users/b", tasks=[chunk_task()]))
    news = await _learn(queue, 0)
    assert _changed(news) == ([], [needs, back])
    assert await queue.state(needs) is JobState.WAITING_FOR_SIGN_IN
    assert {task.job_id for task in await queue.lease()} == {needs_not, others}
    assert await queue.database.read(sign_ins.parked, 10) == [("users/a", "sites/a")]
    await queue.check_counters()
    news = await _learn(queue, await _in(queue, _HOUR_MS))
    assert _changed(news) == ([needs, back], [])
    assert {task.job_id for task in await queue.lease()} == {needs, back}
    assert await queue.database.read(sign_ins.parked, 10) == []
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_a_job_needs_its_user_at_both_of_its_sites(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    await queue.database.write(sign_ins.learn, "users/a", {"sites/a": 0, "sites/b": 0})
    await _learn(queue, await _in(queue, _HOUR_MS), "sites/a")
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    await _learn(queue, await _in(queue, _HOUR_MS), "sites/b")
    assert len(await queue.lease()) == 1


@pytest.mark.row("W4")
async def test_what_runs_when_a_session_ends_is_stopped_and_goes_on_with_no_attempt_counted(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    for _ in range(5):
        task = await queue.lease_one()
        await _learn(queue, 0)
        assert await queue.database.read(stopping.to_stop, queue.replica_id) == {job_id: "SIGN_IN_REQUIRED"}
        failure = Failure("SITE_SESSION_EXPIRED", "sign in")
        await queue.settle(task, Outcome.RETURNED, failure=failure, sign_in_site="sites/a")
        await queue.release()
        assert await queue.lease() == []
        await _learn(queue, await _in(queue, _HOUR_MS))
    assert await queue.database.read(lambda c: c.execute(sa.select(Task.tries)).scalar_one()) == 0
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_a_session_that_ended_by_the_clock_parks_without_any_word(queue: QueueCase) -> None:
    until_ms = await _in(queue, _HOUR_MS)
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()], sessions={"sites/a": until_ms, "sites/b": until_ms}))
    assert not any(_changed(await queue.database.write(sign_ins.expire)))
    await queue.database.write(lambda c: c.execute(sa.update(SignIn).values(until_ms=until_ms - 2 * _HOUR_MS)).rowcount)
    assert await queue.lease() == [], "it was leased though its session has ended"
    news = await queue.database.write(sign_ins.expire)
    assert list(news.closed) == [job_id]
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    assert not any(_changed(await queue.database.write(sign_ins.expire)))
    await queue.check_counters()


async def test_of_several_changes_the_last_one_counts_and_the_cursor_is_kept(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    until_ms = await _in(queue, _HOUR_MS)
    changes = [
        SessionChange("users/a", "sites/a", ChangeKind.SIGNED_IN, until_ms),
        SessionChange("users/a", "sites/a", ChangeKind.SIGNED_OUT, until_ms),
        SessionChange("users/nobody", "sites/a", ChangeKind.SIGNED_OUT, until_ms),
        SessionChange("users/a", "sites/unknown", ChangeKind.SIGNED_OUT, until_ms),
    ]
    assert list((await queue.database.write(sign_ins.apply, changes, 7)).closed) == [job_id]
    assert await queue.database.read(sign_ins.cursor) == 7
    changes = [SessionChange("users/a", "sites/a", ChangeKind.RENEWED, until_ms)]
    assert list((await queue.database.write(sign_ins.apply, changes, 8)).opened) == [job_id]
    assert await queue.database.read(sign_ins.cursor) == 8


async def test_what_is_learnt_by_several_at_the_same_moment_is_taken_in_by_each(queue: QueueCase) -> None:
    until_ms = await _in(queue, _HOUR_MS)
    sessions = {"sites/a": until_ms, "sites/b": until_ms}
    jobs = [copy_job(tasks=[chunk_task()], sessions=sessions) for _ in range(8)]
    await asyncio.gather(*(queue.submit(job) for job in jobs))
    await asyncio.gather(*(queue.database.write(sign_ins.apply, [], 5) for _ in range(4)))
    assert len(await queue.lease(10)) == 8
    assert await queue.database.read(sign_ins.cursor) == 5


@pytest.mark.row("W4")
@pytest.mark.parametrize("kind", [TaskKind.REMOVE_FILES, TaskKind.CHANGE_MODE_OF_FILES])
async def test_a_large_file_of_which_nothing_is_moved_needs_no_long_session(queue: QueueCase, kind: TaskKind) -> None:
    until_ms = await _in(queue, _HOUR_MS)
    task = replace(chunk_task(1, _LARGE), kind=kind, destination_path=None)
    await queue.submit(copy_job(tasks=[task], sessions={"sites/a": until_ms, "sites/b": until_ms}))
    await _slow(queue)
    assert (await queue.lease_one()).kind is kind
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_a_task_that_would_not_end_within_its_session_is_put_off_until_there_is_a_longer_one(
    queue: QueueCase,
) -> None:
    until_ms = await _in(queue, _HOUR_MS)
    sessions = {"sites/a": until_ms, "sites/b": 3 * until_ms}
    tasks = [chunk_task(1, _LARGE), chunk_task()]
    job_id, _ = await queue.submit(copy_job(tasks=tasks, sessions=sessions))
    await _slow(queue)
    small = await queue.lease(10)
    assert [task.entry_count for task in small] == [2]
    assert await queue.lease(10) == []
    await queue.check_counters()
    await queue.settle(small[0], done=b"\x03", files_done=2, bytes_done=20)
    news = await _learn(queue, await _in(queue, 2 * _HOUR_MS))
    assert list(news.opened) == [job_id]
    now_ms = await queue.database.read(database_now_ms)
    assert await queue.database.write(lanes.release_delayed, now_ms) == 1, "it still waits for the old session's end"
    large = await queue.lease_one()
    await queue.settle(large, done=b"\x01", files_done=1, bytes_done=_LARGE)
    assert await queue.state(job_id) is JobState.SUCCEEDED
    await queue.check_counters()


@pytest.mark.row("W4")
async def test_a_job_all_of_which_waits_for_a_longer_session_says_so_also_after_a_pause(queue: QueueCase) -> None:
    until_ms = await _in(queue, _SHORT_MS)
    sessions = {"sites/a": until_ms, "sites/b": until_ms}
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task()], sessions=sessions))
    assert await queue.lease() == []
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    await queue.database.write(control.pause, "users/a", uid)
    assert await queue.state(job_id) is JobState.PAUSED
    await queue.database.write(control.resume, "users/a", uid)
    assert await queue.state(job_id) is JobState.WAITING_FOR_SIGN_IN
    longer_ms = await _in(queue, _HOUR_MS)
    await queue.database.write(sign_ins.learn, "users/a", dict.fromkeys(sessions, longer_ms))
    await queue.database.write(lanes.release_delayed, await queue.database.read(database_now_ms))
    assert len(await queue.lease()) == 1
    await queue.check_counters()


@pytest.mark.row("W4")
@pytest.mark.row("D3")
async def test_many_tasks_that_do_not_fit_keep_nobody_else_waiting(queue: QueueCase) -> None:
    until_ms = await _in(queue, _SHORT_MS)
    sessions = {"sites/a": until_ms, "sites/b": until_ms}
    await queue.submit(copy_job("users/short", tasks=[chunk_task() for _ in range(200)], sessions=sessions))
    await queue.submit(copy_job("users/b", tasks=[chunk_task() for _ in range(3)]))
    # The one with the short session is first in turn; one place is free at a time, as where all workers are busy.
    assert [[task.user for task in await queue.lease(1)] for _ in range(3)] == [["users/b"]] * 3
    for _ in range(300):
        await queue.lease(10)
    waiting = sa.select(sa.func.count()).select_from(Task).where(Task.state == TaskState.READY)
    assert await queue.database.read(lambda c: c.execute(waiting).scalar_one()) == 0
    await queue.check_counters()
