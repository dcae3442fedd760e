"""Answers of JobService stay below what clients take in one message, however long the paths in them are."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import zstandard
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2
from wherry.type.v1 import entry_pb2
from wherry_testing.queue_service import QueueServiceUnderTest, copy_request
from wherry_testing.refusals import fields_of, reason_of

pytestmark = pytest.mark.timeout(180)

MEBIBYTE = 1 << 20
LONG = "x" * 4000


async def pages(call: Any, request: Any, field: str, me: Any) -> list[list[Any]]:
    """All pages of a list, each of them below what a client takes."""
    found: list[list[Any]] = []
    while True:
        answer = await call(request, metadata=me)
        assert answer.ByteSize() <= MEBIBYTE + 100_000
        found.append(list(getattr(answer, field)))
        assert found[-1]
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def refusal_of(call: Any) -> tuple[str, list[str]]:
    """The reason for which a call fails, and the fields that it blames."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return reason_of(refused.value), fields_of(refused.value)


@pytest.mark.row("J3")
async def test_a_page_ends_before_it_is_too_large_and_the_next_goes_on_behind_it(queue: QueueServiceUnderTest) -> None:
    me = queue.as_user()
    entries = lease_service_pb2.ChunkEntries(
        entries=[lease_service_pb2.ChunkEntry(name=f"{LONG}{n:03d}".encode(), size_bytes=1) for n in range(400)]
    )
    chunk = lease_service_pb2.EntryChunk(
        payload=zstandard.compress(entries.SerializeToString()), entry_count=400, total_bytes=400
    )
    failure = entry_pb2.Failure(reason="UNLISTABLE", message="no")
    failures = [pb.EntryFailure(index=n, path=f"/data/x/{LONG}{n}", failure=failure) for n in range(300)]
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=me)
        walk = await worker.lease()
        directories = [f"{LONG}{n}".encode() for n in range(300)]
        for start in (0, 150):
            batch = lease_service_pb2.ReportEntriesRequest(
                after=b"y" if start else b"",
                cursor=b"z" if start else b"y",
                directories=directories[start : start + 150],
                failures=failures[start : start + 150],
                chunks=[chunk] if start else [],
            )
            await worker.report(walk, batch)
        name = job.name
        files = await pages(jobs.ListJobFiles, pb.ListJobFilesRequest(parent=name, page_size=1000), "files", me)
        of_tasks = await pages(jobs.ListTasks, pb.ListTasksRequest(parent=name, page_size=1000), "tasks", me)
        failed = await pages(jobs.ListFailures, pb.ListFailuresRequest(parent=name, page_size=1000), "failures", me)
    paths = [file.path for page in files for file in page]
    assert len(files) > 2
    assert paths == [
        *(f"/data/x/{LONG}{n}" for n in range(300)), *(f"/data/x/{LONG}{n:03d}" for n in range(400))
    ]  # fmt: skip
    assert len(of_tasks) > 2
    assert len({task.name for page in of_tasks for task in page}) == sum(map(len, of_tasks)) == 302
    assert len(failed) > 1
    assert [one.path for page in failed for one in page] == paths[:300]


@pytest.mark.row("J2")
async def test_a_list_of_jobs_with_long_paths_comes_in_more_pages_than_asked_for(queue: QueueServiceUnderTest) -> None:
    me = queue.as_user()
    async with queue.jobs() as jobs:
        made = []
        for number in range(12):
            request = copy_request()
            item = request.job.copy.items[0]
            item.source.path = f"/data/{'y' * 16_000}{number}"
            request.job.copy.items.extend([item] * 9)
            made.append((await jobs.CreateJob(request, metadata=me)).name)
        listed = await pages(jobs.ListJobs, pb.ListJobsRequest(page_size=1000), "jobs", me)
    assert len(listed) > 1
    assert [job.name for page in listed for job in page] == made[::-1]


@pytest.mark.row("J1")
async def test_what_could_not_be_shown_again_is_not_taken_in(queue: QueueServiceUnderTest) -> None:
    me = queue.as_user()

    def asked(count: int, length: int) -> pb.CreateJobRequest:
        request = copy_request()
        item = request.job.copy.items[0]
        item.source.path = "/data/" + "y" * length
        request.job.copy.items.extend([item] * (count - 1))
        return request

    async with queue.jobs() as jobs:
        assert await refusal_of(jobs.CreateJob(asked(1000, 3500), metadata=me)) == ("INVALID_FIELDS", ["job.copy"])
        batch = pb.BatchCreateJobsRequest(requests=[asked(10, 9_000) for _ in range(40)])
        assert await refusal_of(jobs.BatchCreateJobs(batch, metadata=me)) == ("INVALID_FIELDS", ["requests"])
        assert not (await jobs.ListJobs(pb.ListJobsRequest(), metadata=me)).jobs
        large = await jobs.CreateJob(asked(1000, 3000), metadata=me)
        assert (await jobs.GetJob(pb.GetJobRequest(name=large.name), metadata=me)).item_count == 1000
