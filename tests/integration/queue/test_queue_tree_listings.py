"""Listings to a depth, and jobs that say how often their tasks are tried, over the wire; the test is the worker."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from wherry.queue.v1 import file_service_pb2, job_service_pb2
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_testing.queue_service import QueueServiceUnderTest, copy_request, next_of

pytestmark = [pytest.mark.timeout(180), pytest.mark.row("J1")]

FOLDER = entry_pb2.Entry(name="a", kind=entry_pb2.ENTRY_KIND_DIRECTORY)
BELOW = entry_pb2.Entry(name="a/b\ufffd", raw_name=b"a/b\xff", kind=entry_pb2.ENTRY_KIND_FILE)
CLOSED = entry_pb2.Entry(
    name="a", kind=entry_pb2.ENTRY_KIND_DIRECTORY, failure=entry_pb2.Failure(reason="SOURCE_PERMISSION_DENIED")
)


def asked(depth: int) -> file_service_pb2.ListDirectoryRequest:
    return file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"), depth=depth)


def found(cursor: bytes, **values: Any) -> pb.ReportEntriesRequest:
    return pb.ReportEntriesRequest(cursor=cursor, **values)


async def all_of(stream: Any) -> list[file_service_pb2.ListDirectoryResponse]:
    """What a listing tells, to its last message."""
    messages = [await next_of(stream)]
    while not messages[-1].last:
        messages.append(await next_of(stream))
    assert await stream.read() is grpc.aio.EOF
    return messages


async def test_the_depth_goes_to_the_worker_and_paths_come_to_the_caller(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        stream = files.ListDirectory(asked(3), metadata=queue.as_user())
        lease = await worker.lease()
        assert (lease.list.path, lease.list.depth) == (b"/d", 3)
        await worker.report(lease, found(b"0000000001", entries=[FOLDER], listed_depth=3))
        more = found(b"0000000003", after=b"0000000001", entries=[BELOW, CLOSED], listed_depth=3)
        await worker.report(lease, more)
        await worker.report(lease, more)  # sent again
        await worker.settle(lease)
        messages = await all_of(stream)
    assert [entry for message in messages for entry in message.entries] == [FOLDER, BELOW, CLOSED]
    assert {message.depth for message in messages if message.kind} == {3}
    assert messages[-1].last
    assert not messages[-1].HasField("failure")


async def test_what_came_before_a_failure_stays_told(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        stream = files.ListDirectory(asked(2), metadata=queue.as_user())
        lease = await worker.lease()
        await worker.report(lease, found(b"0000000001", entries=[FOLDER], listed_depth=2))
        failure = entry_pb2.Failure(reason="LISTING_TOO_LONG", message="too many")
        await worker.settle(lease, pb.OUTCOME_FAILED, failure=failure)
        messages = await all_of(stream)
    assert [entry for message in messages for entry in message.entries] == [FOLDER]
    assert (messages[-1].last, messages[-1].failure.reason) == (True, "LISTING_TOO_LONG")


@pytest.mark.parametrize("depth", [0, 1])
async def test_without_a_depth_workers_of_any_release_list_one_directory(
    queue: QueueServiceUnderTest, depth: int
) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        stream = files.ListDirectory(asked(depth), metadata=queue.as_user())
        lease = await worker.lease()
        assert lease.list.depth == 1
        await worker.report(lease, found(b"a", entries=[FOLDER]))
        await worker.settle(lease)
        messages = await all_of(stream)
    assert list(messages[0].entries) == [FOLDER]
    assert messages[-1].depth == 1


async def test_the_flat_listing_of_an_older_worker_is_not_passed_off_as_a_deep_one(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        stream = files.ListDirectory(asked(2), metadata=queue.as_user())
        lease = await worker.lease()
        await worker.report(lease, found(b"a", entries=[FOLDER]))
        messages = await all_of(stream)
        await worker.until(lambda: worker.cancelled)
    assert not any(message.entries for message in messages)
    assert (messages[-1].failure.reason, messages[-1].failure.retryable) == ("WORKER_TOO_OLD", True)


async def test_a_file_is_no_deeper_than_it_is_whoever_lists_it(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        stream = files.ListDirectory(asked(2), metadata=queue.as_user())
        lease = await worker.lease()
        file = entry_pb2.Entry(name="d", kind=entry_pb2.ENTRY_KIND_FILE)
        await worker.report(lease, found(b"d", entries=[file], listed_kind=entry_pb2.ENTRY_KIND_FILE))
        await worker.settle(lease)
        messages = await all_of(stream)
    assert list(messages[0].entries) == [file]
    assert not messages[-1].HasField("failure")


@pytest.mark.parametrize("depth", [-1, 33])
async def test_a_depth_that_cannot_be_is_refused(queue: QueueServiceUnderTest, depth: int) -> None:
    async with queue.files() as files:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await next_of(files.ListDirectory(asked(depth), metadata=queue.as_user()))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_job_is_tried_as_often_as_it_asks_and_shows_that(queue: QueueServiceUnderTest) -> None:
    failure = entry_pb2.Failure(reason="NO_SPACE", message="disk full", retryable=True)
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(attempts=1), metadata=queue.as_user())
        assert job.attempts == 1
        await worker.settle(await worker.lease(), pb.OUTCOME_FAILED, failure=failure)
        ended = await jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=queue.as_user())
        assert (ended.state, ended.attempts) == (job_service_pb2.JOB_STATE_FAILED, 1)
        other = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        assert not other.HasField("attempts")


async def test_a_copy_of_pairs_says_its_attempts_too(queue: QueueServiceUnderTest) -> None:
    copy = job_service_pb2.PairsCopy(
        source=entry_pb2.Location(site="sites/a", path="/data"),
        destination=entry_pb2.Location(site="sites/b", path="/data"),
        attempts=7,
    )
    pairs = [job_service_pb2.FilePair(source_path=b"one")]
    parts = [
        job_service_pb2.CreateJobFromPairsRequest(copy=copy),
        job_service_pb2.CreateJobFromPairsRequest(pairs=pairs),
    ]
    async with queue.jobs() as jobs:
        job = await jobs.CreateJobFromPairs(iter(parts), metadata=queue.as_user())
    assert job.attempts == 7


@pytest.mark.parametrize("attempts", [0, 21])
async def test_attempts_beyond_the_bounds_are_refused(queue: QueueServiceUnderTest, attempts: int) -> None:
    async with queue.jobs() as jobs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(copy_request(attempts=attempts), metadata=queue.as_user())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
