"""What operators see of the queue at a moment; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_queue.jobs import NewTask
from wherry_queue.models import JobProgress
from wherry_queue.overview import ClassFigures, LinkFigures, Overview
from wherry_queue.progress import Folded, Moved
from wherry_queue.states import Hold, Outcome, TaskKind, WorkClass
from wherry_queue.store import control, lanes, limit_setting, moving, replicas
from wherry_queue.store import overview as store
from wherry_queue.store.limits import NO_LIMITS, Defaults, Kind
from wherry_queue.store.workers import WorkerRow, drain_worker, write_workers
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job


async def overview(queue: QueueCase, links: int = 50, defaults: Defaults = NO_LIMITS) -> Overview:
    return await queue.database.read(store.overview, links, defaults)


async def bulk(queue: QueueCase) -> ClassFigures:
    return (await overview(queue)).classes[1]


async def test_an_empty_queue_shows_zeros(queue: QueueCase) -> None:
    assert await overview(queue) == Overview(
        [ClassFigures(WorkClass.INTERACTIVE, 0, 0, 0, 0, 0), ClassFigures(WorkClass.BULK, 0, 0, 0, 0, 0)],
        [], 0, 0, 0, None,
    )  # fmt: skip


async def test_tasks_are_counted_by_class_as_ready_running_and_resting(queue: QueueCase) -> None:
    await queue.submit(copy_job("users/a", tasks=[chunk_task() for _ in range(5)]))
    await queue.submit(copy_job("users/b", tasks=[chunk_task()]))
    listing = copy_job(
        "users/c", operation="list", tasks=[NewTask(TaskKind.LIST, b"/d")], work_class=WorkClass.INTERACTIVE
    )
    await queue.submit(listing)
    assert await bulk(queue) == ClassFigures(WorkClass.BULK, 6, 0, 0, 2, 0)
    first, *_ = await queue.lease(3)
    assert await bulk(queue) == ClassFigures(WorkClass.BULK, 3, 3, 0, 1, 0)
    await queue.settle(first, Outcome.RETURNED, retry_after_s=60.0)
    found = await overview(queue)
    assert found.classes == [
        ClassFigures(WorkClass.INTERACTIVE, 1, 0, 0, 1, 0), ClassFigures(WorkClass.BULK, 3, 2, 1, 1, 0)
    ]  # fmt: skip
    assert found.jobs_open == 2, "listings are no jobs to operators either"


async def test_what_is_held_is_not_ready_and_jobs_are_counted_by_why_they_stand_still(queue: QueueCase) -> None:
    jobs = [await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()])) for _ in range(5)]
    ids = [job_id for job_id, _ in jobs]
    running = await queue.lease_one()
    await queue.database.write(lanes.set_hold, [running.job_id, ids[1]], add=Hold.SOURCE_SIGN_IN)
    await queue.database.write(lanes.set_hold, [ids[2]], add=Hold.PAUSED | Hold.DESTINATION_SIGN_IN)
    await queue.database.write(control.cancel, "users/a", jobs[3][1])
    assert running.job_id == ids[0]
    found = await overview(queue)
    assert (found.jobs_open, found.jobs_waiting_for_sign_in, found.jobs_paused) == (4, 1, 1)
    assert found.classes[1] == ClassFigures(WorkClass.BULK, 2, 1, 0, 1, 0)
    await queue.settle(running, Outcome.RETURNED)
    assert (await overview(queue)).jobs_waiting_for_sign_in == 2


async def test_links_with_most_work_come_first_with_their_limits_and_rates(queue: QueueCase) -> None:
    few, _ = await queue.submit(copy_job(tasks=[chunk_task()]))
    back = {"source_site": "sites/b", "destination_site": "sites/a"}
    many, _ = await queue.submit(copy_job("users/b", tasks=[chunk_task() for _ in range(3)], **back))
    await queue.submit(copy_job(source_site="sites/c", tasks=[chunk_task()]))
    await queue.database.write(lambda c: lanes.set_hold(c, [3], add=Hold.PAUSED))
    limit = limit_setting.Subject(Kind.LINK, "sites/b", "sites/a")
    await queue.database.write(limit_setting.set_limit, "/CN=op", limit, 2, NO_LIMITS)
    await queue.lease(2)
    rates = {many: Folded(Moved(5, 0), 100.5, 1), few: Folded(Moved(5, 0), 7.0, 1)}
    await queue.database.write(moving.write_progress, queue.replica_id, rates)
    await queue.database.write(moving.write_progress, queue.replica_id + 1, {many: Folded(Moved(5, 0), 20.0, 1)})
    first, second = (await overview(queue)).links
    assert first == LinkFigures("sites/b", "sites/a", 2, 1, 120.5, 2)
    assert second == LinkFigures("sites/a", "sites/b", 0, 1, 7.0, None)
    assert (await overview(queue, 1)).links == [first]
    assert (await overview(queue, defaults=Defaults(link=9))).links[1].limit == 9
    await queue.database.write(lambda c: c.execute(sa.update(JobProgress).values(measured_ms=1)))
    assert [link.bytes_per_second for link in (await overview(queue)).links] == [0.0, 0.0]


async def test_the_oldest_that_waits_is_the_first_made_of_which_nothing_has_run(queue: QueueCase) -> None:
    _, held_uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    started, _ = await queue.submit(copy_job(tasks=[chunk_task(), chunk_task()]))
    waiting, _ = await queue.submit(copy_job(tasks=[chunk_task()], priority=0))
    await queue.submit(copy_job(tasks=[chunk_task()], priority=0))
    await queue.database.write(control.pause, "users/a", held_uid)
    assert (await queue.lease_one()).job_id == started
    assert (await overview(queue)).oldest_waiting_ms == (await queue.job(waiting)).created_ms


async def test_places_are_those_of_workers_that_take_something_at_replicas_that_live(queue: QueueCase) -> None:
    rows = [WorkerRow(name, "1", 0, 0, 2, 8, 0) for name in ("w1", "w2", "w3")]
    await queue.database.write(write_workers, queue.replica_id, rows)
    await queue.database.write(drain_worker, "/CN=op", "w3")
    await queue.database.write(write_workers, queue.replica_id + 1, [WorkerRow("w4", "1", 0, 0, 9, 9, 0)])
    assert [figures.places for figures in (await overview(queue)).classes] == [4, 16]
    await queue.database.write(replicas.retire_replica, queue.replica_id)
    await queue.database.write(lambda c: c.execute(sa.text("update replica set until_ms = until_ms - 1")))
    assert [figures.places for figures in (await overview(queue)).classes] == [0, 0]


async def test_no_table_of_tasks_is_read_from_end_to_end(queue: QueueCase) -> None:
    """However many there are: only those that rest are looked at, by their index."""
    await queue.submit(copy_job(tasks=[chunk_task() for _ in range(2000)]))

    def plans(connection: Connection) -> list[str]:
        said: list[str] = []
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            connection.execute(sa.text("analyze"))
        explain = "explain " if postgresql else "explain query plan "

        @sa.event.listens_for(connection, "before_cursor_execute", retval=True)
        def explained(_c: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
            if " task" in statement or "lane" in statement:
                cursor.execute(explain + statement, parameters)
                said.append("\n".join(str(row) for row in cursor.fetchall()))
            return statement, parameters

        store.overview(connection, 50, NO_LIMITS)
        return said

    found = await queue.database.write(plans)
    assert len(found) >= 2
    for plan in found:
        assert "task_delayed" in plan or "task" not in plan, plan


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_has_ended_is_no_part_of_it(queue: QueueCase, cancelled: bool) -> None:
    _, uid = await queue.submit(copy_job(tasks=[chunk_task()]))
    if cancelled:
        await queue.database.write(control.cancel, "users/a", uid)
    else:
        await queue.settle(await queue.lease_one(), done=b"\x03", files_done=2, bytes_done=20)
    found = await overview(queue)
    assert (found.jobs_open, found.links, found.oldest_waiting_ms) == (0, [], None)
