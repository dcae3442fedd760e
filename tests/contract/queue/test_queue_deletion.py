"""What the queue does for a deleted account, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_queue.jobs import Chunk, JobNotFound, NewJob, NewTask
from wherry_queue.models import AuditEntry, Ban, Base, Job, SignIn, Site, Task, User
from wherry_queue.settling import FailedEntry, Failure
from wherry_queue.states import JobState, Outcome, TaskKind, WorkClass
from wherry_queue.store import deletion, retention, staging
from wherry_queue.store.deletion import forget_user
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

ALICE, BOB = "users/alice", "users/bob"
U6 = pytest.mark.row("U6", missing="export of one's data")


async def names(queue: QueueCase) -> list[str]:
    query = sa.select(User.name).order_by(User.id)
    return await queue.database.read(lambda connection: list(connection.execute(query).scalars()))


async def count(queue: QueueCase, table: Any) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    return int(await queue.database.read(lambda connection: connection.execute(query).scalar_one()))


@U6
async def test_open_jobs_are_cancelled_and_those_that_run_are_named_to_be_stopped(queue: QueueCase) -> None:
    waiting, _ = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    ended, _ = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    running, _ = await queue.submit(copy_job(ALICE, tasks=[chunk_task(), chunk_task()]))
    others, _ = await queue.submit(copy_job(BOB, tasks=[chunk_task()]))
    tasks = {task.job_id: task for task in await queue.lease(4)}
    await queue.settle(tasks[ended], done=b"\x03", files_done=2, bytes_done=20)
    stopped = await queue.database.write(forget_user, ALICE)
    assert set(stopped) == {waiting, running}
    assert await queue.lease(10) == []
    assert await queue.state(running) is JobState.CANCELLING
    for job_id, task in tasks.items():
        if job_id in stopped:
            await queue.settle(task, Outcome.CANCELLED)
    assert {await queue.state(job) for job in (waiting, running)} == {JobState.CANCELLED}
    assert await queue.state(ended) is JobState.SUCCEEDED
    assert await queue.state(others) is not JobState.CANCELLED
    await queue.check_counters()


@U6
async def test_history_stays_under_a_pseudonym(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(ALICE, tasks=[chunk_task()], request_id="thesis of alice"))
    await queue.submit(copy_job(BOB, request_id="his"))
    await queue.database.write(forget_user, ALICE)
    hers, his = await names(queue)
    assert hers.startswith("users/deleted-")
    assert his == BOB
    with pytest.raises(JobNotFound):
        await queue.view(ALICE, uid)
    assert (await queue.job(job_id)).request_id is None
    requests = await queue.database.read(lambda c: set(c.execute(sa.select(Job.request_id)).scalars()))
    assert requests == {None, "his"}


async def swept(queue: QueueCase) -> None:
    while await queue.database.write(deletion.sweep):
        pass


async def everything(queue: QueueCase) -> str:
    """All that the database holds, as text."""

    def dump(connection: Connection) -> str:
        rows = [row for table in Base.metadata.sorted_tables for row in connection.execute(sa.select(table))]
        return "\n".join(str(tuple(row)) for row in rows)

    return await queue.database.read(dump)


def secret_copy(**changes: Any) -> NewJob:
    """A copy by alice whose every word says so."""
    secret = b"/home/secret"
    task = NewTask(TaskKind.COPY_FILES, secret, secret, payload=b"secret", entry_count=2, total_bytes=20)
    values = {"specification": b"secret", "summary": b"secret", "request_id": f"secret {len(changes)}", "tasks": [task]}
    return copy_job(ALICE, **(values | changes))


@U6
async def test_of_ended_jobs_nothing_stays_that_says_what_they_were_about(queue: QueueCase) -> None:
    failure = Failure("NO_SPACE", "no room for /home/secret/file")
    job_id, _ = await queue.submit(secret_copy())
    await queue.submit(secret_copy(operation="list", work_class=WorkClass.INTERACTIVE))
    bobs, uid = await queue.submit(copy_job(BOB, tasks=[chunk_task()]))
    (listing,) = await queue.lease(1, WorkClass.INTERACTIVE)
    await queue.settle(listing, log="secret")
    for task in await queue.lease(2):
        hers = task.job_id == job_id
        lost = [FailedEntry(1, b"/home/secret/file", 10, failure)] if hers else []
        log = "secret" if hers else "his"
        await queue.settle(task, done=b"\x01", files_done=1, bytes_done=10, failures=lost, log=log)
    staged = await queue.database.write(staging.begin, ALICE)
    await queue.database.write(staging.add, staged, [Chunk(b"secret", 1, 1)], 1000)
    assert "secret" in await everything(queue)
    await queue.database.write(forget_user, ALICE)
    await swept(queue)
    left = await everything(queue)
    assert "secret" not in left
    assert ALICE not in left
    # That there was work stays, as everything of others does.
    kept = await queue.job(job_id)
    assert (kept.files_done, kept.files_failed, kept.bytes_done) == (1, 1, 10)
    assert (await queue.view(BOB, uid)).row.id == bobs
    assert await count(queue, Task) == 1
    await queue.database.write(retention.sweep_jobs, -1000)
    assert await queue.database.read(lambda c: list(c.execute(sa.select(Job.id)).scalars())) == [bobs]


@U6
async def test_a_job_that_has_to_be_stopped_first_is_emptied_when_it_has_ended(queue: QueueCase) -> None:
    job_id, _ = await queue.submit(secret_copy())
    task = await queue.lease_one()
    await queue.database.write(forget_user, ALICE)
    await swept(queue)
    assert await count(queue, Task) == 1
    assert await queue.settle(task, Outcome.CANCELLED, log="secret")
    await swept(queue)
    assert "secret" not in await everything(queue)
    assert await queue.state(job_id) is JobState.CANCELLED
    leaving = await queue.database.read(lambda c: list(c.execute(sa.select(User.leaving)).scalars()))
    assert leaving == [False]
    # What was let in just before is found by the second time.
    (pseudonym,) = await names(queue)
    late, _ = await queue.submit(copy_job(pseudonym, tasks=[chunk_task()]))
    await queue.database.write(forget_user, ALICE)
    await swept(queue)
    assert (await queue.job(late)).cancelled
    assert await count(queue, Task) == 0


@U6
async def test_what_operators_did_about_a_user_names_them_no_longer(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE))

    def act(connection: Connection) -> None:
        for user in (ALICE, BOB):
            connection.execute(sa.insert(AuditEntry).values(at_ms=1, actor="/CN=op", act="ban", subject=user))
            connection.execute(sa.insert(Ban).values(subject=user, reason="", created_ms=1))
        user_id = connection.execute(sa.select(User.id)).scalar_one()
        site_id = connection.execute(sa.select(Site.id).order_by(Site.id)).scalars().first()
        connection.execute(sa.insert(SignIn).values(user_id=user_id, site_id=site_id, until_ms=9))

    await queue.database.write(act)
    await queue.database.write(forget_user, ALICE)
    subjects = await queue.database.read(lambda c: set(c.execute(sa.select(AuditEntry.subject)).scalars()))
    assert subjects == {(await names(queue))[0], BOB}
    assert await queue.database.read(lambda c: list(c.execute(sa.select(Ban.subject)).scalars())) == [BOB]
    assert await count(queue, SignIn) == 0


@U6
async def test_the_second_time_only_what_came_in_between_is_done(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await queue.database.write(forget_user, ALICE)
    before = await names(queue)
    assert await queue.database.write(forget_user, ALICE) == []
    assert await names(queue) == before
    late, _ = await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    assert await queue.database.write(forget_user, ALICE) == [late]
    assert await queue.state(late) is JobState.CANCELLED
    assert ALICE not in await names(queue)
    await queue.check_counters()


@U6
async def test_a_job_that_came_in_as_its_user_was_renamed_is_cancelled_the_next_time(queue: QueueCase) -> None:
    await queue.submit(copy_job(ALICE, tasks=[chunk_task()]))
    await queue.database.write(forget_user, ALICE)
    (pseudonym,) = await names(queue)
    # As a creation leaves it that had found the user's row before, and commits after.
    late, _ = await queue.submit(copy_job(pseudonym, tasks=[chunk_task()]))
    assert await queue.database.write(forget_user, ALICE) == [late]
    assert await queue.state(late) is JobState.CANCELLED


@U6
async def test_a_user_without_any_job_is_forgotten_without_a_trace(queue: QueueCase) -> None:
    assert await queue.database.write(forget_user, ALICE) == []
    assert await names(queue) == []


@U6
async def test_replicas_may_do_it_at_the_same_moment_while_work_is_leased_and_settled(queue: QueueCase) -> None:
    for _ in range(5):
        await queue.submit(copy_job(ALICE, tasks=[chunk_task(), chunk_task()]))
        await queue.submit(copy_job(BOB, tasks=[chunk_task(), chunk_task()]))

    async def work() -> None:
        for task in await queue.lease(6):
            await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)

    await asyncio.gather(work(), queue.database.write(forget_user, ALICE), work(), work(),
                         queue.database.write(forget_user, ALICE), work(), work())  # fmt: skip
    await queue.database.write(forget_user, ALICE)
    while tasks := await queue.lease(10):
        for task in tasks:
            await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    await queue.check_counters()
    open_jobs = await queue.database.read(lambda c: list(c.execute(sa.select(Job.id).where(Job.ended_ms.is_(None)))))
    assert open_jobs == []
