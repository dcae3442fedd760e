"""Jobs that come in while the site service is away: they are accepted, and go on by themselves when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from wherry.queue.v1 import file_service_pb2, job_service_pb2_grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_testing.queue_service import DEADLINE_S, QueueServiceUnderTest, copy_request
from wherry_testing.refusals import fields_of, reason_of

pytestmark = [pytest.mark.timeout(180), pytest.mark.row("J3"), pytest.mark.row("D2")]

if TYPE_CHECKING:
    Jobs = job_service_pb2_grpc.JobServiceAsyncStub  # its types have it, the module at run time has not


@pytest.fixture
async def jobs(queue: QueueServiceUnderTest) -> AsyncIterator[Jobs]:
    """A stub; the site service is away."""
    queue.sites.away = True
    async with queue.jobs() as stub:
        yield stub


async def told(
    queue: QueueServiceUnderTest,
    jobs: Jobs,
    name: str,
    condition: Callable[[pb.Job], bool],
    within_s: float = DEADLINE_S,
) -> pb.Job:
    """A job as its watch first tells it that satisfies a condition."""
    async with asyncio.timeout(within_s):
        async for message in jobs.WatchJob(pb.WatchJobRequest(name=name), metadata=queue.as_user()):
            if condition(message.job):
                return message.job
    raise AssertionError("the job ended otherwise")


def waits(job: pb.Job) -> tuple[int, str]:
    """A job's state, and why it waits."""
    return job.state, job.waiting_reason.reason


UNRESOLVED = (pb.JOB_STATE_QUEUED, "SITES_UNAVAILABLE")


def removal_at(site: str) -> pb.CreateJobRequest:
    """A job at one site."""
    target = entry_pb2.Location(site=site, path="/old")
    return pb.CreateJobRequest(job=pb.Job(remove=pb.RemoveOperation(targets=[target])))


def pairs_stream(source: str, destination: str, *names: str, other: str = "sites/b") -> list[Any]:
    """A copy of named files."""
    copy = pb.PairsCopy(
        request_id="pairs",
        source=entry_pb2.Location(site="sites/a", path=source),
        destination=entry_pb2.Location(site=other, path=destination),
    )
    named = [pb.FilePair(source_path=name.encode(), size_bytes=10) for name in names]
    return [pb.CreateJobFromPairsRequest(copy=copy), pb.CreateJobFromPairsRequest(pairs=named)]


