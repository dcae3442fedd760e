"""A worker's places are filled though the first lanes share a limit; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from wherry_queue import dispatching
from wherry_queue.bulletin import Bulletin
from wherry_queue.dispatching import Dispatcher, LeaseTerms
from wherry_queue.own_replica import OwnReplica
from wherry_queue.progress import ProgressBoard
from wherry_queue.states import WorkClass
from wherry_queue.store.limits import Defaults
from wherry_queue.workers import WorkerStream
from wherry_testing.queue_cases import QueueCase, copy_job
from wherry_testing.waiting import until

_NEVER_S = 3600.0
"""Nothing is found by looking again later."""


@pytest.mark.row("W1")
async def test_lanes_that_share_one_place_leave_no_other_place_empty(
    queue: QueueCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "_POLL_S", _NEVER_S)
    for _ in range(5):
        await queue.submit(copy_job())
    for _ in range(2):
        await queue.submit(copy_job(destination_site="sites/c"))
    one_for_each_link = LeaseTerms(_NEVER_S, _NEVER_S, Defaults(link=1))
    replica = OwnReplica(queue.database, _NEVER_S)
    dispatcher = Dispatcher(queue.database, replica, Bulletin(queue.database), ProgressBoard(), one_for_each_link)
    worker = WorkerStream("w", "thumbprint")
    worker.places[WorkClass.BULK] = 3
    await dispatcher.open(worker, [])
    running = asyncio.create_task(dispatcher.run())
    try:
        await until(lambda: len(worker.held) == 2)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert Counter(held.task.destination_site for held in worker.held.values()) == {"sites/b": 1, "sites/c": 1}
    await queue.check_counters()
