"""Looks at all of a user's jobs, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from wherry_queue.jobs import NewTask
from wherry_queue.models import Job
from wherry_queue.progress import Folded, Moved
from wherry_queue.settling import Failure
from wherry_queue.states import Outcome, TaskKind, WorkClass
from wherry_queue.store import control, leases, moving, watching
from wherry_queue.store.waiting import Circumstances
from wherry_queue.store.watching import Signs
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

HERE = Circumstances(has_workers=True)
DONE: dict[str, Any] = {"done": b"\x03", "files_done": 2, "bytes_done": 20}


async def look(queue: QueueCase, user: str = "users/a", since_id: int = 0) -> dict[int, Signs]:
    return dict((await queue.database.read(watching.look, [user], since_id)).signs)


async def submit(queue: QueueCase, user: str = "users/a") -> int:
    job_id, _ = await queue.submit(copy_job(user, tasks=[chunk_task()]))
    return job_id


def copied(connection: sa.Connection, job_id: int, changes: list[dict[str, object]]) -> None:
    """Makes rows like a job's, without what belongs to it."""
    row = dict(connection.execute(sa.select(Job.__table__).where(Job.id == job_id)).mappings().one())
    del row["id"]
    connection.execute(sa.insert(Job), [row | change for change in changes])


@pytest.mark.row("J5")
async def test_a_look_finds_what_is_open_and_what_is_new_and_nothing_older(queue: QueueCase) -> None:
    ended, still_open, new = [await submit(queue) for _ in range(3)]
    await queue.settle(await queue.lease_one(), **DONE)
    assert set(await look(queue, since_id=new)) == {still_open, new}
    assert set(await look(queue, since_id=ended)) == {ended, still_open, new}
    signs = await look(queue)
    assert [signs[job_id].open for job_id in (ended, still_open, new)] == [False, True, True]
    assert [signs[job_id].waiting for job_id in (ended, still_open, new)] == [False, True, True]


@pytest.mark.row("J3")
@pytest.mark.row("J5")
async def test_a_look_shows_nobody_elses_jobs_and_no_listings(queue: QueueCase) -> None:
    mine, other = await submit(queue), await submit(queue, "users/b")
    listing = copy_job(tasks=[NewTask(TaskKind.LIST, b"/d")], work_class=WorkClass.INTERACTIVE)
    listing_id, _ = await queue.submit(listing)
    every = [mine, other, listing_id]
    assert set(await look(queue)) == {mine}
    both = await queue.database.read(watching.look, ["users/a", "users/b", "users/nobody"], 0)
    assert both.owners == {mine: "users/a", other: "users/b"}
    assert await queue.database.read(watching.owners, every) == {mine: "users/a", other: "users/b"}
    assert [view.row.id for view in await queue.database.read(watching.jobs, "users/a", every, HERE)] == [mine]
    assert await look(queue, "users/nobody") == {}
    assert await queue.database.read(watching.horizon, "users/nobody", 1) == 0


@pytest.mark.row("J5")
async def test_signs_are_the_same_until_something_changes_that_is_shown(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task(), chunk_task()]))
    seen: list[Signs] = []

    async def has_changed() -> bool:
        signs = (await look(queue))[job_id]
        at_it = await queue.database.read(watching.look_at, [job_id])
        assert at_it == {job_id: signs}
        assert (await look(queue))[job_id] == signs, "they differ though nothing has happened"
        seen.append(signs)
        return len(seen) < 2 or seen[-2] != signs

    await has_changed()
    task = await queue.lease_one()
    assert await has_changed(), "a task runs"
    moved = {job_id: Folded(Moved(5, 1), 2.5, 1)}
    await queue.database.write(moving.write_progress, queue.replica_id, moved)
    assert await has_changed(), "bytes move"
    await queue.database.write(moving.write_progress, queue.replica_id, moved)
    assert not await has_changed(), "the same again is no news"
    await queue.settle(task, **DONE)
    assert await has_changed(), "a task has ended"
    failure = Failure("NETWORK", "reset", retryable=True)
    await queue.settle(await queue.lease_one(), Outcome.FAILED, failure=failure)
    assert await has_changed(), "a task waits for its next attempt"
    await queue.database.write(control.cancel, "users/a", uid)
    assert await has_changed(), "it is cancelled"
    assert not seen[-1].open