async def test_a_job_is_accepted_and_goes_on_by_itself(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me, request = queue.as_user(), copy_request("x", "/data/y")
    async with queue.worker() as worker:
        accepted = await jobs.CreateJob(request, metadata=me)
        assert waits(accepted) == UNRESOLVED
        assert "goes on by itself" in accepted.waiting_reason.message
        assert (await jobs.CreateJob(request, metadata=me)).name == accepted.name
        listed = (await jobs.ListJobs(pb.ListJobsRequest(states=[pb.JOB_STATE_QUEUED]), metadata=me)).jobs
        assert [waits(job) for job in listed] == [UNRESOLVED]
        assert worker.leases_waiting() == 0
        queue.sites.away = False
        lease = await worker.lease()
        assert lease.lease.task.startswith(accepted.name)
        assert (lease.walk_copy.source_path, lease.walk_copy.destination_path) == (b"/home/user/x", b"/data/y")
        assert (await jobs.CreateJob(request, metadata=me)).name == accepted.name
    assert not (await jobs.GetJob(pb.GetJobRequest(name=accepted.name), metadata=me)).HasField("failure")


async def test_a_batch_is_accepted_whole(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    batch = pb.BatchCreateJobsRequest(requests=[copy_request(f"x{number}") for number in range(20)])
    made = (await jobs.BatchCreateJobs(batch, metadata=queue.as_user())).jobs
    assert [waits(job) for job in made] == [UNRESOLVED] * 20
    again = (await jobs.BatchCreateJobs(batch, metadata=queue.as_user())).jobs
    assert [job.name for job in again] == [job.name for job in made]
    asked = queue.sites.asked
    queue.sites.away = False
    async with queue.worker(bulk=20) as worker:
        leased = {(await worker.lease()).lease.task.rpartition("/tasks/")[0] for _ in range(20)}
    assert leased == {job.name for job in made}
    assert queue.sites.asked <= asked + 5, "asked for each job, where once for all of a user's is enough"


async def test_named_pairs_are_accepted_below_roots_that_are_not_known(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    stream = pairs_stream("run-7", "/data", "a/1", "2")
    accepted: pb.Job = await jobs.CreateJobFromPairs(iter(stream), metadata=queue.as_user())
    assert (*waits(accepted), accepted.item_count) == (*UNRESOLVED, 2)
    assert accepted.copy.items[0].source.path == "run-7/a/1"
    again: pb.Job = await jobs.CreateJobFromPairs(iter(stream), metadata=queue.as_user())
    assert again.name == accepted.name
    queue.sites.away = False
    async with queue.worker() as worker:
        chunk = await worker.lease()
    assert chunk.copy_files.source_directory == b"/home/user/run-7"
    files = await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=accepted.name), metadata=queue.as_user())
    assert [file.path for file in files.files] == ["/home/user/run-7/2", "/home/user/run-7/a/1"]


@pytest.mark.parametrize(
    ("stream", "field"),
    [
        (pairs_stream("run-7", "/data", "/home/user/run-7/x"), "pairs[0].source_path"),
        (pairs_stream("run-7", "/data", "x", other="sites/a"), "copy.source.path"),
        (pairs_stream("/data", "run-7", "x", other="sites/a"), "copy.destination.path"),
    ],
)
async def test_pairs_that_cannot_be_checked_are_refused_with_the_remedy(
    queue: QueueServiceUnderTest, jobs: Jobs, stream: list[Any], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJobFromPairs(iter(stream), metadata=queue.as_user())
    assert (reason_of(refused.value), fields_of(refused.value)) == ("INVALID_FIELDS", [field])
    assert "absolute" in str(refused.value.details())


@pytest.mark.parametrize("source", ["", "a/../b", "/a/./b"])
async def test_what_is_wrong_whatever_the_sites_are_is_refused_at_once(
    queue: QueueServiceUnderTest, jobs: Jobs, source: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJob(copy_request(source), metadata=queue.as_user())
    assert fields_of(refused.value) == ["job.copy.items[0].source.path"]


async def test_a_site_that_there_is_not_fails_the_job_and_names_it(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me, request = queue.as_user(), removal_at("sites/nowhere")
    request.request_id = "r1"
    accepted = await jobs.CreateJob(request, metadata=me)
    assert waits(accepted) == UNRESOLVED
    queue.sites.away = False
    ended = await told(queue, jobs, accepted.name, lambda job: job.state == pb.JOB_STATE_FAILED)
    assert ended.failure.reason == "SITE_NOT_FOUND"
    assert "sites/nowhere" in ended.failure.message
    assert not ended.HasField("waiting_reason")
    failures = (await jobs.ListFailures(pb.ListFailuresRequest(parent=ended.name), metadata=me)).failures
    assert [(one.path, one.failure.reason) for one in failures] == [("/old", "SITE_NOT_FOUND")]
    again = await jobs.CreateJob(request, metadata=me)
    assert (again.name, again.state) == (accepted.name, pb.JOB_STATE_FAILED), "a repeated request is not refused"
    batch = pb.BatchCreateJobsRequest(requests=[request])
    assert [job.name for job in (await jobs.BatchCreateJobs(batch, metadata=me)).jobs] == [accepted.name]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJob(removal_at("sites/nowhere"), metadata=me)
    assert reason_of(refused.value) == "SITE_NOT_FOUND"


@pytest.mark.row("W4")
async def test_one_whose_owner_is_not_signed_in_waits_for_that(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    accepted = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
    assert waits(accepted) == UNRESOLVED
    queue.sites.sign_out("users/a", "sites/b")
    queue.sites.away = False
    parked = await told(queue, jobs, accepted.name, lambda job: job.state == pb.JOB_STATE_WAITING_FOR_SIGN_IN)
    assert (parked.waiting_reason.reason, parked.waiting_reason.site) == ("SIGN_IN_REQUIRED", "sites/b")
    async with queue.worker() as worker:
        queue.sites.sign_in("users/a", "sites/b")
        assert (await worker.lease()).lease.task.startswith(accepted.name)


@pytest.mark.row("J7")
async def test_it_can_be_paused_and_cancelled_meanwhile(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    paused = await jobs.CreateJob(copy_request("x"), metadata=me)
    cancelled = await jobs.CreateJob(copy_request("x"), metadata=me)
    assert waits(await jobs.PauseJob(pb.PauseJobRequest(name=paused.name), metadata=me)) == (
        pb.JOB_STATE_PAUSED,
        "PAUSED",
    )
    ended = await jobs.CancelJob(pb.CancelJobRequest(name=cancelled.name), metadata=me)
    assert ended.state == pb.JOB_STATE_CANCELLED
    queue.sites.away = False
    other = await jobs.CreateJob(copy_request("x"), metadata=me)
    async with queue.worker(bulk=3) as worker:
        assert (await worker.lease()).lease.task.startswith(other.name)
        tasks = pb.ListTasksRequest(parent=paused.name)
        async with asyncio.timeout(DEADLINE_S):
            while (await jobs.ListTasks(tasks, metadata=me)).tasks[0].source_path != "/home/user/x":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert worker.leases_waiting() == 0
        await jobs.ResumeJob(pb.ResumeJobRequest(name=paused.name), metadata=me)
        assert (await worker.lease()).lease.task.startswith(paused.name)


async def test_a_listing_is_refused_since_somebody_waits_for_it(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/data"))
    async with queue.files() as files:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await files.ListDirectory(request, metadata=queue.as_user()).read()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(refused.value) == "SITES_UNAVAILABLE"
