"""Limits and weights that operators set at run time; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_queue.limiting import UNLIMITED, SubjectNotFound
from wherry_queue.models import Lane, Link, Site, Task, User
from wherry_queue.states import TaskState, WorkClass
from wherry_queue.store import leases, limit_setting
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limit_setting import SetLimit, Subject
from wherry_queue.store.limits import NO_LIMITS, Defaults, Kind
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

ACTOR = "/O=Test/CN=operator"
SUBJECTS = [
    Subject(Kind.LINK, "sites/a", "sites/b"),
    Subject(Kind.SITE_OUT, "sites/a"),
    Subject(Kind.SITE_IN, "sites/b"),
    Subject(Kind.USER, "users/a"),
]
each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.kind.value)


async def set_limit(queue: QueueCase, subject: Subject, cap: int | None, defaults: Defaults = NO_LIMITS) -> SetLimit:
    return await queue.database.write(limit_setting.set_limit, ACTOR, subject, cap, defaults)


async def settle(queue: QueueCase, task: LeasedTask) -> None:
    assert await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)


async def some_work(queue: QueueCase, tasks: int = 12) -> None:
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(tasks)]))


@pytest.mark.row("W1")
@each_subject
async def test_a_limit_holds_at_once_and_counts_what_runs_already(queue: QueueCase, subject: Subject) -> None:
    await some_work(queue)
    running = await queue.lease(3)
    assert (await set_limit(queue, subject, 4)).in_use == 3
    running += await queue.lease(10)
    assert len(running) == 4
    await settle(queue, running.pop())
    await settle(queue, running.pop())
    assert len(await queue.lease(10)) == 2
    await queue.check_counters()


@pytest.mark.row("W1")
@each_subject
async def test_a_limit_below_what_runs_lets_nothing_start_until_enough_has_ended(
    queue: QueueCase, subject: Subject
) -> None:
    await some_work(queue)
    running = await queue.lease(5)
    await set_limit(queue, subject, 2)
    for _ in range(3):
        assert await queue.lease(10) == []
        await settle(queue, running.pop())
    assert await queue.lease(10) == []
    await settle(queue, running.pop())
    assert len(await queue.lease(10)) == 1
    await queue.check_counters()


@each_subject
async def test_a_limit_of_nothing_starts_nothing_and_lifting_it_starts_everything(
    queue: QueueCase, subject: Subject
) -> None:
    await set_limit(queue, SUBJECTS[1], 100)
    await some_work(queue, 4)
    await set_limit(queue, subject, 0)
    assert await queue.lease(10) == []
    await set_limit(queue, subject, UNLIMITED)
    assert len(await queue.lease(10)) == 4


@pytest.mark.row("W1")
@each_subject
async def test_lifting_a_limit_and_setting_it_again_leaves_no_phantom_count(queue: QueueCase, subject: Subject) -> None:
    await some_work(queue)
    await set_limit(queue, subject, 3)
    counted = await queue.lease(10)
    assert (await set_limit(queue, subject, UNLIMITED)).in_use == 3
    uncounted = await queue.lease(4)
    await settle(queue, counted.pop())
    await settle(queue, uncounted.pop())
    assert (await set_limit(queue, subject, None)).in_use == 2
    again = await set_limit(queue, subject, 6)
    assert again.in_use == len(counted) + len(uncounted) == 5
    more = await queue.lease(10)
    assert len(more) == 1
    for task in [*counted, *uncounted, *more]:
        await settle(queue, task)
    assert {limit.in_use for limit in await queue.database.read(limit_setting.limits_set)} == {0}
    await queue.check_counters()


@each_subject
async def test_the_deployments_default_holds_where_nothing_is_set_and_comes_back(
    queue: QueueCase, subject: Subject
) -> None:
    defaults = Defaults(**{subject.kind.value: 2})

    async def lease(want: int) -> list[LeasedTask]:
        return await queue.database.write(leases.lease, queue.replica_id, WorkClass.BULK, want, defaults)

    await some_work(queue, 20)
    assert len(await lease(10)) == 2
    assert (await set_limit(queue, subject, UNLIMITED, defaults)).in_use == 2
    assert len(await lease(5)) == 5
    back = await set_limit(queue, subject, None, defaults)
    assert (back.cap, back.in_use) == (None, 7)
    assert await lease(5) == []
    assert await queue.database.read(limit_setting.limits_set) == []
    await queue.check_counters()


async def test_a_limit_leaves_other_users_sites_and_listings_alone(queue: QueueCase) -> None:
    await some_work(queue)
    await queue.submit(copy_job("users/b", source_site="sites/c", destination_site="sites/d", tasks=[chunk_task()]))
    listing = copy_job(operation="list", work_class=WorkClass.INTERACTIVE, destination_site="sites/a")
    await queue.submit(listing)
    for subject in SUBJECTS:
        await set_limit(queue, subject, 0)
    assert [task.user for task in await queue.lease(10)] == ["users/b"]
    assert len(await queue.lease(10, WorkClass.INTERACTIVE)) == 1
    await queue.check_counters()


async def test_sites_and_links_that_no_work_has_named_can_be_limited_beforehand(queue: QueueCase) -> None:
    new = Subject(Kind.LINK, "sites/new", "sites/newer")
    assert await set_limit(queue, new, 1) == SetLimit(new, 1, 0)
    await set_limit(queue, Subject(Kind.SITE_IN, "sites/newest"), 0)
    link = {"source_site": "sites/new", "destination_site": "sites/newer"}
    await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()], **link))
    await queue.submit(copy_job(tasks=[chunk_task()], destination_site="sites/newest"))
    assert len(await queue.lease(10)) == 1


async def test_a_user_for_whom_nothing_was_ever_queued_is_not_found_and_nothing_is_kept(queue: QueueCase) -> None:
    with pytest.raises(SubjectNotFound):
        await set_limit(queue, Subject(Kind.USER, "users/nobody"), 1)
    with pytest.raises(SubjectNotFound):
        await queue.database.write(limit_setting.set_weight, ACTOR, "users/nobody", 2.0)
    assert await queue.database.read(limit_setting.limits_set) == []


async def test_limits_are_listed_by_what_they_are_about(queue: QueueCase) -> None:
    await some_work(queue)
    for cap, subject in enumerate(SUBJECTS):
        await set_limit(queue, subject, cap)
    await set_limit(queue, Subject(Kind.SITE_OUT, "sites/b"), UNLIMITED)
    found = {str(limit.subject): limit.cap for limit in await queue.database.read(limit_setting.limits_set)}
    assert found == {
        "users/a": 3, "sites/a (out)": 1, "sites/b (out)": UNLIMITED, "sites/b (in)": 2, "sites/a to sites/b": 0
    }  # fmt: skip


@pytest.mark.row("D3")
async def test_a_user_of_twice_the_weight_gets_twice_as_much(queue: QueueCase) -> None:
    for user in ("users/a", "users/b"):
        await queue.submit(copy_job(user, tasks=[chunk_task() for _ in range(60)]))
    await queue.database.write(limit_setting.set_weight, ACTOR, "users/b", 2.0)
    served = [task.user for task in await queue.lease(60)]
    assert 38 <= served.count("users/b") <= 42


class Reckoning:
    """What counting the rows says of a limit."""

    def __init__(self, connection: Connection, subject: Subject, defaults: Defaults) -> None:
        columns: dict[Kind, Any] = {
            Kind.USER: sa.select(User.cap, User.inflight).where(User.name == subject.name),
            Kind.SITE_OUT: sa.select(Site.cap_out, Site.inflight_out).where(Site.name == subject.name),
            Kind.SITE_IN: sa.select(Site.cap_in, Site.inflight_in).where(Site.name == subject.name),
            Kind.LINK: sa.select(Link.cap, Link.inflight),
        }
        cap, self.inflight = connection.execute(columns[subject.kind]).one()
        limit = defaults.of(subject.kind) if cap is None else cap
        self.limit = None if limit is None or limit < 0 else limit
        # All work in these tests is the subject's.
        self.running = connection.execute(
            sa.select(sa.func.count())
            .select_from(Task)
            .join(Lane, Lane.id == Task.lane_id)
            .where(Task.state == TaskState.RUNNING, Lane.work_class == WorkClass.BULK)
        ).scalar_one()


@pytest.mark.row("W1")
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_set_and_lifted_while_tasks_come_and_go_every_limit_counts_right(
    queue: QueueCase, seed: int
) -> None:
    chance = random.Random(seed)
    defaults = Defaults(link=chance.choice([None, 5]), user=chance.choice([None, 4]))
    await some_work(queue, 60)
    running: list[LeasedTask] = []
    for _ in range(60):
        before = {s: await queue.database.read(Reckoning, s, defaults) for s in SUBJECTS}
        match chance.choice(["lease", "lease", "settle", "lapse", "set"]):
            case "lease":
                want = chance.randrange(1, 6)
                taken = await queue.database.write(
                    leases.lease, queue.replica_id, WorkClass.BULK, want, defaults
                )  # fmt: skip
                running += taken
                for reckoning in before.values():
                    if taken and reckoning.limit is not None:
                        assert len(running) <= reckoning.limit
            case "settle" if running:
                await settle(queue, running.pop(chance.randrange(len(running))))
            case "lapse" if running:
                task = running.pop(chance.randrange(len(running)))
                await queue.database.write(leases.requeue, queue.replica_id, [(task.task_id, task.fence)])
            case "set":
                subject, cap = chance.choice(SUBJECTS), chance.choice([None, UNLIMITED, 0, 2, 4, 8])
                await set_limit(queue, subject, cap, defaults)
        for subject in SUBJECTS:
            reckoning = await queue.database.read(Reckoning, subject, defaults)
            assert reckoning.running == len(running)
            if reckoning.limit is not None:
                assert reckoning.inflight == reckoning.running, f"{subject} counts what is not there, or misses some"
        await queue.check_counters()
    for task in running:
        await settle(queue, task)
    for subject in SUBJECTS:
        assert (await queue.database.read(Reckoning, subject, defaults)).inflight == 0
