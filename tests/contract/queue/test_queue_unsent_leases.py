"""Leases that were meant for a worker whose stream ended before they were sent; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from wherry_queue.bulletin import Bulletin
from wherry_queue.dispatching import Dispatcher, LeaseTerms
from wherry_queue.models import Task
from wherry_queue.own_replica import OwnReplica
from wherry_queue.progress import ProgressBoard
from wherry_queue.states import WorkClass
from wherry_queue.workers import WorkerStream
from wherry_testing.queue_cases import QueueCase, copy_job
from wherry_testing.waiting import until

TTL_S = 120.0
"""Longer than any test: nothing is found by waiting for a lapse."""


@pytest.fixture
async def dispatcher(queue: QueueCase) -> AsyncIterator[Dispatcher]:
    terms = LeaseTerms(TTL_S, TTL_S / 4)
    replica = OwnReplica(queue.database, TTL_S)
    dispatcher = Dispatcher(queue.database, replica, Bulletin(queue.database), ProgressBoard(), terms)
    running = asyncio.create_task(dispatcher.run())
    yield dispatcher
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def a_stream(name: str) -> WorkerStream:
    stream = WorkerStream(name, "thumbprint")
    stream.places[WorkClass.BULK] = 1
    return stream


@pytest.mark.row("W1")
async def test_a_lease_that_was_never_sent_goes_to_another_worker_at_once_and_is_no_lapse(
    queue: QueueCase, dispatcher: Dispatcher
) -> None:
    ending, other = a_stream("ending"), a_stream("other")
    await dispatcher.open(ending, [])
    await queue.submit(copy_job())
    dispatcher.ready()
    await until(lambda: ending.held)
    dispatcher.close(ending)
    await dispatcher.open(other, [])
    await until(lambda: other.held)
    (held,) = other.held.values()
    assert held.task.fence == 2
    assert await queue.database.read(lambda c: c.execute(sa.select(Task.lapses)).scalars().all()) == [0]
    await queue.check_counters()


@pytest.mark.row("D2")
async def test_a_lease_that_was_sent_waits_for_its_worker_to_come_back(
    queue: QueueCase, dispatcher: Dispatcher
) -> None:
    ending, same = a_stream("w"), a_stream("w")
    await dispatcher.open(ending, [])
    await queue.submit(copy_job())
    dispatcher.ready()
    outgoing = await ending.next(10)
    (given,) = outgoing.given
    dispatcher.close(ending)
    assert await dispatcher.open(same, [(given.task.task_id, given.task.fence)]) == []
    assert [held.ref for held in same.held.values()] == [(given.task.task_id, given.task.fence)]
