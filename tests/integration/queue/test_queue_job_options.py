"""Options of copies, changes of permissions and checksums, from a user's request to a worker's lease and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import zstandard
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc, lease_service_pb2
from wherry.type.v1 import data_channel_pb2, entry_pb2
from wherry_testing.queue_service import QueueServiceUnderTest, TestWorker, copy_request, next_of, packed
from wherry_testing.refusals import fields_of, reason_of

pytestmark = pytest.mark.timeout(180)

if TYPE_CHECKING:
    Jobs = job_service_pb2_grpc.JobServiceAsyncStub  # its types have it, the module at run time has not

OPTIONS = pb.CopyOptions(
    comparison=pb.COMPARISON_CHECKSUM,
    checksum_algorithm="sha256",
    symlinks=pb.SYMLINK_POLICY_FOLLOW,
    keep_modify_times=False,
    include=["*.dat"],
    exclude=["tmp/**"],
    data_channel=data_channel_pb2.DATA_CHANNEL_ENCRYPTED,
)


@pytest.fixture
async def jobs(queue: QueueServiceUnderTest) -> AsyncIterator[Jobs]:
    async with queue.jobs() as stub:
        yield stub


def found(cursor: bytes = b"z", **values: Any) -> lease_service_pb2.ReportEntriesRequest:
    """A walk's batch."""
    return lease_service_pb2.ReportEntriesRequest(cursor=cursor, **values)


def at_a(*paths: str) -> list[entry_pb2.Location]:
    """Places at site a."""
    return [entry_pb2.Location(site="sites/a", path=path) for path in paths]


def with_options(
    options: pb.CopyOptions, overwrite: pb.OverwritePolicy.ValueType = pb.OVERWRITE_POLICY_NEVER
) -> pb.CreateJobRequest:
    """A copy with options."""
    request = copy_request()
    request.job.copy.options.CopyFrom(options)
    request.job.copy.overwrite = overwrite
    return request


async def get(queue: QueueServiceUnderTest, jobs: Jobs, name: str) -> pb.Job:
    """A job as its owner sees it."""
    return await jobs.GetJob(pb.GetJobRequest(name=name), metadata=queue.as_user())


async def files_of(
    queue: QueueServiceUnderTest, jobs: Jobs, name: str, *states: pb.FileState.ValueType
) -> list[pb.JobFile]:
    """A job's files."""
    request = pb.ListJobFilesRequest(parent=name, states=states)
    return list((await jobs.ListJobFiles(request, metadata=queue.as_user())).files)


