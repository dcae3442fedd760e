"""Replicas and workers as they are written down, and the word to send them away; on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from wherry_chassis.sql import database_now_ms
from wherry_queue.draining import DrainOrders, ReplicaNotFound, WorkerNotFound
from wherry_queue.models import Replica, Worker
from wherry_queue.store import replicas, workers
from wherry_queue.store.workers import WorkerRow
from wherry_testing.queue_cases import QueueCase, chunk_task, copy_job

ACTOR = "/O=Test/CN=operator"
W1 = WorkerRow("w1", "1.0", open_ms=60_000, silent_ms=2_000, interactive_places=1, bulk_places=4, held=3)
W2 = replace(W1, name="w2")


async def write(queue: QueueCase, *rows: WorkerRow, replica_id: int | None = None) -> None:
    await queue.database.write(workers.write_workers, replica_id or queue.replica_id, rows)


async def listed(queue: QueueCase) -> list[Any]:
    return list(await queue.database.read(workers.list_workers))


async def orders(queue: QueueCase, replica_id: int | None = None) -> DrainOrders:
    return await queue.database.read(workers.drain_orders, replica_id or queue.replica_id)


async def drain(queue: QueueCase, name: str) -> None:
    await queue.database.write(workers.drain_worker, ACTOR, name)


async def another_replica(queue: QueueCase) -> int:
    return await queue.database.write(replicas.renew_replica, None, 60_000)


async def let_die(queue: QueueCase, replica_id: int) -> None:
    await queue.database.write(
        lambda c: c.execute(sa.update(Replica).where(Replica.id == replica_id).values(until_ms=1))
    )


async def test_workers_are_written_anew_changed_and_forgotten_in_one_go(queue: QueueCase) -> None:
    await write(queue, W2, W1)
    first, second = await listed(queue)
    assert (first.name, second.name) == ("w1", "w2")
    assert (first.version, first.interactive_places, first.bulk_places, first.held) == ("1.0", 1, 4, 3)
    now_ms = await queue.database.read(database_now_ms)
    assert 0 <= now_ms - first.connected_ms - 60_000 < 30_000
    assert 0 <= now_ms - first.heard_ms - 2_000 < 30_000
    await write(queue, replace(W1, held=0, bulk_places=5))
    (left,) = await listed(queue)
    assert (left.id, left.held, left.bulk_places) == (first.id, 0, 5)
    await write(queue)
    assert await listed(queue) == []


async def test_each_replica_writes_its_own_workers_only(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await write(queue, W1)
    await write(queue, W2, replica_id=other)
    await write(queue, W1)
    assert [(row.name, row.replica_id) for row in await listed(queue)] == [("w1", queue.replica_id), ("w2", other)]
    await let_die(queue, other)
    assert [row.name for row in await listed(queue)] == ["w1"]


async def test_a_worker_with_two_streams_at_once_is_one_row(queue: QueueCase) -> None:
    await write(queue, W1, replace(W1, held=9))
    await write(queue, W1, replace(W1, held=8))
    assert [row.held for row in await listed(queue)] == [8]


async def test_replicas_that_live_are_listed_with_their_leases_and_workers(queue: QueueCase) -> None:
    other = await another_replica(queue)
    dead = await another_replica(queue)
    await let_die(queue, dead)
    await queue.submit(copy_job(tasks=[chunk_task(), chunk_task(), chunk_task()]))
    await queue.lease(2)
    await write(queue, W1, W2)
    first, second = await queue.database.read(workers.list_replicas)
    assert (first.row.id, first.tasks_running, first.workers) == (queue.replica_id, 2, 2)
    assert (second.row.id, second.tasks_running, second.workers) == (other, 0, 0)
    assert not first.row.draining


@pytest.mark.row("W1")
async def test_the_replica_at_which_a_worker_is_reads_that_it_shall_drain(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await write(queue, W1)
    await write(queue, W2, replica_id=other)
    assert await orders(queue) == DrainOrders(replica=False, workers=[])
    await drain(queue, "w2")
    assert await orders(queue) == DrainOrders(replica=False, workers=[])
    assert await orders(queue, other) == DrainOrders(replica=False, workers=["w2"])
    await write(queue, W2, replica_id=other)
    assert await orders(queue, other) == DrainOrders(replica=False, workers=["w2"]), "it was forgotten meanwhile"
    assert [row.draining for row in await listed(queue)] == [False, True]


@pytest.mark.row("W1")
async def test_a_worker_that_came_elsewhere_before_it_was_told_is_told_there(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await write(queue, W1)
    await drain(queue, "w1")
    await write(queue)
    assert await listed(queue) == [], "its stream has ended"
    await write(queue, W1, replica_id=other)
    assert (await orders(queue, other)).workers == ["w1"]
    assert len(await listed(queue)) == 1


async def test_a_worker_that_comes_elsewhere_because_its_replica_died_is_told_there(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await write(queue, W1)
    await drain(queue, "w1")
    await let_die(queue, queue.replica_id)
    await write(queue, W1, replica_id=other)
    assert (await orders(queue, other)).workers == ["w1"]


@pytest.mark.row("W1")
async def test_a_worker_whose_replica_died_is_told_wherever_it_comes_after_that_was_forgotten(queue: QueueCase) -> None:
    dead, other = await another_replica(queue), await another_replica(queue)
    await write(queue, W1, W2, replica_id=dead)
    for name in ("w1", "w2"):
        await drain(queue, name)
    await let_die(queue, dead)
    await write(queue, W2)
    await queue.database.write(replicas.forget_replica, dead)
    assert [row.name for row in await listed(queue)] == ["w2"]
    await write(queue, W1, replica_id=other)
    assert (await orders(queue, other)).workers == ["w1"]
    await write(queue, replace(W2, interactive_places=0, bulk_places=0, held=0))
    await write(queue)
    await write(queue, W2)
    assert (await orders(queue)).workers == [], "an order that was carried out stands twice"


async def test_another_worker_of_the_same_name_later_is_not_drained(queue: QueueCase) -> None:
    """One that has drained has no places, and is forgotten when it goes."""
    await write(queue, W1)
    await drain(queue, "w1")
    await write(queue, replace(W1, interactive_places=0, bulk_places=0, held=0))
    await write(queue)
    await write(queue, W1)
    assert (await orders(queue)).workers == []


async def test_who_never_came_back_is_forgotten_in_time(queue: QueueCase) -> None:
    await write(queue, W1)
    await drain(queue, "w1")
    await write(queue)
    await queue.database.write(lambda c: c.execute(sa.update(Worker).values(heard_ms=Worker.heard_ms - 61_000)))
    await write(queue)
    rows = await queue.database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(Worker)).scalar_one())
    assert rows == 0


async def test_a_replica_that_shall_drain_reads_so(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await queue.database.write(workers.drain_replica, ACTOR, other)
    assert (await orders(queue, other)).replica
    assert not (await orders(queue)).replica
    await queue.database.write(replicas.renew_replica, other, 60_000)
    assert (await orders(queue, other)).replica


async def test_who_is_not_there_cannot_be_drained(queue: QueueCase) -> None:
    other = await another_replica(queue)
    await write(queue, W1, replica_id=other)
    await let_die(queue, other)
    for name in ("w1", "w2"):
        with pytest.raises(WorkerNotFound, match=name):
            await drain(queue, name)
    for replica_id in (other, 999):
        with pytest.raises(ReplicaNotFound, match=str(replica_id)):
            await queue.database.write(workers.drain_replica, ACTOR, replica_id)


async def test_a_name_is_taken_by_who_has_a_stream_elsewhere_with_another_certificate(queue: QueueCase) -> None:
    elsewhere = await another_replica(queue)
    await write(queue, replace(W1, subject="/CN=one", thumbprint="1"), replica_id=elsewhere)
    (row,) = await listed(queue)
    assert (row.subject, row.thumbprint) == ("/CN=one", "1")

    async def taken(name: str, thumbprint: str, at: int = queue.replica_id) -> bool:
        return await queue.database.read(workers.others_name, at, name, thumbprint)

    assert await taken("w1", "2")
    assert not await taken("w1", "1"), "it opens another stream"
    assert not await taken("w2", "2")
    assert not await taken("w1", "2", elsewhere), "a replica knows better who is there"
    await write(queue, replica_id=elsewhere)
    assert not await taken("w1", "2"), "it has gone"
    await write(queue, replace(W1, subject="/CN=one", thumbprint="1"), replica_id=elsewhere)
    await let_die(queue, elsewhere)
    assert not await taken("w1", "2"), "its replica has died"
