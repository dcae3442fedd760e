"""Watching all of one's jobs over mutual TLS: what it begins with, what it tells, when it speaks, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from wherry.queue.v1 import file_service_pb2, job_service_pb2_grpc, lease_service_pb2
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis import migrations
from wherry_testing.pki import TestPki
from wherry_testing.queue_service import (
    DEADLINE_S,
    QueueServiceUnderTest,
    copy_request,
    next_of,
    packed,
    read_to_end,
    running_queue_service,
)
from wherry_testing.refusals import reason_of, refused

pytestmark = pytest.mark.timeout(180)

QUIET_S = 0.3
Jobs: TypeAlias = "job_service_pb2_grpc.JobServiceAsyncStub"


def names(message: pb.WatchJobsResponse) -> list[str]:
    return [job.name for job in message.jobs]


async def created(queue: QueueServiceUnderTest, jobs: Jobs, user: str = "a") -> pb.Job:
    return await jobs.CreateJob(copy_request(), metadata=queue.as_user(user))


def watched(queue: QueueServiceUnderTest, jobs: Jobs, user: str = "a", page_size: int = 0) -> Any:
    return jobs.WatchJobs(pb.WatchJobsRequest(page_size=page_size), metadata=queue.as_user(user))


class Watched:
    """A watch, and what it has told last of each job."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last: dict[str, pb.Job] = {}

    async def next(self) -> Any:
        message: Any = await next_of(self.stream)
        jobs = message.jobs if isinstance(message, pb.WatchJobsResponse) else [message.job]
        self.last |= {job.name: job for job in jobs}
        return message

    async def until(self, condition: Callable[[pb.Job], object]) -> pb.Job:
        """Reads until the condition holds for a job, as it was told last."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := [job for job in self.last.values() if condition(job)]):
                await self.next()
        return found[0]


@pytest.fixture
async def quiet(pki: TestPki, tmp_path: Path) -> AsyncIterator[QueueServiceUnderTest]:
    """A service whose watches give signs of life often."""
    url = f"sqlite:///{tmp_path}/queue.db"
    migrations.upgrade(url, "wherry_queue")
    async with running_queue_service(pki, url, tmp_path, watch_heartbeat_s=QUIET_S) as service:
        yield service


@pytest.mark.row("J5")
@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
async def test_a_watch_of_all_jobs_begins_with_the_newest_and_with_all_that_have_not_ended(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.jobs() as jobs:
        still_open = await created(queue, jobs)
        ended = [await created(queue, jobs) for _ in range(2)]
        for job in ended:
            await jobs.CancelJob(pb.CancelJobRequest(name=job.name), metadata=queue.as_user())
        newest = await created(queue, jobs)
        first = await next_of(watched(queue, jobs))
        assert names(first) == [newest.name, ended[1].name, ended[0].name, still_open.name]
        assert [job.state for job in first.jobs] == [
            pb.JOB_STATE_QUEUED,
            pb.JOB_STATE_CANCELLED,
            pb.JOB_STATE_CANCELLED,
            pb.JOB_STATE_QUEUED,
        ]
        assert first.jobs[0].copy == newest.copy
        few = await next_of(watched(queue, jobs, page_size=2))
        assert names(few) == [newest.name, ended[1].name, still_open.name]
        assert not few.last


@pytest.mark.row("J5")
@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
async def test_a_watch_of_all_jobs_tells_of_new_ones_and_of_each_change_until_they_end(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        watch = Watched(watched(queue, jobs))
        assert names(await watch.next()) == [], "an empty message at once where there are no jobs"
        job = await created(queue, jobs)
        told = await watch.until(lambda told: told.name == job.name)
        assert told.copy == job.copy
        walk = await worker.lease()
        await watch.until(lambda told: told.progress.tasks_running == 1)
        await worker.settle(walk)
        ended = await watch.until(lambda told: told.state == pb.JOB_STATE_SUCCEEDED)
        assert ended.name == job.name
        second = await created(queue, jobs)
        assert names(await watch.next()) == [second.name], "what has ended is not told again"


@pytest.mark.row("J5")
async def test_moving_bytes_and_their_rate_are_told_for_each_job(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        watch = Watched(watched(queue, jobs))
        await created(queue, jobs)
        walk = await worker.lease()
        await worker.report(walk, lease_service_pb2.ReportEntriesRequest(cursor=b"z", chunks=[packed("one", "two")]))
        await worker.settle(walk)
        chunk = await worker.lease()
        await worker.progress(chunk, 5)
        await watch.until(lambda told: told.progress.bytes_moving == 5)
        await worker.progress(chunk, 15)
        moved = await watch.until(lambda told: told.progress.bytes_moving == 15)
        assert (moved.progress.bytes_total, moved.progress.files_total) == (20, 2)
        assert moved.progress.bytes_per_second > 0
        await worker.settle(chunk, done=b"\x03", files_done=2, bytes_done=20)
        ended = await watch.until(lambda told: told.state == pb.JOB_STATE_SUCCEEDED)
        assert (ended.progress.bytes_done, ended.progress.bytes_moving) == (20, 0)


@pytest.mark.row("J3")
@pytest.mark.row("J5")
async def test_a_watch_of_all_jobs_shows_nobody_elses_and_no_listings(quiet: QueueServiceUnderTest) -> None:
    async with quiet.jobs() as jobs, quiet.files() as files, quiet.worker(interactive=1, bulk=1) as worker:
        await created(quiet, jobs, "b")
        stream = watched(quiet, jobs, "a")
        told = [await next_of(stream)]
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"))
        listing = files.ListDirectory(request, metadata=quiet.as_user("a"))
        others = await created(quiet, jobs, "b")
        for _ in range(2):
            lease = await worker.lease()
            if lease.HasField("walk_copy"):
                await worker.settle(lease)
        await jobs.CancelJob(pb.CancelJobRequest(name=others.name), metadata=quiet.as_user("b"))
        began_s = time.monotonic()
        while time.monotonic() < began_s + 2:  # longer than from one look at all jobs to the next
            told.append(await next_of(stream))
        assert [names(message) for message in told] == [[]] * len(told)
        mine = await created(quiet, jobs, "a")
        assert (await Watched(stream).until(lambda _: True)).name == mine.name
        listing.cancel()


@pytest.mark.row("J5")
async def test_quiet_watches_and_listings_say_that_they_live(quiet: QueueServiceUnderTest) -> None:
    async with quiet.jobs() as jobs, quiet.files() as files, quiet.worker(interactive=1, bulk=0) as worker:
        job = await created(quiet, jobs)
        everything = watched(quiet, jobs)
        one = jobs.WatchJob(pb.WatchJobRequest(name=job.name), metadata=quiet.as_user())
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"))
        listing = files.ListDirectory(request, metadata=quiet.as_user())
        await worker.lease()

        async def three_of(stream: Any) -> Sequence[Any]:
            await until_silent(stream)
            began_s = time.monotonic()
            found = [await next_of(stream) for _ in range(3)]
            assert time.monotonic() - began_s > 2 * QUIET_S * 0.8, "it speaks more often than it has to"
            return found

        of_all, of_one, of_listing = await asyncio.gather(three_of(everything), three_of(one), three_of(listing))
        assert all(not message.jobs and not message.last for message in of_all)
        assert all(message.job.name == job.name and not message.last for message in of_one)
        assert all(not message.entries and not message.last and message.path == "/d" for message in of_listing)
        listing.cancel()


async def until_silent(stream: Any) -> None:
    """Reads what a stream begins with, until two messages lie a heartbeat apart."""
    async with asyncio.timeout(DEADLINE_S):
        last_s = time.monotonic()
        while True:
            await next_of(stream)
            last_s, gap_s = time.monotonic(), time.monotonic() - last_s
            if gap_s > QUIET_S * 0.8:
                return


@pytest.mark.row("J5")
async def test_a_watch_speaks_at_most_four_times_a_second_however_much_happens(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        stream = watched(queue, jobs)
        await next_of(stream)
        made: set[str] = set()
        stopped = asyncio.Event()

        async def make() -> None:
            while not stopped.is_set():
                made.add((await created(queue, jobs)).name)

        making = asyncio.create_task(make())
        began_s = time.monotonic()
        arrivals: list[float] = []
        told: set[str] = set()
        while time.monotonic() < began_s + 2 or len(made) <= 20:  # too little would say nothing
            told.update(names(await next_of(stream)))
            arrivals.append(time.monotonic())
        stopped.set()
        await making
        while told != made:
            told.update(names(await next_of(stream)))
        assert len(arrivals) <= (arrivals[-1] - arrivals[0]) * 4 + 2
        assert len(arrivals) >= 3


@pytest.mark.row("J5")
async def test_a_watch_says_when_workers_have_come_for_what_waits(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        first, second = await created(queue, jobs), await created(queue, jobs)
        watch = Watched(watched(queue, jobs))
        began = await watch.next()
        assert [job.waiting_reason.reason for job in began.jobs] == ["NO_WORKER", "NO_WORKER"]
        async with queue.worker(bulk=1) as worker:
            await worker.lease()
            waiting = await watch.until(lambda told: told.waiting_reason.reason == "IN_LINE")
            assert waiting.name in {first.name, second.name}


@pytest.mark.row("J5")
async def test_what_happens_at_another_replica_is_seen(
    pki: TestPki, fresh_postgres: Callable[[str], str], tmp_path: Path
) -> None:
    url = fresh_postgres("wherry_queue")
    async with (
        running_queue_service(pki, url, tmp_path / "one") as here,
        running_queue_service(pki, url, tmp_path / "two") as there,
        here.jobs() as jobs_here,
        there.jobs() as jobs_there,
    ):
        watch = Watched(watched(here, jobs_here))
        assert names(await watch.next()) == []
        job = await created(there, jobs_there)
        await watch.until(lambda told: told.name == job.name)
        async with there.worker(bulk=1) as worker:
            walk = await worker.lease()
            await watch.until(lambda told: told.progress.tasks_running == 1)
            await worker.settle(walk)
            await watch.until(lambda told: told.state == pb.JOB_STATE_SUCCEEDED)
        short = await created(there, jobs_there)
        await jobs_there.CancelJob(pb.CancelJobRequest(name=short.name), metadata=there.as_user())
        told = await watch.until(lambda told: told.name == short.name and told.HasField("end_time"))
        assert told.state == pb.JOB_STATE_CANCELLED


@pytest.mark.row("J5")
async def test_what_happens_at_another_replica_is_told_within_a_second(
    pki: TestPki, fresh_postgres: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.watch_feed._LOOK_S", 3600.0)  # what is told was heard, not looked for
    url = fresh_postgres("wherry_queue")
    async with (
        running_queue_service(pki, url, tmp_path / "one") as here,
        running_queue_service(pki, url, tmp_path / "two") as there,
        here.jobs() as jobs_here,
        there.jobs() as jobs_there,
        there.worker(bulk=1) as worker,
    ):
        watch = Watched(watched(here, jobs_here))
        assert names(await watch.next()) == []
        job = await created(there, jobs_there)
        async with asyncio.timeout(1):
            await watch.until(lambda told: told.name == job.name)
        one = Watched(jobs_here.WatchJob(pb.WatchJobRequest(name=job.name), metadata=here.as_user()))
        walk = await worker.lease()
        for stream in (watch, one):
            await stream.until(lambda told: told.progress.tasks_running == 1)
        found = lease_service_pb2.ReportEntriesRequest(cursor=b"z", chunks=[packed("one")])
        await worker.report(walk, found)
        async with asyncio.timeout(1):
            for stream in (watch, one):
                await stream.until(lambda told: told.progress.files_total == 1)
        await worker.settle(walk)
        chunk = await worker.lease()
        await worker.settle(chunk, done=b"\x01", files_done=1, bytes_done=10)
        async with asyncio.timeout(1):
            for stream in (watch, one):
                await stream.until(lambda told: told.state == pb.JOB_STATE_SUCCEEDED)


@pytest.mark.row("U3", missing="session length, idle time-out")
async def test_a_revoked_session_ends_its_watch_of_all_jobs(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        stream = jobs.WatchJobs(pb.WatchJobsRequest(), metadata=queue.as_user("a", "session-9"))
        await next_of(stream)
        queue.users.revoke("session-9")
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_to_end(stream), 5)
        assert reason_of(ended.value) == "SESSION_ENDED"


async def test_watches_end_at_once_when_their_replica_does(pki: TestPki, database_url: str, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running_queue_service(pki, database_url, tmp_path) as queue:
            jobs = await stack.enter_async_context(queue.jobs())
            job = await created(queue, jobs)
            streams = [
                watched(queue, jobs),
                jobs.WatchJob(pb.WatchJobRequest(name=job.name), metadata=queue.as_user()),
            ]
            for stream in streams:
                await next_of(stream)
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(read_to_end(stream), 5)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(ended.value) == "REPLICA_ENDING"
        assert took_s < 5, "the replica waited for its watchers to go"


async def test_a_watch_needs_a_user_and_a_size_that_is_one(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        with refused("UNAUTHENTICATED", "TOKEN_MISSING"):
            await jobs.WatchJobs(pb.WatchJobsRequest()).read()
        with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
            await watched(queue, jobs, page_size=-1).read()


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
async def test_a_watch_says_when_all_that_was_there_has_been_sent(
    queue: QueueServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry_queue.servicer.watching._MESSAGE_BYTES", 1)  # a job in each message
    async with queue.channel() as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        nothing: pb.WatchJobsResponse = await next_of(watched(queue, jobs))
        assert (nothing.caught_up, names(nothing)) == (True, [])
        made = [(await created(queue, jobs)).name for _ in range(3)]
        watch = watched(queue, jobs)
        first = [await next_of(watch) for _ in made]
        assert [name for message in first for name in names(message)] == made[::-1]
        assert [message.caught_up for message in first] == [False, False, True]
        later = (await created(queue, jobs)).name
        news: pb.WatchJobsResponse = await next_of(watch)
        assert (news.caught_up, names(news)) == (True, [later])
