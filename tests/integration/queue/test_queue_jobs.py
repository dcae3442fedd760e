"""JobService over mutual TLS: making, listing, holding and looking into jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import zstandard
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc, lease_service_pb2
from wherry.type.v1 import entry_pb2
from wherry_testing.queue_service import QueueServiceUnderTest, copy_request, packed
from wherry_testing.refusals import reason_of

pytestmark = pytest.mark.timeout(180)

if TYPE_CHECKING:
    Jobs = job_service_pb2_grpc.JobServiceAsyncStub  # its types have it, the module at run time has not


@pytest.fixture
async def jobs(queue: QueueServiceUnderTest) -> AsyncIterator[Jobs]:
    async with queue.jobs() as stub:
        yield stub


async def refusal(call: Any) -> tuple[str, list[str]]:
    """The reason for which a call fails, and the fields that it blames."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # an AioRpcError is a call
    fields: list[str] = []
    for detail in status.details:
        named = error_details_pb2.BadRequest()
        if detail.Unpack(named):
            fields += [violation.field for violation in named.field_violations]
    return reason_of(refused.value), fields


async def run_chunk(worker: Any, **values: Any) -> lease_service_pb2.Lease:
    """Takes a walk that finds two files, and settles their chunk."""
    walk = await worker.lease()
    batch = lease_service_pb2.ReportEntriesRequest(cursor=b"z", chunks=[packed("one", "two")], directories_done=1)
    await worker.report(walk, batch)
    await worker.settle(walk)
    chunk: lease_service_pb2.Lease = await worker.lease()
    await worker.settle(chunk, **values)
    return chunk


def many_items(count: int) -> pb.CreateJobRequest:
    """A copy of so many named things."""
    request = copy_request()
    item = request.job.copy.items[0]
    for number in range(1, count):
        more = request.job.copy.items.add()
        more.CopyFrom(item)
        more.source.path, more.destination.path = f"/data/x{number}", f"/data/y{number}"
    return request


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("J2")
async def test_lists_are_filtered_and_show_a_few_of_many_items(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    large = await jobs.CreateJob(many_items(25), metadata=me)
    removal = pb.RemoveOperation(targets=[entry_pb2.Location(site="sites/a", path=f"/old/{n}") for n in range(12)])
    small = await jobs.CreateJob(pb.CreateJobRequest(job=pb.Job(remove=removal)), metadata=me)
    await jobs.CancelJob(pb.CancelJobRequest(name=small.name), metadata=me)
    assert (len(large.copy.items), large.item_count) == (25, 25)

    listed = (await jobs.ListJobs(pb.ListJobsRequest(), metadata=me)).jobs
    assert [job.name for job in listed] == [small.name, large.name]
    assert [(len(job.remove.targets or job.copy.items), job.item_count) for job in listed] == [(10, 12), (10, 25)]
    whole = await jobs.GetJob(pb.GetJobRequest(name=large.name), metadata=me)
    assert (len(whole.copy.items), whole.item_count) == (25, 25)

    async def names(**wanted: Any) -> list[str]:
        return [job.name for job in (await jobs.ListJobs(pb.ListJobsRequest(**wanted), metadata=me)).jobs]

    assert await names(states=[pb.JOB_STATE_CANCELLED]) == [small.name]
    assert await names(states=[pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING]) == [large.name]
    assert await names(operations=["remove"]) == [small.name]
    assert await names(site="sites/b") == [large.name]
    assert await names(create_time_from=small.create_time) == [small.name]
    assert large.name in await names(create_time_until=small.create_time)
    first = await jobs.ListJobs(pb.ListJobsRequest(page_size=1), metadata=me)
    rest = await jobs.ListJobs(pb.ListJobsRequest(page_size=1, page_token=first.next_page_token), metadata=me)
    assert [job.name for job in (*first.jobs, *rest.jobs)] == [small.name, large.name]
    assert not rest.next_page_token


@pytest.mark.row("J2")
@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"operations": ["copy", "chmod"]}, "operations[1]"),
        ({"states": [0]}, "states[0]"),
        ({"site": "b"}, "site"),
        ({"page_token": "x"}, "page_token"),
    ],
)
async def test_an_unfit_filter_is_named(
    queue: QueueServiceUnderTest, jobs: Jobs, wanted: dict[str, Any], field: str
) -> None:
    reason, fields = await refusal(jobs.ListJobs(pb.ListJobsRequest(**wanted), metadata=queue.as_user()))
    assert (reason, fields) == ("INVALID_FIELDS", [field])