async def test_when_a_waiting_job_is_tried_again_is_among_its_signs(queue: QueueCase) -> None:
    job_id = await submit(queue)
    before = (await look(queue))[job_id]
    await queue.settle(await queue.lease_one(), Outcome.RETURNED, failure=Failure("SITE_SESSION_EXPIRED", "sign in"))
    (view,) = await queue.database.read(watching.jobs, "users/a", [job_id], HERE)
    assert view.waiting is not None
    after = (await look(queue))[job_id]
    assert after.waiting
    assert after.values[-1] == view.waiting.retry_ms is not None
    assert after != before


async def test_the_horizon_lies_before_so_many_of_the_users_own_jobs(queue: QueueCase) -> None:
    mine = []
    for _ in range(3):
        mine.append(await submit(queue))
        await submit(queue, "users/b")
    assert await queue.database.read(watching.horizon, "users/a", 1) == mine[2]
    assert await queue.database.read(watching.horizon, "users/a", 3) == mine[0]
    assert await queue.database.read(watching.horizon, "users/a", 4) == 0


async def test_the_next_look_begins_where_no_job_can_be_missed(queue: QueueCase) -> None:
    first, other = await submit(queue), await submit(queue, "users/b")
    found = await queue.database.read(watching.look, ["users/a"], first)
    assert found.next_id == first, "few jobs: all of them are looked at again"
    far = first + 100_000
    await queue.database.write(copied, other, [{"id": far, "uid": "far"}])
    found = await queue.database.read(watching.look, ["users/a"], first)
    assert first < found.next_id < far, "what others have made since is looked through again and again"


async def test_more_jobs_than_a_statement_takes_are_looked_at_all_the_same(queue: QueueCase) -> None:
    first = await submit(queue)
    await queue.database.write(copied, first, [{"uid": f"copy-{n}"} for n in range(1200)])
    ids = await queue.database.read(lambda c: list(c.execute(sa.select(Job.id).order_by(Job.id)).scalars()))
    assert sorted(await look(queue, since_id=ids[-1])) == ids
    assert sorted(await queue.database.read(watching.look_at, ids)) == ids
    views = await queue.database.read(watching.jobs, "users/a", ids, HERE)
    assert [view.row.id for view in views] == ids[::-1]


async def test_a_look_finds_what_becomes_of_jobs_that_it_would_not_look_for(queue: QueueCase) -> None:
    ended, other = await submit(queue), await submit(queue, "users/b")
    await queue.settle(await queue.lease_one(), **DONE)
    found = await queue.database.read(watching.look, [], other + 1, [ended, other, other + 7])
    assert [found.signs[job_id].open for job_id in (ended, other)] == [False, True]
    assert set(found.signs) == {ended, other}
    assert found.owners == {}


async def test_jobs_of_several_users_are_seen_each_as_its_owner_would_see_it(queue: QueueCase) -> None:
    first, behind, others = await submit(queue), await submit(queue), await submit(queue, "users/b")
    resting = await submit(queue, "users/c")
    for task in await queue.lease(4):
        if task.job_id == resting:
            await queue.settle(task, Outcome.FAILED, failure=Failure("NETWORK", "reset", retryable=True))
        else:
            await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)], given=False)
    of = {first: "users/a", behind: "users/a", others: "users/b", resting: "users/c"}
    views = await queue.database.read(watching.views, of, HERE, brief=True)
    assert [(view.row.id, view.owner) for view in views] == sorted(of.items(), reverse=True)
    for view in views:
        (alone,) = await queue.database.read(watching.jobs, of[view.row.id], [view.row.id], HERE)
        assert alone.waiting == view.waiting
    places = {view.row.id: view.waiting.position for view in views if view.waiting is not None}
    assert places == {first: 1, behind: 2, others: 1, resting: 0}
