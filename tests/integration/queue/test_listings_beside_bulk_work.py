"""Somebody who waits for a listing is served while bulk work fills every other place: counted, not timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from wherry.queue.v1 import file_service_pb2
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_testing.pki import TestPki
from wherry_testing.queue_service import (
    DEADLINE_S,
    QueueServiceUnderTest,
    TestWorker,
    copy_request,
    running_queue_service,
)

WORKERS, INTERACTIVE, BULK = 2, 2, 3
"""Places are those of one worker."""
JOBS, LISTINGS = 30, 40


@dataclass
class Busy:
    """What workers were given.

    Attributes:
        bulk: leases of copies, by worker; none of them ever ends.
        listings: how many listings were leased and settled.
    """

    bulk: dict[str, list[pb.Lease]] = field(default_factory=dict)
    listings: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, worker: TestWorker) -> None:
        """Takes leases for ever: holds copies, and answers listings while more of them may come."""
        listing: set[asyncio.Task[None]] = set()
        while True:
            try:
                lease = await worker.lease()
            except TimeoutError:
                continue
            if lease.work_class == pb.WORK_CLASS_BULK:
                self.bulk.setdefault(worker.name, []).append(lease)
            else:
                answer = asyncio.create_task(self._answer(worker, lease))
                listing.add(answer)
                answer.add_done_callback(listing.discard)
            async with self.changed:
                self.changed.notify_all()

    async def _answer(self, worker: TestWorker, lease: pb.Lease) -> None:
        entry = entry_pb2.Entry(name="file", kind=entry_pb2.ENTRY_KIND_FILE)
        await worker.report(lease, pb.ReportEntriesRequest(cursor=b"file", entries=[entry]))
        self.listings += 1
        assert await worker.settle(lease) == pb.SETTLEMENT_STATUS_ACCEPTED


@pytest.fixture
async def queue(pki: TestPki, database_url: str, tmp_path: Path) -> AsyncIterator[QueueServiceUnderTest]:
    """A service of which nothing is lost by waiting: on a busy machine as well it is the count that tells."""
    async with running_queue_service(pki, database_url, tmp_path, ttl_s=30, listing_wait_s=30) as service:
        yield service


@pytest.fixture
async def busy(queue: QueueServiceUnderTest) -> AsyncIterator[Busy]:
    """Workers whose bulk places are all taken, with more bulk work waiting."""
    async with queue.jobs() as jobs:
        for number in range(JOBS):
            await jobs.CreateJob(copy_request(f"/data/{number}"), metadata=queue.as_user(f"u{number % 5}"))
    async with _serving(queue) as found:
        async with asyncio.timeout(DEADLINE_S), found.changed:
            await found.changed.wait_for(lambda: _held(found) == WORKERS * BULK)
        yield found


@asynccontextmanager
async def _serving(queue: QueueServiceUnderTest) -> AsyncIterator[Busy]:
    found = Busy()
    async with (
        queue.worker("w1", bulk=BULK, interactive=INTERACTIVE) as one,
        queue.worker("w2", bulk=BULK, interactive=INTERACTIVE) as other,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(found.serve(worker)) for worker in (one, other)]
        yield found
        for task in tasks:
            task.cancel()


def _held(busy: Busy) -> int:
    return sum(map(len, busy.bulk.values()))


@pytest.mark.row("D3")
@pytest.mark.row("B11", missing="simulation at a million users")
async def test_every_listing_is_served_while_bulk_work_fills_all_other_places(
    queue: QueueServiceUnderTest, busy: Busy
) -> None:
    before = {name: len(leases) for name, leases in busy.bulk.items()}
    async with queue.files() as files:

        async def look(number: int) -> list[str]:
            location = entry_pb2.Location(site="sites/a", path=f"/d{number}")
            request = file_service_pb2.ListDirectoryRequest(location=location)
            names: list[str] = []
            async for message in files.ListDirectory(request, metadata=queue.as_user(f"u{number % 7}")):
                names += [entry.name for entry in message.entries]
                last = message
            assert last.last
            assert not last.HasField("failure")
            return names

        served = await asyncio.gather(*(look(number) for number in range(LISTINGS)))
    assert served == [["file"]] * LISTINGS
    assert busy.listings == LISTINGS
    # Not one bulk task has ended meanwhile, none more has begun, and no listing took a bulk place.
    assert {name: len(leases) for name, leases in busy.bulk.items()} == before == {"w1": BULK, "w2": BULK}


@pytest.mark.row("D3")
async def test_bulk_work_goes_on_when_listings_are_served(queue: QueueServiceUnderTest, busy: Busy) -> None:
    lease, held = busy.bulk["w1"][0], _held(busy)
    async with queue.channel("worker") as channel:
        assert await TestWorker(channel, "w1").settle(lease) == pb.SETTLEMENT_STATUS_ACCEPTED
    async with asyncio.timeout(DEADLINE_S), busy.changed:
        await busy.changed.wait_for(lambda: _held(busy) == held + 1)