# --- holding and changing ---------------------------------------------------------------------------------------------


@pytest.mark.row("J7")
@pytest.mark.row("D4")
async def test_a_paused_job_stops_and_goes_on_where_it_was(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    async with queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=me)
        walk = await worker.lease()
        paused = await jobs.PauseJob(pb.PauseJobRequest(name=job.name), metadata=me)
        assert (paused.state, paused.waiting_reason.reason) == (pb.JOB_STATE_PAUSED, "PAUSED")
        await worker.until(lambda: worker.cancelled)
        # Where the word comes just as the lease is given out it is said twice, so that it is not lost.
        assert all((stop.lease, stop.reason) == (walk.lease, "JOB_PAUSED") for stop in worker.cancelled)
        assert (await jobs.PauseJob(pb.PauseJobRequest(name=job.name), metadata=me)).state == pb.JOB_STATE_PAUSED
        await worker.settle(walk, lease_service_pb2.OUTCOME_CANCELLED)
        resumed = await jobs.ResumeJob(pb.ResumeJobRequest(name=job.name), metadata=me)
        assert resumed.state != pb.JOB_STATE_PAUSED
        again = await worker.lease()
        assert again.lease.task == walk.lease.task
    assert (await jobs.ResumeJob(pb.ResumeJobRequest(name=job.name), metadata=me)).name == job.name


@pytest.mark.row("J7")
@pytest.mark.row("D4")
async def test_a_retry_does_what_failed_and_nothing_else(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    failure = pb.EntryFailure(
        index=1, path="/data/x/two", failure=entry_pb2.Failure(reason="NO_SPACE", message="full"), size_bytes=10
    )
    async with queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=me)
        name = job.name
        assert (await refusal(jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=me)))[0] == "JOB_NOT_ENDED"
        first = await run_chunk(worker, done=b"\x01", files_done=1, bytes_done=10, failures=[failure])
        ended = await jobs.GetJob(pb.GetJobRequest(name=name), metadata=me)
        assert ended.state == pb.JOB_STATE_PARTIALLY_FAILED
        queue.sites.signed_out.add(("users/a", "sites/b"))
        assert (await refusal(jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=me)))[0] == "SITE_SIGN_IN_REQUIRED"
        queue.sites.signed_out.clear()
        open_again = await jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=me)
        assert open_again.progress.tasks_open == 1
        second = await worker.lease()
        assert (second.lease.task, second.copy_files.done) == (first.lease.task, b"\x01")
        await worker.settle(second, done=b"\x03", files_done=1, bytes_done=10)
    ended = await jobs.GetJob(pb.GetJobRequest(name=name), metadata=me)
    assert (ended.state, ended.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, 2)
    assert (await refusal(jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=me)))[0] == "NOTHING_TO_RETRY"
    for call in (
        jobs.PauseJob(pb.PauseJobRequest(name=name), metadata=me),
        jobs.ResumeJob(pb.ResumeJobRequest(name=name), metadata=me),
        jobs.UpdateJob(pb.UpdateJobRequest(job=pb.Job(name=name, priority=1)), metadata=me),
    ):
        assert (await refusal(call))[0] == "JOB_ENDED"
    assert (await jobs.CancelJob(pb.CancelJobRequest(name=name), metadata=me)).state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.row("J1")
