"""Batches on their way to the queue: in their order, one report at a time, while more are gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from wherry_worker.ports import LeaseLost
from wherry_worker.sending import BatchSender
from wherry_worker.work import Found, LeaseRef

REF = LeaseRef("jobs/1/tasks/2", 1)


class Slow:
    """A queue that takes a report when it is let; keeps what it took, and how many reports it never ended."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.taken: list[str] = []
        self.begun = self.cancelled = 0
        self.fails = False

    async def report(self, _ref: LeaseRef, batches: Sequence[Found]) -> None:
        self.begun += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            raise LeaseLost
        self.taken += [batch.cursor for batch in batches]


def batch(number: int) -> Found:
    return Found(str(number - 1), str(number))


async def add(sender: BatchSender, numbers: range) -> None:
    for number in numbers:
        await sender.add(batch(number))


async def test_the_first_is_sent_at_once() -> None:
    queue = Slow()
    queue.let.set()
    async with asyncio.timeout(10), BatchSender(queue, REF) as sender:
        await sender.add(batch(1))
        await asyncio.sleep(0)
        assert queue.taken == ["1"]


async def test_more_is_gathered_while_a_report_is_on_its_way_and_nothing_overtakes_it() -> None:
    queue = Slow()
    async with asyncio.timeout(10), BatchSender(queue, REF) as sender:
        await add(sender, range(1, 5))
        await asyncio.sleep(0)  # the report's turn
        assert (queue.begun, queue.taken) == (1, [])
        further = asyncio.create_task(add(sender, range(5, 11)))
        await asyncio.sleep(0)
        assert (queue.begun, further.done()) == (1, False)
        queue.let.set()
        await further
        await sender.flush()
    assert queue.taken == [str(number) for number in range(1, 11)]
    assert queue.begun < 10


async def test_what_became_of_a_report_is_told_with_the_next_one() -> None:
    queue = Slow()
    queue.fails = True
    queue.let.set()
    async with asyncio.timeout(10), BatchSender(queue, REF) as sender:
        await add(sender, range(1, 5))
        with pytest.raises(LeaseLost):
            await sender.flush()
    assert queue.taken == []


@pytest.mark.row("W2")
async def test_what_is_on_its_way_ends_with_the_walk() -> None:
    queue = Slow()
    async with asyncio.timeout(10), BatchSender(queue, REF) as sender:
        await add(sender, range(1, 5))
        await asyncio.sleep(0)
    assert (queue.begun, queue.cancelled) == (1, 1)


async def test_who_is_stopped_while_waiting_stops_the_report() -> None:
    queue = Slow()
    async with asyncio.timeout(10), BatchSender(queue, REF) as sender:
        await add(sender, range(1, 5))
        flushing = asyncio.create_task(sender.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
    assert queue.cancelled == queue.begun == 1