@pytest.mark.row("J1")
@pytest.mark.row("J8")
async def test_a_copys_options_reach_its_worker_and_what_it_tells_is_shown(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    async with queue.worker(bulk=1) as worker:
        asked = with_options(OPTIONS, pb.OVERWRITE_POLICY_IF_DIFFERENT)
        job = await jobs.CreateJob(asked, metadata=queue.as_user())
        assert job.copy.options == OPTIONS
        root = await worker.lease()
        assert (root.walk_copy.options, root.walk_copy.path_below) == (OPTIONS, b"")
        assert root.walk_copy.overwrite == pb.OVERWRITE_POLICY_IF_DIFFERENT
        link = pb.EntryFailure(path="/data/x/link", failure=entry_pb2.Failure(reason="SYMLINK_SKIPPED", message="no"))
        batch = found(
            chunks=[packed("one", "two")], directories=[b"sub"], directories_done=1, skipped=[link],
            files_unchanged=3, bytes_unchanged=300,
        )  # fmt: skip
        await worker.report(root, batch)
        await worker.settle(root)
        seen = {}
        for _ in range(2):
            lease = await worker.lease()
            seen[lease.WhichOneof("work")] = lease
            result = lease_service_pb2.EntryResult(index=1, left_alone=True)
            beside = lease_service_pb2.EntryResult(index=0, kept_beside=b"one (1)")
            results = lease_service_pb2.ChunkResults(results=[beside, result]).SerializeToString()
            chunk: dict[str, Any] = {
                "done": b"\x03", "files_done": 2, "bytes_done": 20, "files_unchanged": 1,
                "data_channel": data_channel_pb2.DATA_CHANNEL_ENCRYPTED, "results": zstandard.compress(results),
            }  # fmt: skip
            await worker.settle(lease, **(chunk if lease.HasField("copy_files") else {}))
        assert seen["copy_files"].copy_files.options == OPTIONS
        assert seen["walk_copy"].walk_copy.path_below == b"sub"
    ended = await get(queue, jobs, job.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    progress = ended.progress
    assert (progress.files_total, progress.files_done, progress.files_unchanged) == (5, 5, 4)
    assert (progress.bytes_done, progress.entries_skipped) == (320, 1)
    assert list(ended.data_channels) == [data_channel_pb2.DATA_CHANNEL_ENCRYPTED]
    skipped, one, two = await files_of(queue, jobs, job.name)
    assert (skipped.state, skipped.path, skipped.failure.reason) == (
        pb.FILE_STATE_SKIPPED, "/data/x/link", "SYMLINK_SKIPPED",
    )  # fmt: skip
    assert (one.destination_path, one.left_alone) == ("/data/y/one (1)", False)
    assert (two.destination_path, two.left_alone) == ("/data/y/two", True)
    request = pb.ListFailuresRequest(parent=job.name)
    assert not (await jobs.ListFailures(request, metadata=queue.as_user())).failures


@pytest.mark.row("J8")
@pytest.mark.row("J11", missing="reachable both ways")
async def test_a_dry_run_says_what_would_be_copied_and_removed(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    async with queue.worker(bulk=1) as worker:
        asked = with_options(pb.CopyOptions(dry_run=True, delete_extraneous=True), pb.OVERWRITE_POLICY_IF_DIFFERENT)
        job = await jobs.CreateJob(asked, metadata=queue.as_user())
        root = await worker.lease()
        assert root.walk_copy.options.dry_run
        batch = found(
            chunks=[packed("one", "two")], directories_done=1, extraneous_chunks=[packed("old")],
            extraneous_directories=[b"older"],
        )  # fmt: skip
        await worker.report(root, batch)
        await worker.settle(root)
        walk = await worker.lease()
        assert (walk.walk_remove.path, walk.walk_remove.dry_run) == (b"/data/y/older", True)
        assert walk.source_site == walk.destination_site == root.destination_site
        assert walk.walk_remove.recursive
        await worker.report(walk, found(chunks=[packed("oldest")], remove_directory=True))
        await worker.settle(walk)
    ended = await get(queue, jobs, job.name)
    progress = ended.progress
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert (progress.files_total, progress.files_done, progress.bytes_total) == (2, 0, 20)
    assert (progress.extraneous_total, progress.extraneous_removed, progress.directories_done) == (3, 0, 0)
    planned = await files_of(queue, jobs, job.name, pb.FILE_STATE_PLANNED)
    assert [(file.path, file.extraneous) for file in planned] == [
        ("/data/x/one", False), ("/data/x/two", False), ("/data/y/old", True), ("/data/y/older/oldest", True),
    ]  # fmt: skip
    tasks = (await jobs.ListTasks(pb.ListTasksRequest(parent=job.name), metadata=queue.as_user())).tasks
    states = {task.state for task in tasks if task.kind not in (pb.TASK_KIND_WALK_COPY, pb.TASK_KIND_WALK_REMOVE)}
    assert states == {pb.TASK_STATE_PLANNED}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.RetryJob(pb.RetryJobRequest(name=job.name), metadata=queue.as_user())
    assert reason_of(refused.value) == "NOTHING_TO_RETRY"


@pytest.mark.row("J1")
async def test_a_copy_takes_a_protocol_that_was_asked_for(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    async with queue.worker(bulk=1) as worker:
        await jobs.CreateJob(with_options(pb.CopyOptions(protocols=["gsiftp"])), metadata=queue.as_user())
        assert (await worker.lease()).walk_copy.options.protocols == ["gsiftp"]


@pytest.mark.row("J1")
@pytest.mark.parametrize(("asked", "said"), [([], ""), (["gsiftp"], "; gsiftp was asked for")])
async def test_a_copy_between_sites_that_share_no_protocol_is_refused_and_told_what_each_has(
    queue: QueueServiceUnderTest, jobs: Jobs, asked: list[str], said: str
) -> None:
    queue.sites.schemes["sites/b"] = ["https", "root"]
    for site, other in (("sites/a", "sites/b"), ("sites/b", "sites/a")):
        request = with_options(pb.CopyOptions(protocols=asked))
        request.job.copy.items[0].source.site, request.job.copy.items[0].destination.site = site, other
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(request, metadata=queue.as_user())
        assert (refused.value.code(), reason_of(refused.value)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "NO_COMMON_PROTOCOL",
        )
        told = {"sites/a": "sites/a has gsiftp", "sites/b": "sites/b has https and root"}
        assert f"{told[site]}, {told[other]}{said}" in str(refused.value.details())


@pytest.mark.row("J1")
async def test_a_protocol_that_there_is_not_is_refused_by_name(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJob(with_options(pb.CopyOptions(protocols=["ftp"])), metadata=queue.as_user())
    assert fields_of(refused.value) == ["job.copy.options.protocols[0]"]


@pytest.mark.row("D6")
async def test_permissions_are_changed_by_a_walk_its_chunks_and_its_directories(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    async with queue.worker(bulk=1) as worker:
        asked = pb.ChangeModeOperation(targets=at_a("data", "/x"), mode=0o640, directory_mode=0o750, recursive=True)
        job = await jobs.CreateJob(pb.CreateJobRequest(job=pb.Job(change_mode=asked)), metadata=queue.as_user())
        assert (job.change_mode.mode, job.item_count) == (0o640, 2)
        first = await worker.lease()
        assert (first.walk_tree.path, first.walk_tree.directories_too) == (b"/home/user/data", True)
        await worker.report(first, found(chunks=[packed("one")], remove_directory=True))
        await worker.settle(first)
        second = await worker.lease()
        assert (second.walk_tree.path, second.walk_tree.root) == (b"/x", True)
        await worker.settle(second)
        chunk = await worker.lease()
        assert (chunk.change_mode_of_files.directory, chunk.change_mode_of_files.mode) == (b"/home/user/data", 0o640)
        await worker.settle(chunk, done=b"\x01", files_done=1)
        directory = await worker.lease()
        assert directory.change_mode_of_directory.mode == 0o750
        await worker.settle(directory)
    assert (await get(queue, jobs, job.name)).state == pb.JOB_STATE_SUCCEEDED
    listed = await jobs.ListJobs(pb.ListJobsRequest(operations=["change_mode"]), metadata=queue.as_user())
    assert [one.name for one in listed.jobs] == [job.name]


@pytest.mark.row("J9")
async def test_checksums_are_among_the_files_of_their_job(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    async with queue.worker(bulk=1) as worker:
        asked = pb.ChecksumOperation(targets=at_a("/data"), algorithm="md5", recursive=True)
        job = await jobs.CreateJob(pb.CreateJobRequest(job=pb.Job(checksum=asked)), metadata=queue.as_user())
        root = await worker.lease()
        assert (root.walk_tree.path, root.walk_tree.directories_too) == (b"/data", False)
        await worker.report(root, found(chunks=[packed("one")]))
        await worker.settle(root)
        chunk = await worker.lease()
        assert (chunk.checksum_files.algorithm, chunk.checksum_files.chunk) == ("md5", packed("one"))
        sums = [lease_service_pb2.EntryResult(index=0, checksum=entry_pb2.Checksum(algorithm="md5", value="00ff"))]
        results = zstandard.compress(lease_service_pb2.ChunkResults(results=sums).SerializeToString())
        await worker.settle(chunk, done=b"\x01", files_done=1, bytes_done=10, results=results)
    (file,) = await files_of(queue, jobs, job.name)
    assert (file.path, file.checksum.algorithm, file.checksum.value) == ("/data/one", "md5", "00ff")
    assert not file.destination_path
    assert (await get(queue, jobs, job.name)).state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (pb.Job(change_mode=pb.ChangeModeOperation(targets=at_a("/x"))), "job.change_mode.mode"),
        (pb.Job(change_mode=pb.ChangeModeOperation(targets=at_a("/x"), mode=0o10000)), "job.change_mode.mode"),
        (pb.Job(change_mode=pb.ChangeModeOperation(targets=at_a("/../b"), mode=0)), "job.change_mode.targets[0].path"),
        (pb.Job(checksum=pb.ChecksumOperation(targets=at_a("/x"), algorithm="crc32")), "job.checksum.algorithm"),
        (pb.Job(checksum=pb.ChecksumOperation()), "job.checksum.targets"),
    ],
)  # fmt: skip
async def test_what_is_unfit_is_named(queue: QueueServiceUnderTest, jobs: Jobs, job: pb.Job, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJob(pb.CreateJobRequest(job=job), metadata=queue.as_user())
    assert (reason_of(refused.value), fields_of(refused.value)) == ("INVALID_FIELDS", [field])


async def refused_fields(queue: QueueServiceUnderTest, jobs: Jobs, request: pb.CreateJobRequest) -> list[str]:
    """The fields with which a job is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJob(request, metadata=queue.as_user())
    assert reason_of(refused.value) == "INVALID_FIELDS"
    return fields_of(refused.value)


@pytest.mark.row("J8")
@pytest.mark.row("J10")
async def test_options_that_have_no_meaning_together_are_refused_by_name(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    request = with_options(
        pb.CopyOptions(delete_extraneous=True, include=["*.dat"], exclude=["tmp"]), pb.OVERWRITE_POLICY_ALWAYS
    )
    request.job.copy.recursive = False
    assert await refused_fields(queue, jobs, request) == [
        f"job.copy.options.{name}" for name in ("include", "exclude", "delete_extraneous")
    ]
    for policy in (pb.OVERWRITE_POLICY_UNSPECIFIED, pb.OVERWRITE_POLICY_NEVER, pb.OVERWRITE_POLICY_KEEP_BOTH):
        request = with_options(pb.CopyOptions(delete_extraneous=True), policy)
        assert await refused_fields(queue, jobs, request) == ["job.copy.options.delete_extraneous"]
    request = with_options(pb.CopyOptions(comparison=pb.COMPARISON_CHECKSUM), pb.OVERWRITE_POLICY_ALWAYS)
    assert await refused_fields(queue, jobs, request) == ["job.copy.options.comparison"]


@pytest.mark.row("J8")
async def test_a_copy_that_would_remove_what_it_copies_is_refused(queue: QueueServiceUnderTest, jobs: Jobs) -> None:
    request = with_options(pb.CopyOptions(delete_extraneous=True), pb.OVERWRITE_POLICY_IF_DIFFERENT)
    request.job.copy.items.add().CopyFrom(request.job.copy.items[0])
    request.job.copy.items[1].source.path = "/data/other"
    assert await refused_fields(queue, jobs, request) == ["job.copy.items[1].destination.path"]
    del request.job.copy.items[1:]
    request.job.copy.items[0].destination.CopyFrom(entry_pb2.Location(site="sites/a", path="/data"))
    assert await refused_fields(queue, jobs, request) == ["job.copy.items[0].source.path"]


@pytest.mark.row("J10")
async def test_pairs_take_options_and_refuse_what_has_no_meaning_for_them(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    options = pb.CopyOptions()
    options.CopyFrom(OPTIONS)
    options.delete_extraneous = options.dry_run = True
    source, destination = (
        entry_pb2.Location(site="sites/a", path="/from"),
        entry_pb2.Location(site="sites/b", path="/to"),
    )
    copy = pb.PairsCopy(source=source, destination=destination, options=options)

    async def stream() -> AsyncIterator[pb.CreateJobFromPairsRequest]:
        yield pb.CreateJobFromPairsRequest(copy=copy, pairs=[pb.FilePair(source_path=b"f", size_bytes=7)])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await jobs.CreateJobFromPairs(stream(), metadata=queue.as_user())
    names = ("include", "exclude", "delete_extraneous", "dry_run", "comparison")
    assert fields_of(refused.value) == [f"copy.options.{name}" for name in names]
    copy.options.CopyFrom(pb.CopyOptions(checksum_algorithm="sha256", keep_modify_times=False))
    made = await jobs.CreateJobFromPairs(stream(), metadata=queue.as_user())
    assert made.copy.options == copy.options
    async with queue.worker(bulk=1) as worker:
        assert (await worker.lease()).copy_files.options == copy.options


@pytest.mark.row("J5")
@pytest.mark.row("B6")
async def test_a_steady_copy_says_how_long_it_still_takes_and_when_it_was_measured(
    queue: QueueServiceUnderTest, jobs: Jobs
) -> None:
    async with queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        root = await worker.lease()
        await worker.report(root, found(chunks=[packed("one", "two", size_bytes=1 << 40)], directories_done=1))
        watch = jobs.WatchJob(pb.WatchJobRequest(name=job.name), metadata=queue.as_user())
        await worker.settle(root)
        chunk = await worker.lease()
        async with _moving(worker, chunk):
            while not (progress := (await next_of(watch)).job.progress).HasField("remaining_least"):
                assert not progress.HasField("remaining_most")
        least_s, most_s = progress.remaining_least.ToNanoseconds(), progress.remaining_most.ToNanoseconds()
        assert 0 < least_s <= most_s
        assert 0 < progress.measure_time.seconds <= (await get(queue, jobs, job.name)).progress.measure_time.seconds
        await worker.settle(chunk, done=b"\x03", files_done=2, bytes_done=2 << 40)
    ended = (await get(queue, jobs, job.name)).progress
    assert not ended.HasField("remaining_least")
    assert not ended.HasField("measure_time")


@contextlib.asynccontextmanager
async def _moving(worker: TestWorker, chunk: lease_service_pb2.Lease) -> AsyncIterator[None]:
    """Has a worker say all the time that bytes and files move."""

    async def go_on() -> None:
        for step in range(10_000):
            report = lease_service_pb2.TaskProgress(
                lease=chunk.lease, transferred_bytes=step << 20, files_done=step // 9
            )
            report.measure_time.GetCurrentTime()
            await worker.say(lease_service_pb2.ProgressReport(tasks=[report]))
            await asyncio.sleep(0.1)  # as workers do: a report is not news more often

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
