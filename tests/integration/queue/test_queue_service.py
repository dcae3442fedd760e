"""The queue service over mutual TLS, with workers whose every word the test says."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wherry.queue.v1 import file_service_pb2, job_service_pb2, lease_service_pb2, lease_service_pb2_grpc
from wherry.type.v1 import entry_pb2
from wherry_testing.pki import TestPki
from wherry_testing.queue_service import (
    QueueServiceUnderTest,
    copy_request,
    next_of,
    packed,
    read_to_end,
    running_queue_service,
)
from wherry_testing.refusals import reason_of
from wherry_testing.waiting import until


def found(cursor: bytes, **values: Any) -> lease_service_pb2.ReportEntriesRequest:
    return lease_service_pb2.ReportEntriesRequest(cursor=cursor, **values)


@pytest.mark.row("J5")
async def test_a_copy_goes_from_walk_to_chunk_to_success_and_the_watcher_sees_it(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        watch = jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=queue.as_user())
        seen = [await next_of(watch)]

        walk = await worker.lease()
        assert walk.walk_copy.source_path == b"/data/x"
        await worker.report(walk, found(b"z", chunks=[packed("one", "two")], directories_done=1))
        await worker.settle(walk)
        chunk = await worker.lease()
        assert chunk.copy_files.chunk == packed("one", "two")
        await worker.progress(chunk, 15)
        while not any(message.job.progress.bytes_moving == 15 for message in seen):
            seen.append(await next_of(watch))
        await worker.settle(chunk, done=b"\x03", files_done=2, bytes_done=20)
        while not seen[-1].last:
            seen.append(await next_of(watch))
        assert await watch.read() is grpc.aio.EOF
        final = seen[-1].job
        assert final.state == job_service_pb2.JOB_STATE_SUCCEEDED
        assert (final.progress.files_done, final.progress.bytes_done, final.progress.bytes_moving) == (2, 20, 0)
        assert all(not message.last for message in seen[:-1])


async def test_a_repeated_creation_gives_the_same_job(queue: QueueServiceUnderTest) -> None:
    request = copy_request()
    async with queue.jobs() as jobs:
        first = await jobs.CreateJob(request, metadata=queue.as_user())
        again = await jobs.CreateJob(request, metadata=queue.as_user())
    assert first.name == again.name


async def test_a_watch_of_a_job_that_waits_says_why(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        assert job.waiting_reason.reason == "NO_WORKER"


@pytest.mark.row("J3")
async def test_another_users_job_cannot_be_seen_watched_or_cancelled(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user("a"))
        other = queue.as_user("b")
        for call in (
            jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=other),
            jobs.CancelJob(job_service_pb2.CancelJobRequest(name=job.name), metadata=other),
            jobs.ListTasks(job_service_pb2.ListTasksRequest(parent=job.name), metadata=other),
            jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=other).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=other)
        assert not listed.jobs


async def test_a_site_that_one_is_not_signed_in_at_is_named(queue: QueueServiceUnderTest) -> None:
    queue.sites.signed_out.add(("users/a", "sites/b"))
    async with queue.jobs() as jobs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(copy_request(), metadata=queue.as_user("a"))
    assert reason_of(refused.value) == "SITE_SIGN_IN_REQUIRED"
    assert "Site B" in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (copy_request(source="/a/../b"), "job.copy.items[0].source.path"),
        (copy_request(destination="x\0y"), "job.copy.items[0].destination.path"),
        (job_service_pb2.CreateJobRequest(job=job_service_pb2.Job()), "job.operation"),
        (copy_request(priority=12), "job.priority"),
    ],
)
async def test_an_unfit_job_is_refused_with_the_field_named(
    queue: QueueServiceUnderTest, request_: job_service_pb2.CreateJobRequest, field: str
) -> None:
    async with queue.jobs() as jobs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(request_, metadata=queue.as_user())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # an AioRpcError is a call
    named = error_details_pb2.BadRequest()
    assert any(detail.Unpack(named) for detail in status.details)
    assert named.field_violations[0].field == field


async def test_a_listing_streams_to_its_caller_and_ends_with_the_last_message(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        location = entry_pb2.Location(site="sites/a", path="docs")
        stream = files.ListDirectory(file_service_pb2.ListDirectoryRequest(location=location), metadata=queue.as_user())
        lease = await worker.lease()
        assert lease.list.path == b"/home/user/docs"
        assert lease.work_class == lease_service_pb2.WORK_CLASS_INTERACTIVE
        entry = entry_pb2.Entry(name="a file", kind=entry_pb2.ENTRY_KIND_FILE, size_bytes=3)
        await worker.report(lease, found(b"a file", entries=[entry]))
        first = await next_of(stream)
        assert list(first.entries) == [entry]
        await worker.settle(lease)
        last = await next_of(stream)
        assert last.last
        assert not last.HasField("failure")
        assert await stream.read() is grpc.aio.EOF


async def test_a_listing_that_fails_says_why_in_its_last_message(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/none"))
        stream = files.ListDirectory(request, metadata=queue.as_user())
        lease = await worker.lease()
        failure = entry_pb2.Failure(reason="SOURCE_NOT_FOUND", message="there is no /none", retryable=False)
        await worker.settle(lease, lease_service_pb2.OUTCOME_FAILED, failure=failure)
        last = await next_of(stream)
        assert last.last
        assert last.failure.reason == "SOURCE_NOT_FOUND"


async def test_a_listing_that_nobody_takes_in_time_is_unavailable(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files:
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in files.ListDirectory(request, metadata=queue.as_user()):
                pass
    assert reason_of(refused.value) == "NO_WORKER"


async def test_a_caller_who_leaves_cancels_the_listing(queue: QueueServiceUnderTest) -> None:
    async with queue.files() as files, queue.worker(interactive=1, bulk=0) as worker:
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"))
        stream = files.ListDirectory(request, metadata=queue.as_user())
        lease = await worker.lease()
        stream.cancel()
        await worker.until(lambda: worker.cancelled)
        assert worker.cancelled[0].lease == lease.lease


async def test_bulk_work_never_takes_the_places_kept_for_listings(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.files() as files, queue.worker(interactive=1, bulk=1) as worker:
        for _ in range(3):
            await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        bulk = await worker.lease()
        request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/a", path="/d"))
        stream = files.ListDirectory(request, metadata=queue.as_user())
        listing = await worker.lease()
        assert bulk.HasField("walk_copy")
        assert listing.HasField("list")
        assert worker.leases_waiting() == 0
        stream.cancel()


@pytest.mark.row("W1")
async def test_work_spreads_over_workers_by_the_places_they_have(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker("w1", bulk=1) as one, queue.worker("w2", bulk=1) as two:
        for _ in range(2):
            await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        first, second = await one.lease(), await two.lease()
        assert first.lease != second.lease


@pytest.mark.row("J7")
async def test_cancelling_a_job_reaches_the_worker_that_runs_it(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        cancelled = await jobs.CancelJob(job_service_pb2.CancelJobRequest(name=job.name), metadata=queue.as_user())
        assert cancelled.state == job_service_pb2.JOB_STATE_CANCELLING
        await worker.until(lambda: worker.cancelled)
        assert worker.cancelled[0].lease == lease.lease
        await worker.settle(lease, lease_service_pb2.OUTCOME_CANCELLED)
        after = await jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=queue.as_user())
        assert after.state == job_service_pb2.JOB_STATE_CANCELLED


@pytest.mark.row("W2")
async def test_a_word_that_is_refused_takes_no_lease_from_anybody(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        invented = lease_service_pb2.Lease()
        invented.lease.task, invented.lease.fence = lease.lease.task, lease.lease.fence + 1000
        ended = entry_pb2.Failure(reason="SITE_SESSION_EXPIRED", message="signed out")
        returned = lease_service_pb2.OUTCOME_RETURNED
        status = await worker.settle(invented, returned, failure=ended, sign_in_site="sites/a")
        assert status == lease_service_pb2.SETTLEMENT_STATUS_STALE
        running = await jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=queue.as_user())
        assert running.state == job_service_pb2.JOB_STATE_EXPANDING
        await jobs.CancelJob(job_service_pb2.CancelJobRequest(name=job.name), metadata=queue.as_user())
        await worker.until(lambda: worker.cancelled)  # it has the lease still, here too
        assert worker.cancelled[0].lease == lease.lease


@pytest.mark.row("W4")
async def test_all_workers_are_told_of_sessions_that_have_ended_also_those_with_nothing_to_do(
    queue: QueueServiceUnderTest,
) -> None:
    async with queue.worker("w1") as one, queue.worker("w2") as two:
        queue.sites.sign_out("users/nobody", "sites/a")
        queue.sites.sign_out("users/a", "sites/b", expired=True)
        ended = [("users/nobody", "sites/a"), ("users/a", "sites/b")]
        for worker in (one, two):
            await worker.until(lambda worker=worker: len(worker.ended_sessions) == 2)
            assert [(session.user, session.site) for session in worker.ended_sessions] == ended


@pytest.mark.row("W4")
@pytest.mark.parametrize("ended", [False, True])
async def test_a_job_waits_for_a_sign_in_where_the_site_service_says_so_and_not_for_a_workers_word_alone(
    queue: QueueServiceUnderTest, ended: bool
) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=2) as worker:
        made = [await jobs.CreateJob(copy_request(), metadata=queue.as_user()) for _ in range(2)]
        leases = {lease.lease.task.rpartition("/tasks/")[0]: lease for lease in [await worker.lease() for _ in made]}
        asked = queue.sites.asked
        if ended:
            queue.sites.signed_out.add(("users/a", "sites/a"))  # nobody is told but who asks
        expired = entry_pb2.Failure(reason="SITE_SESSION_EXPIRED", message="signed out")
        returned = lease_service_pb2.OUTCOME_RETURNED
        await worker.settle(leases[made[0].name], returned, failure=expired, sign_in_site="sites/a")
        await until(lambda: queue.sites.asked > asked and bool(worker.cancelled) is ended)
        found = await jobs.GetJob(job_service_pb2.GetJobRequest(name=made[0].name), metadata=queue.as_user())
        assert (found.state == job_service_pb2.JOB_STATE_WAITING_FOR_SIGN_IN) is ended
        if ended:
            assert {stop.reason for stop in worker.cancelled} == {"SIGN_IN_REQUIRED"}
            assert all(stop.lease == leases[made[1].name].lease for stop in worker.cancelled)
        else:
            await worker.settle(leases[made[1].name])
            assert worker.cancelled == []


@pytest.mark.row("D2")
async def test_when_a_worker_is_lost_another_gets_its_task_with_a_higher_fence(
    lapsing_queue: QueueServiceUnderTest,
) -> None:
    async with lapsing_queue.jobs() as jobs:
        await jobs.CreateJob(copy_request(), metadata=lapsing_queue.as_user())
        async with lapsing_queue.worker("lost", bulk=1) as lost:
            first = await lost.lease()
        async with lapsing_queue.worker("next", bulk=1) as worker:
            second = await worker.lease()
            assert second.lease.task == first.lease.task
            assert second.lease.fence == first.lease.fence + 1
            status = await worker.settle(first)
            assert status == lease_service_pb2.SETTLEMENT_STATUS_STALE


@pytest.mark.row("D2")
async def test_a_worker_that_hangs_on_an_open_stream_loses_its_leases(lapsing_queue: QueueServiceUnderTest) -> None:
    async with lapsing_queue.jobs() as jobs, lapsing_queue.worker("hung", bulk=1) as hung:
        await jobs.CreateJob(copy_request(), metadata=lapsing_queue.as_user())
        first = await hung.lease()
        hung.fall_silent()
        async with lapsing_queue.worker("next", bulk=1) as worker:
            second = await worker.lease()
            assert (second.lease.task, second.lease.fence) == (first.lease.task, first.lease.fence + 1)
            assert await hung.settle(first) == lease_service_pb2.SETTLEMENT_STATUS_STALE


async def test_a_worker_that_comes_back_in_time_keeps_what_it_holds(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        async with queue.worker("w1", bulk=1) as worker:
            lease = await worker.lease()
        async with queue.worker("w1", bulk=1, held=[lease.lease]) as again:
            assert not again.opened.lost
            await again.until(lambda: again.renewed)
            assert again.renewed[0].lease == lease.lease
            await again.report(lease, found(b""))
            assert await again.settle(lease) == lease_service_pb2.SETTLEMENT_STATUS_ACCEPTED


async def test_a_worker_is_told_which_of_its_leases_it_has_lost(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        stale = lease_service_pb2.LeaseRef(task=f"{job.name}/tasks/1", fence=99)
        async with queue.worker("w1", bulk=0, held=[stale]) as worker:
            assert list(worker.opened.lost) == [stale]


@pytest.mark.row("D2")
async def test_leases_are_renewed_for_as_long_as_the_worker_is_there(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        await worker.until(lambda: len(worker.renewed) >= 10)
        assert {renewal.lease.fence for renewal in worker.renewed} == {lease.lease.fence}
        assert await worker.settle(lease) == lease_service_pb2.SETTLEMENT_STATUS_ACCEPTED


@pytest.mark.row("S6")
async def test_a_lease_token_is_bound_to_the_worker_and_signed_by_a_published_key(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker, queue.channel("site") as channel:
        await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        lease = await worker.lease()
        keys = await lease_service_pb2_grpc.LeaseKeyServiceStub(channel).GetLeaseKeys(
            lease_service_pb2.GetLeaseKeysRequest()
        )
        kid = jwt.get_unverified_header(lease.lease_token)["kid"]
        (public,) = [key.public_key for key in keys.keys if key.kid == kid]
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        claims = jwt.decode(
            lease.lease_token,
            Ed25519PublicKey.from_public_bytes(public),
            algorithms=["EdDSA"],
            audience="wherry-site",
            issuer="wherry-queue",
        )
        assert claims["cnf"] == {"x5t#S256": queue.pki.files("worker").thumbprint}
        assert (claims["task"], claims["fence"]) == (lease.lease.task, lease.lease.fence)
        assert claims["user"] == "users/a"
        assert claims["sites"] == ["sites/a", "sites/b"]
        assert 0 < claims["exp"] - claims["iat"] <= 20


@pytest.mark.row("A1", missing="every RPC x every role end to end")
async def test_only_workers_lease_and_only_the_site_service_gets_the_keys(queue: QueueServiceUnderTest) -> None:
    for name in ("client", "operator", "site"):
        async with queue.channel(name) as channel:
            stub = lease_service_pb2_grpc.LeaseServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.SettleLeases(
                    lease_service_pb2.SettleLeasesRequest(
                        settlements=[
                            lease_service_pb2.Settlement(
                                lease=lease_service_pb2.LeaseRef(task="jobs/x/tasks/1", fence=1),
                                outcome=lease_service_pb2.OUTCOME_COMPLETED,
                            )
                        ]
                    ),
                    metadata=queue.as_user(),
                )
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    async with queue.channel("worker") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await lease_service_pb2_grpc.LeaseKeyServiceStub(channel).GetLeaseKeys(
                lease_service_pb2.GetLeaseKeysRequest()
            )
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.row("U3", missing="session length, idle time-out")
async def test_a_revoked_session_ends_its_open_watches_and_can_do_nothing_more(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user("a", "session-9"))
        watch = jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=queue.as_user("a", "session-9"))
        await watch.read()
        queue.users.revoke("session-9")
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_to_end(watch), 5)
        assert reason_of(ended.value) == "SESSION_ENDED"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=queue.as_user("a", "session-9"))
        assert reason_of(refused.value) == "SESSION_ENDED"


async def test_a_stream_ends_at_its_maximum_age_so_that_workers_spread(
    pki: TestPki, database_url: str, tmp_path: Path
) -> None:
    async with (
        running_queue_service(pki, database_url, tmp_path, stream_max_age_s=0.5) as queue,
        queue.worker(bulk=1) as worker,
    ):
        await worker.until(lambda: worker.ended is not None)
        assert worker.ended is not None
        assert reason_of(worker.ended) == "STREAM_TOO_OLD"


async def test_requests_beyond_the_message_limit_are_refused(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs:
        request = copy_request(source="/" + "x" * 5_000_000)
        request.request_id = str(uuid.uuid4())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(request, metadata=queue.as_user())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.row("J5")
async def test_bytes_that_are_done_are_not_counted_as_moving_too(queue: QueueServiceUnderTest) -> None:
    async with queue.jobs() as jobs, queue.worker(bulk=1) as worker:
        job = await jobs.CreateJob(copy_request(), metadata=queue.as_user())
        request = job_service_pb2.GetJobRequest(name=job.name)
        walk = await worker.lease()
        await worker.report(walk, found(b"z", chunks=[packed("one"), packed("two", "three")]))
        await worker.settle(walk)
        chunk = await worker.lease()
        size_bytes = chunk.copy_files.chunk.total_bytes
        await worker.progress(chunk, size_bytes)
        watch = jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=queue.as_user())
        while (await next_of(watch)).job.progress.bytes_moving < size_bytes:
            pass
        files = chunk.copy_files.chunk.entry_count
        await worker.settle(chunk, done=bytes([(1 << files) - 1]), files_done=files, bytes_done=size_bytes)
        progress = (await jobs.GetJob(request, metadata=queue.as_user())).progress
        assert (progress.bytes_done, progress.bytes_moving) == (size_bytes, 0)