async def test_a_job_with_a_new_priority_goes_first(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    await jobs.CreateJob(copy_request(), metadata=me)
    second = await jobs.CreateJob(copy_request(), metadata=me)
    changed = pb.UpdateJobRequest(job=pb.Job(name=second.name, priority=9), update_mask=FieldMask(paths=["priority"]))
    assert (await jobs.UpdateJob(changed, metadata=me)).priority == 9
    async with queue.worker(bulk=1) as worker:
        assert (await worker.lease()).lease.task.startswith(f"{second.name}/")


@pytest.mark.parametrize(
    ("job", "paths", "field"),
    [
        ({"name": "jobs/x", "priority": 1}, ["priority", "copy"], "update_mask"),
        ({"name": "x", "priority": 1}, [], "job.name"),
        ({"name": "jobs/x"}, ["priority"], "job.priority"),
        ({"name": "jobs/x", "priority": 10}, [], "job.priority"),
    ],
)
async def test_what_cannot_be_changed_is_named(
    queue: QueueServiceUnderTest, jobs: Jobs, job: dict[str, Any], paths: list[str], field: str
) -> None:
    request = pb.UpdateJobRequest(job=pb.Job(**job), update_mask=FieldMask(paths=paths))
    assert await refusal(jobs.UpdateJob(request, metadata=queue.as_user())) == ("INVALID_FIELDS", [field])


@pytest.mark.row("J3")
async def test_nobody_does_anything_to_another_users_job(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    name = (await jobs.CreateJob(copy_request(), metadata=queue.as_user("a"))).name
    other = queue.as_user("b")
    for call in (
        jobs.PauseJob(pb.PauseJobRequest(name=name), metadata=other),
        jobs.ResumeJob(pb.ResumeJobRequest(name=name), metadata=other),
        jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=other),
        jobs.UpdateJob(pb.UpdateJobRequest(job=pb.Job(name=name, priority=1)), metadata=other),
        jobs.ListJobFiles(pb.ListJobFilesRequest(parent=name), metadata=other),
        jobs.ListFailures(pb.ListFailuresRequest(parent=name), metadata=other),
        jobs.GetAttempt(pb.GetAttemptRequest(name=f"{name}/tasks/1/attempts/-1"), metadata=other),
    ):
        assert (await refusal(call))[0] == "JOB_NOT_FOUND"


# --- looking into one -------------------------------------------------------------------------------------------------


@pytest.mark.row("J3")
@pytest.mark.row("J4")
async def test_files_are_shown_one_by_one_with_what_came_of_them(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    checksum = entry_pb2.Checksum(algorithm="adler32", value="0000abcd")
    results = lease_service_pb2.ChunkResults(
        results=[lease_service_pb2.EntryResult(index=0, size_bytes=10, checksum=checksum, adopted=True)]
    )
    failure = pb.EntryFailure(
        index=1, path="/data/x/two", failure=entry_pb2.Failure(reason="NO_SPACE", message="full"), size_bytes=10
    )
    async with queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=me)
        assert not (await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=job.name), metadata=me)).files
        chunk = await run_chunk(
            worker,
            done=b"\x01",
            files_done=1,
            bytes_done=10,
            failures=[failure],
            results=zstandard.compress(results.SerializeToString()),
            log="one went, one did not",
        )
    listed = await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=job.name), metadata=me)
    one, two = listed.files
    assert (one.path, one.destination_path, one.size_bytes) == ("/data/x/one", "/data/y/one", 10)
    assert (one.state, one.checksum, one.adopted, one.task) == (pb.FILE_STATE_DONE, checksum, True, chunk.lease.task)
    assert (two.path, two.state, two.failure.reason) == ("/data/x/two", pb.FILE_STATE_FAILED, "NO_SPACE")
    assert not listed.next_page_token
    page = await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=job.name, page_size=1), metadata=me)
    rest = pb.ListJobFilesRequest(parent=job.name, page_size=1, page_token=page.next_page_token)
    assert [*page.files, *(await jobs.ListJobFiles(rest, metadata=me)).files] == [one, two]
    failed = pb.ListJobFilesRequest(parent=job.name, states=[pb.FILE_STATE_FAILED])
    assert list((await jobs.ListJobFiles(failed, metadata=me)).files) == [two]

    last = await jobs.GetAttempt(pb.GetAttemptRequest(name=f"{chunk.lease.task}/attempts/-1"), metadata=me)
    assert (last.name, last.log) == (f"{chunk.lease.task}/attempts/1", "one went, one did not")
    gone = pb.GetAttemptRequest(name=f"{chunk.lease.task}/attempts/2")
    assert (await refusal(jobs.GetAttempt(gone, metadata=me)))[0] == "ATTEMPT_NOT_FOUND"
    tasks = pb.ListTasksRequest(parent=job.name, states=[pb.TASK_STATE_FAILED])
    assert [task.name for task in (await jobs.ListTasks(tasks, metadata=me)).tasks] == [chunk.lease.task]


@pytest.mark.row("J3")
async def test_names_of_any_bytes_and_a_chunk_that_cannot_be_opened(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    odd = lease_service_pb2.ChunkEntries(
        entries=[lease_service_pb2.ChunkEntry(name=b"\xff\n", destination_name=b"new", size_bytes=3)]
    )
    readable = lease_service_pb2.EntryChunk(
        payload=zstandard.compress(odd.SerializeToString()), entry_count=1, total_bytes=3
    )
    bomb = lease_service_pb2.EntryChunk(payload=zstandard.compress(b"\0" * (9 << 20)), entry_count=1, total_bytes=3)
    broken = lease_service_pb2.EntryChunk(payload=b"no frame", entry_count=1, total_bytes=3)
    async with queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=me)
        walk = await worker.lease()
        batch = lease_service_pb2.ReportEntriesRequest(cursor=b"z", chunks=[bomb, readable, broken])
        await worker.report(walk, batch)
        (file,) = (await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=job.name), metadata=me)).files
    assert (file.raw_path, file.path) == (b"/data/x/\xff\n", "/data/x/\\xff\n")
    assert (file.destination_path, file.raw_destination_path) == ("/data/y/new", b"")


