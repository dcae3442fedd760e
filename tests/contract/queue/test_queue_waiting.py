"""Why jobs wait, gathered for many of them together; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from wherry_queue.models import Ban, Link, Site, User, Worker
from wherry_queue.settling import Failure
from wherry_queue.states import Hold, Outcome
from wherry_queue.store import control, lanes, reading, replicas, sign_ins
from wherry_queue.store.limits import Defaults
from wherry_queue.store.waiting import Circumstances
from wherry_queue.waiting import Reason
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

WORKING = Circumstances(has_workers=True)


async def reason(queue: QueueCase, uid: str, here: Circumstances = WORKING, user: str = "users/a") -> Reason | None:
    """Why a job waits."""
    return (await queue.database.read(reading.view_job, user, uid, here)).waiting


async def waits(queue: QueueCase, uid: str, here: Circumstances = WORKING, user: str = "users/a") -> Reason:
    """The same of a job that does."""
    found = await reason(queue, uid, here, user)
    assert found is not None
    return found


async def put(queue: QueueCase, table: Any, **values: Any) -> None:
    """Changes all rows of a table."""
    await queue.database.write(lambda c: c.execute(sa.update(table).values(**values)))


@pytest.mark.row("B6")
async def test_a_job_in_line_knows_its_place_and_its_share(queue: QueueCase) -> None:
    uids = [(await queue.submit(copy_job(priority=priority)))[1] for priority in (5, 9, 5)]
    await queue.submit(copy_job("users/b"))
    _, ended = await queue.submit(copy_job("users/c"))
    await queue.database.write(control.cancel, "users/c", ended)
    await queue.database.write(lambda c: c.execute(sa.update(User).where(User.name == "users/b").values(weight=3.0)))
    found = [await waits(queue, uid) for uid in uids]
    assert [one.reason for one in found] == ["IN_LINE"] * 3
    assert [one.position for one in found] == [2, 1, 3]
    assert {(one.active_users, one.share) for one in found} == {(2, 0.25)}
    listed = (await queue.database.read(reading.list_jobs, "users/b", None, 1, here=WORKING)).views
    assert [(view.waiting.position, view.waiting.share) for view in listed if view.waiting] == [(1, 0.75)]


@pytest.mark.row("B6")
async def test_a_job_that_runs_and_one_that_has_ended_wait_for_nothing(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    task = await queue.lease_one()
    assert await reason(queue, uid) is None
    await queue.settle(task, done=b"\x03", files_done=2, bytes_done=20)
    assert await reason(queue, uid) is None


@pytest.mark.row("B6")
async def test_without_any_worker_that_is_the_reason_wherever_one_would_be(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job())
    alone = Circumstances()
    assert (await waits(queue, uid, alone)).reason == "NO_WORKER"
    other = await queue.database.write(replicas.renew_replica, None, 60_000)
    values = {"name": "w1", "replica_id": other, "connected_ms": 0, "heard_ms": 0, "bulk_places": 3}
    await queue.database.write(lambda c: c.execute(sa.insert(Worker).values(**values)))
    assert (await waits(queue, uid, alone)).reason == "IN_LINE"
    await put(queue, Worker, draining=True)
    assert (await waits(queue, uid, alone)).reason == "NO_WORKER"
    await put(queue, Worker, draining=False, bulk_places=0)
    assert (await waits(queue, uid, alone)).reason == "NO_WORKER"
    await put(queue, Worker, bulk_places=3)
    await queue.database.write(replicas.retire_replica, other)
    assert (await waits(queue, uid, alone)).reason == "NO_WORKER", "its replica is dead"


@pytest.mark.row("B6")
@pytest.mark.parametrize(
    ("table", "values", "expected"),
    [
        (Link, {"cap": 2}, ("LINK_LIMIT", "sites/a sites/b", "")),
        (Site, {"cap_out": 2}, ("SITE_LIMIT", "sites/a out", "sites/a")),
        (Site, {"cap_in": 2}, ("SITE_LIMIT", "sites/b in", "sites/b")),
        (User, {"cap": 2}, ("USER_LIMIT", "users/me", "")),
    ],
)
async def test_a_full_limit_is_named_with_whose_it_is(
    queue: QueueCase, table: Any, values: dict[str, int], expected: tuple[str, str, str]
) -> None:
    await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    await put(queue, table, **dict.fromkeys(values, 3))
    assert len(await queue.lease(3)) == 2
    _, uid = await queue.submit(copy_job())
    assert (await waits(queue, uid)).reason == "IN_LINE", "there is room for one"
    await put(queue, table, **values)
    found = await waits(queue, uid)
    assert (found.reason, found.limit_subject, found.site) == expected
    assert (found.limit, found.in_use, found.position, found.active_users, found.share) == (2, 2, 1, 1, 1.0)


@pytest.mark.row("B6")
async def test_the_deployments_limit_holds_where_no_operator_has_set_one(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job())
    closed = Circumstances(Defaults(link=0), has_workers=True)
    assert (await waits(queue, uid, closed)).reason == "LINK_LIMIT"
    await put(queue, Link, cap=-1)
    assert (await waits(queue, uid, closed)).reason == "IN_LINE"


@pytest.mark.row("B6")
async def test_a_job_whose_tasks_all_rest_says_until_when(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    first, second = await queue.lease(2)
    busy = Failure("BUSY", "later")
    await queue.settle(first, Outcome.RETURNED, failure=busy, retry_after_s=500)
    assert await reason(queue, uid) is None, "one is running"
    await queue.settle(second, Outcome.RETURNED, failure=busy, retry_after_s=100)
    found = await waits(queue, uid)
    view = await queue.view("users/a", uid)
    assert found.reason == "BACK_OFF"
    assert found.retry_ms is not None
    assert 0 < found.retry_ms - view.now_ms <= 101_000


@pytest.mark.row("B6")
async def test_what_its_owner_or_an_operator_holds_says_who_can_let_it_go(queue: QueueCase) -> None:
    job_id, uid = await queue.submit(copy_job())

    async def held(hold: Hold) -> Reason:
        await queue.database.write(lambda c: lanes.set_hold(c, [job_id], add=hold))
        found = await waits(queue, uid)
        await queue.database.write(lambda c: lanes.set_hold(c, [job_id], remove=hold))
        return found

    assert (await held(Hold.PAUSED)).reason == "PAUSED"
    found = await held(Hold.SOURCE_SIGN_IN)
    assert (found.reason, found.site) == ("SIGN_IN_REQUIRED", "sites/a")
    found = await held(Hold.DESTINATION_SIGN_IN)
    assert (found.reason, found.site) == ("SIGN_IN_REQUIRED", "sites/b")
    bans = [
        {"subject": subject, "reason": f"because of {subject}", "created_ms": 0} for subject in ("users/a", "sites/b")
    ]
    await queue.database.write(lambda c: c.execute(sa.insert(Ban), bans))
    found = await held(Hold.USER_BANNED)
    assert (found.reason, found.site) == ("SUSPENDED", "")
    assert "because of users/a" in found.message
    found = await held(Hold.DESTINATION_BANNED)
    assert (found.reason, found.site) == ("SUSPENDED", "sites/b")
    assert "because of sites/b" in found.message


@pytest.mark.row("B6")
async def test_a_session_that_is_too_short_is_named(queue: QueueCase) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task(entries=1, size_bytes=1 << 40)]))
    now_ms = (await queue.view("users/a", uid)).now_ms
    sessions = {"sites/a": now_ms + 7_200_000, "sites/b": now_ms + 30_000}
    await queue.database.write(sign_ins.learn, "users/a", sessions)
    assert await queue.lease(1) == []
    found = await waits(queue, uid)
    assert (found.reason, found.site) == ("SESSION_TOO_SHORT", "sites/b")


@pytest.mark.row("B6")
async def test_a_list_of_many_jobs_takes_no_more_statements_than_one_of_a_few(queue: QueueCase) -> None:
    async def statements() -> int:
        seen: list[str] = []

        def count(*args: Any) -> None:
            seen.append(args[2])

        event.listen(queue.database.engine, "before_cursor_execute", count)
        try:
            await queue.database.read(reading.list_jobs, "users/a", None, 100, here=WORKING)
        finally:
            event.remove(queue.database.engine, "before_cursor_execute", count)
        return len(seen)

    await queue.submit(copy_job())
    few = await statements()
    for number in range(20):
        _, uid = await queue.submit(copy_job(destination_site=f"sites/d{number}"))
        if number % 3 == 0:
            await queue.database.write(control.pause, "users/a", uid)
    assert await statements() == few
    assert few < 15
