"""A worker that is told to end while work is on its way to it, against a queue in memory."""

from __future__ import annotations

import asyncio
import time

import pytest
from wherry_fakes.worker_ports import FakeQueue, HeldRunner
from wherry_testing.waiting import until
from wherry_worker.leasing import Leasing
from wherry_worker.ports import StreamEvent
from wherry_worker.work import Lease, LeaseRef, ListOne, Outcome, WorkClass

GRACE_S = 10.0
UNDER_WAY = LeaseRef("jobs/1/tasks/7", 1)


@pytest.mark.row("W1")
async def test_a_lease_that_was_under_way_to_an_idle_worker_when_it_was_told_to_end_is_given_back_unstarted() -> None:
    queue, runner = FakeQueue(), HeldRunner()
    leasing = Leasing(queue, runner, interactive=1, bulk=1)
    serving = asyncio.create_task(leasing.serve(GRACE_S))
    await until(lambda: queue.streams and queue.streams[0].said)
    (stream,) = queue.streams
    began_s = time.monotonic()
    leasing.drain()
    await until(lambda: any(what == "drain" for what, _ in stream.said))
    lease = Lease(
        ref=UNDER_WAY,
        deadline=time.monotonic() + 30,
        token="token",
        work_class=WorkClass.INTERACTIVE,
        user="users/1",
        source_site="sites/a",
        destination_site="sites/a",
        attempt=1,
        work=ListOne("/"),
    )
    stream.send(StreamEvent(leases=[lease]))
    await asyncio.wait_for(serving, GRACE_S)
    assert [(item.ref, item.outcome) for item in queue.settled] == [(UNDER_WAY, Outcome.RETURNED)]
    assert runner.attempts == {}
    assert time.monotonic() - began_s < GRACE_S / 2