@pytest.mark.row("B6")
async def test_a_job_behind_another_says_so(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    async with queue.worker(bulk=1) as worker:
        await jobs.CreateJob(copy_request(), metadata=me)
        await worker.lease()
        job = await jobs.CreateJob(copy_request(), metadata=me)
        reason = job.waiting_reason
        assert (reason.reason, reason.position, reason.active_users, reason.share) == ("IN_LINE", 1, 1, 1.0)
        (listed, running) = (await jobs.ListJobs(pb.ListJobsRequest(), metadata=me)).jobs
        assert listed.waiting_reason == reason
        assert not running.HasField("waiting_reason")


# --- making many ------------------------------------------------------------------------------------------------------


@pytest.mark.row("J10")
async def test_a_batch_is_made_whole_and_a_repeated_one_is_the_same(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    me = queue.as_user()
    asked = pb.BatchCreateJobsRequest(requests=[copy_request(f"/x{n}", f"/y{n}") for n in range(20)])
    made = await jobs.BatchCreateJobs(asked, metadata=me)
    assert [job.copy.items[0].source.path for job in made.jobs] == [f"/x{n}" for n in range(20)]
    again = await jobs.BatchCreateJobs(asked, metadata=me)
    assert [job.name for job in again.jobs] == [job.name for job in made.jobs]
    assert len((await jobs.ListJobs(pb.ListJobsRequest(), metadata=me)).jobs) == 20
    assert queue.sites.asked <= 2


@pytest.mark.row("J10")
@pytest.mark.parametrize(
    ("unfit", "reason", "fields"),
    [
        (copy_request("/a/../b"), "INVALID_FIELDS", ["requests[1].job.copy.items[0].source.path"]),
        (pb.CreateJobRequest(job=pb.Job()), "INVALID_FIELDS", ["requests[1].job.operation"]),
        (copy_request("/a", "/b", priority=12), "INVALID_FIELDS", ["requests[1].job.priority"]),
    ],
)
async def test_of_a_batch_with_an_unfit_job_nothing_is_made(
    queue: QueueServiceUnderTest, jobs: Jobs, unfit: pb.CreateJobRequest, reason: str, fields: list[str]
) -> None:
    me = queue.as_user()
    asked = pb.BatchCreateJobsRequest(requests=[copy_request(), unfit])
    assert await refusal(jobs.BatchCreateJobs(asked, metadata=me)) == (reason, fields)
    assert not (await jobs.ListJobs(pb.ListJobsRequest(), metadata=me)).jobs


@pytest.mark.row("J10")
async def test_of_a_batch_with_a_copy_into_itself_the_place_is_named(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    inside = copy_request("/a", "/a/b")
    inside.job.copy.items[0].destination.site = "sites/a"
    asked = pb.BatchCreateJobsRequest(requests=[copy_request(), inside])
    _, fields = await refusal(jobs.BatchCreateJobs(asked, metadata=queue.as_user()))
    assert fields == ["requests[1].job.copy.items[0].destination.path"]


def pairs_copy(request_id: str = "", **values: Any) -> pb.CreateJobFromPairsRequest:
    """The first message of a stream."""
    source = entry_pb2.Location(site="sites/a", path="run-7")
    destination = entry_pb2.Location(site="sites/b", path="/data")
    copy = pb.PairsCopy(request_id=request_id, source=source, destination=destination, **values)
    return pb.CreateJobFromPairsRequest(copy=copy)


def pairs(*paths: str | tuple[str, str], size_bytes: int = 10) -> pb.CreateJobFromPairsRequest:
    """A further message."""
    given = [(path, "") if isinstance(path, str) else path for path in paths]
    return pb.CreateJobFromPairsRequest(
        pairs=[
            pb.FilePair(source_path=source.encode(), destination_path=other.encode(), size_bytes=size_bytes)
            for source, other in given
        ]
    )


async def copied(queue: QueueServiceUnderTest, jobs: Jobs, messages: Iterable[pb.CreateJobFromPairsRequest]) -> pb.Job:
    """The job that a stream makes."""
    job: pb.Job = await jobs.CreateJobFromPairs(iter(list(messages)), metadata=queue.as_user())
    return job


@pytest.mark.row("J10")
async def test_named_pairs_become_one_job_of_chunks(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    named = [f"d{n % 7}/file {n}" for n in range(250)]
    stream = [
        pairs_copy(overwrite=pb.OVERWRITE_POLICY_ALWAYS, priority=7),
        pairs(*named[:130]),
        pairs(*named[130:]),
        pairs(("/home/user/run-7/z", "/data/elsewhere/z")),
    ]
    job = await copied(queue, jobs, stream)
    assert (job.item_count, len(job.copy.items), job.priority) == (251, 10, 7)
    assert job.copy.items[0].source.path == "/home/user/run-7/d0/file 0"
    assert job.copy.items[0].destination.path == "/data/d0/file 0"
    assert (job.progress.files_total, job.progress.bytes_total, job.progress.tasks_open) == (251, 2510, 3)
    assert job.copy.overwrite == pb.OVERWRITE_POLICY_ALWAYS
    listed = await jobs.ListJobFiles(pb.ListJobFilesRequest(parent=job.name, page_size=1000), metadata=queue.as_user())
    assert {file.path for file in listed.files} == {f"/home/user/run-7/{name}" for name in [*named, "z"]}
    moved = {file.path: file.destination_path for file in listed.files}
    assert moved["/home/user/run-7/z"] == "/data/elsewhere/z"
    async with queue.worker(bulk=3) as worker:
        for _ in range(3):
            lease = await worker.lease()
            work = lease.copy_files
            assert (work.source_directory, work.destination_directory) == (b"/home/user/run-7", b"/data")
            assert work.make_parents
            assert work.overwrite == pb.OVERWRITE_POLICY_ALWAYS
            count = work.chunk.entry_count
            done = ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
            await worker.settle(lease, done=done, files_done=count, bytes_done=work.chunk.total_bytes)
    ended = await jobs.GetJob(pb.GetJobRequest(name=job.name), metadata=queue.as_user())
    assert (ended.state, ended.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, 251)


@pytest.mark.row("J10")
async def test_the_same_pairs_again_are_the_same_job(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    request_id = str(uuid.uuid4())
    first = await copied(queue, jobs, [pairs_copy(request_id), pairs("a"), pairs("b")])
    again = await copied(queue, jobs, [pairs_copy(request_id), pairs("a"), pairs("b")])
    assert again.name == first.name
    assert again.progress.tasks_open == 1
    assert len((await jobs.ListJobs(pb.ListJobsRequest(), metadata=queue.as_user())).jobs) == 1


@pytest.mark.row("J10")
@pytest.mark.parametrize(
    ("stream", "field"),
    [
        ([], "copy"),
        ([pairs("a")], "copy"),
        ([pairs_copy(), pairs("a"), pairs_copy()], "copy"),
        ([pairs_copy()], "pairs"),
        ([pairs_copy(), pairs("a"), pairs("b", "../c")], "pairs[2].source_path"),
        ([pairs_copy(), pairs("a", ("b", "/elsewhere"))], "pairs[1].destination_path"),
        ([pairs_copy(priority=11)], "copy.priority"),
    ],
)
async def test_an_unfit_stream_makes_nothing_and_says_where(
    queue: QueueServiceUnderTest, jobs: Jobs, stream: list[pb.CreateJobFromPairsRequest], field: str
) -> None:
    assert await refusal(copied(queue, jobs, stream)) == ("INVALID_FIELDS", [field])
    assert not (await jobs.ListJobs(pb.ListJobsRequest(), metadata=queue.as_user())).jobs


@pytest.mark.row("J10")
async def test_pairs_need_a_sign_in_at_both_sites(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    queue.sites.signed_out.add(("users/a", "sites/b"))
    assert (await refusal(copied(queue, jobs, [pairs_copy(), pairs("a")])))[0] == "SITE_SIGN_IN_REQUIRED"


@pytest.mark.row("J10")
async def test_a_stream_that_breaks_off_leaves_no_job(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    call = jobs.CreateJobFromPairs(metadata=queue.as_user())
    await call.write(pairs_copy())
    await call.write(pairs(*(f"f{n}" for n in range(500))))
    call.cancel()
    other = await copied(queue, jobs, [pairs_copy(), pairs("a")])
    listed = (await jobs.ListJobs(pb.ListJobsRequest(), metadata=queue.as_user())).jobs
    assert [job.name for job in listed] == [other.name]
