"""The interceptor chain around a real servicer, on a real server over mTLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc as stubs
from wherry.queue.v1 import lease_service_pb2, lease_service_pb2_grpc
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import DatabaseUnavailable, DomainError, InvalidFields, Kind
from wherry_chassis.revocations import Revocations
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.chassis_service import Jobs, Leases, chassis_service, health_stub, reflection_stub
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

_PARTIAL = "every RPC x every role end to end"
_DEADLINE_S = PATIENCE_S


class _Gone(DomainError):
    """There is no job {job}."""

    kind = Kind.NOT_FOUND
    reason = "JOB_NOT_FOUND"


class _Bench:
    """A running service, and what a test needs to call it."""

    def __init__(self, address: str, pki: TestPki, tokens: TokenMaker, revocations: Revocations, jobs: Jobs) -> None:
        self.address = address
        self.pki = pki
        self.tokens = tokens
        self.revocations = revocations
        self.jobs = jobs

    def user(self, **claims: Any) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.tokens.token(**claims)}"),)

    def channel(self, name: str = "client") -> grpc.aio.Channel:
        return self.pki.channel(name, self.address)


@pytest.fixture
async def bench(pki: TestPki, tmp_path: Path) -> AsyncIterator[_Bench]:
    tokens, revocations, jobs = TokenMaker(), Revocations(), Jobs.create()
    for name in ("client", "worker", "operator", "queue"):
        pki.files(name)
    async with chassis_service(pki, tmp_path, tokens.verifier(revocations), jobs=jobs) as address:
        yield _Bench(address, pki, tokens, revocations, jobs)


def _detail(error: grpc.aio.AioRpcError, message: Message) -> Any:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads
    assert status is not None
    for detail in status.details:
        if detail.Unpack(message):
            return message
    raise AssertionError(f"no {type(message).__name__} in {status}")


def _reason(error: grpc.aio.AioRpcError) -> str:
    info = _detail(error, error_details_pb2.ErrorInfo())
    assert info.domain == "wherry"
    return str(info.reason)


async def _read(stream: Any) -> Any:
    """Returns the next message of a stream."""
    async with asyncio.timeout(_DEADLINE_S):
        return await stream.read()


async def _get(bench: _Bench, channel: grpc.aio.Channel, **arguments: Any) -> pb.Job:
    return await stubs.JobServiceStub(channel).GetJob(pb.GetJobRequest(name="jobs/1"), timeout=_DEADLINE_S, **arguments)


async def test_a_call_reaches_the_servicer_with_its_caller(bench: _Bench) -> None:
    async with bench.channel() as channel:
        assert (await _get(bench, channel, metadata=bench.user())).name == "jobs/1"
    (caller,) = bench.jobs.callers
    assert caller.user_name == "users/alice"
    assert caller.peer.subject == bench.pki.files("client").subject
    assert caller.peer.thumbprint == bench.pki.files("client").thumbprint
    assert caller.peer.roles == {"client"}


@pytest.mark.row("A1", missing=_PARTIAL)
@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("Basic abc", "TOKEN_MISSING"),
        ("Bearer", "TOKEN_INVALID"),
        ("Bearer abc", "TOKEN_INVALID"),
    ],
)
async def test_a_call_that_needs_a_user_is_refused_without_a_valid_token(
    bench: _Bench, header: str | None, reason: str
) -> None:
    metadata = (("authorization", header),) if header else ()
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert _reason(caught.value) == reason
    assert bench.jobs.callers == []


@pytest.mark.row("A1", missing=_PARTIAL)
async def test_a_users_token_opens_nothing_that_is_for_workers_and_a_worker_is_no_user(bench: _Bench) -> None:
    async with bench.channel("client") as channel:
        call = lease_service_pb2_grpc.LeaseServiceStub(channel).ReportEntries(
            iter([_report()]), metadata=bench.user(), timeout=_DEADLINE_S
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert _reason(caught.value) == "ACCESS_DENIED"
    async with bench.channel("worker") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel)
        assert _reason(caught.value) == "TOKEN_MISSING"
        await lease_service_pb2_grpc.LeaseServiceStub(channel).ReportEntries(iter([_report()]), timeout=_DEADLINE_S)


@pytest.mark.row("A1", missing=_PARTIAL)
async def test_an_rpc_that_no_line_names_is_refused_to_everybody(pki: TestPki, tmp_path: Path) -> None:
    tokens = TokenMaker()
    nobody: dict[str, list[str]] = {"wherry.queue.v1.JobService/GetJob": []}
    async with chassis_service(pki, tmp_path, tokens.verifier(), access=nobody) as address:
        for name in ("client", "operator", "worker", "queue"):
            async with pki.channel(name, address) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stubs.JobServiceStub(channel).GetJob(
                        pb.GetJobRequest(name="jobs/1"), metadata=(("authorization", f"Bearer {tokens.token()}"),)
                    )
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_domain_error_becomes_its_code_with_reason_and_metadata(bench: _Bench) -> None:
    async def fail() -> None:
        raise _Gone(job="jobs/1")

    bench.jobs.on_get = fail
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel, metadata=bench.user())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "There is no job jobs/1."
    info = _detail(caught.value, error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain, dict(info.metadata)) == ("JOB_NOT_FOUND", "wherry", {"job": "jobs/1"})


async def test_an_error_that_nobody_foresaw_is_an_incident_whose_text_stays_in_the_log(bench: _Bench) -> None:
    async def fail() -> None:
        raise RuntimeError("hunter2 at 10.0.0.1")

    bench.jobs.on_get = fail
    with structlog.testing.capture_logs() as logs:
        async with bench.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _get(bench, channel, metadata=bench.user())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    told = f"{caught.value!r}{caught.value.trailing_metadata()}{rpc_status.from_call(caught.value)}"  # type: ignore[arg-type]  # as above
    assert "hunter2" not in told
    incident = _detail(caught.value, error_details_pb2.ErrorInfo()).metadata["incident"]
    (line,) = (line for line in logs if line["event"] == "incident")
    assert (line["incident"], line["method"]) == (incident, "wherry.queue.v1.JobService/GetJob")
    assert line["exc_info"]


async def test_a_stream_that_breaks_in_the_middle_is_an_incident_too(bench: _Bench) -> None:
    async def fail() -> None:
        raise RuntimeError("hunter2")

    bench.jobs.on_watch = fail
    async with bench.channel() as channel:
        stream = stubs.JobServiceStub(channel).WatchJob(
            pb.WatchJobRequest(name="jobs/1"), metadata=bench.user(), timeout=_DEADLINE_S
        )
        assert (await _read(stream)).job.name == "jobs/1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read(stream)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(caught.value)


async def test_domain_errors_out_of_a_task_group_are_no_incident(bench: _Bench) -> None:
    async def fail() -> None:
        async def one() -> None:
            raise _Gone(job="jobs/2")

        async with asyncio.TaskGroup() as group:
            group.create_task(one())

    bench.jobs.on_get = fail
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel, metadata=bench.user())
    assert _reason(caught.value) == "JOB_NOT_FOUND"


async def test_a_domain_error_beside_another_one_in_a_task_group_is_an_incident(bench: _Bench) -> None:
    async def fail() -> None:
        raise ExceptionGroup("both", [DatabaseUnavailable(), RuntimeError("hunter2")])

    bench.jobs.on_get = fail
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel, metadata=bench.user())
    assert _reason(caught.value) == "INTERNAL"


async def test_a_call_is_logged_with_method_outcome_and_request_id(bench: _Bench) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with bench.channel() as channel:
            await _get(bench, channel, metadata=bench.user())
            with pytest.raises(grpc.aio.AioRpcError):
                await _get(bench, channel)
            await health_stub(channel).Check(health_pb2.HealthCheckRequest())
    lines = [line for line in logs if line["event"] == "rpc"]
    assert [line["outcome"] for line in lines] == ["OK", "TOKEN_MISSING"]
    assert len({line["request_id"] for line in lines}) == 2
    assert "Bearer" not in str(logs)


def _location(site: str) -> entry_pb2.Location:
    return entry_pb2.Location(site=site)


@pytest.mark.row("S3", missing="of sites: only that unfit fields are named")
@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.CreateJobRequest(), ["job"]),
        (pb.CreateJobRequest(request_id="x" * 65, job=pb.Job()), ["request_id", "job.operation"]),
        (
            pb.CreateJobRequest(
                job=pb.Job(
                    priority=10,
                    copy=pb.CopyOperation(
                        items=[
                            pb.CopyItem(source=_location("sites/a"), destination=_location("sites/b")),
                            pb.CopyItem(source=_location("A!")),
                        ]
                    ),
                )
            ),
            ["job.copy.items[1].source.site", "job.copy.items[1].destination", "job.priority"],
        ),
    ],
)
async def test_unfit_fields_are_named_with_their_whole_path(
    bench: _Bench, request_: pb.CreateJobRequest, fields: list[str]
) -> None:
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.JobServiceStub(channel).CreateJob(request_, metadata=bench.user(), timeout=_DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = _detail(caught.value, error_details_pb2.BadRequest()).field_violations
    assert sorted(violation.field for violation in violations) == sorted(fields)
    assert all(violation.description for violation in violations)


async def test_a_request_with_a_thousand_unfit_fields_is_answered_and_not_cut_off(bench: _Bench) -> None:
    items = [pb.CopyItem(source=_location("A!")) for _ in range(1000)]
    request = pb.CreateJobRequest(job=pb.Job(copy=pb.CopyOperation(items=items)))
    async with bench.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.JobServiceStub(channel).CreateJob(request, metadata=bench.user(), timeout=_DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _reason(caught.value) == InvalidFields.reason


def _report(**changes: Any) -> lease_service_pb2.ReportEntriesRequest:
    return lease_service_pb2.ReportEntriesRequest(
        lease=lease_service_pb2.LeaseRef(task="jobs/1/tasks/1", fence=1), **changes
    )


async def test_every_message_of_a_stream_is_validated(bench: _Bench) -> None:
    async with bench.channel("worker") as channel:
        stub = lease_service_pb2_grpc.LeaseServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReportEntries(iter([_report(), _report(directories_done=7)]), timeout=_DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        (violation,) = _detail(caught.value, error_details_pb2.BadRequest()).field_violations
        assert violation.field == "directories_done"


async def test_an_unfit_message_names_its_field_where_the_handler_reads_in_a_task_group(bench: _Bench) -> None:
    async with bench.channel("worker") as channel:
        stream = lease_service_pb2_grpc.LeaseServiceStub(channel).StreamLeases(timeout=_DEADLINE_S)
        opening = lease_service_pb2.OpenStream(worker="w")
        await stream.write(lease_service_pb2.StreamLeasesRequest(open=opening))
        assert await _read(stream) is not grpc.aio.EOF
        await stream.write(lease_service_pb2.StreamLeasesRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read(stream)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert _detail(caught.value, error_details_pb2.BadRequest()).field_violations[0].field == "message"


async def test_a_message_above_four_mebibytes_is_refused(bench: _Bench) -> None:
    large = _report(entries=[entry_pb2.Entry(name="x" * (1 << 20)) for _ in range(5)])
    async with bench.channel("worker") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lease_service_pb2_grpc.LeaseServiceStub(channel).ReportEntries(iter([large]), timeout=_DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.row("D15")
@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.parametrize("subject", ["session-1", "users/alice"])
async def test_revocation_ends_an_open_stream_within_seconds_and_refuses_further_calls(
    bench: _Bench, subject: str
) -> None:
    async with bench.channel() as channel:
        stream = stubs.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name="jobs/1"), metadata=bench.user())
        other = stubs.JobServiceStub(channel).WatchJob(
            pb.WatchJobRequest(name="jobs/2"), metadata=bench.user(sub="bob", sid="session-2")
        )
        await _read(stream)
        await _read(other)
        await bench.jobs.watching.wait()
        bench.revocations.add(subject, time.time() + 600)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(5):
                await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert _reason(caught.value) == "SESSION_ENDED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _get(bench, channel, metadata=bench.user())
        assert _reason(caught.value) == "SESSION_ENDED"
        await _get(bench, channel, metadata=bench.user(sub="bob", sid="session-2"))
        assert not other.done()


@pytest.mark.row("D15")
async def test_revocation_ends_a_stream_whose_handler_runs_a_task_group(bench: _Bench) -> None:
    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())

            async def fails_when_cancelled() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    raise RuntimeError("while ending")

            group.create_task(fails_when_cancelled())

    bench.jobs.on_watch = wait
    async with bench.channel() as channel:
        stream = stubs.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name="jobs/1"), metadata=bench.user())
        await _read(stream)
        await bench.jobs.watching.wait()
        bench.revocations.add("session-1", time.time() + 600)
        bench.revocations.add("users/alice", time.time() + 600)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read(stream)
    assert _reason(caught.value) == "SESSION_ENDED"


async def test_a_caller_who_leaves_ends_the_handler(bench: _Bench) -> None:
    with structlog.testing.capture_logs() as logs:
        async with bench.channel() as channel:
            stream = stubs.JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name="jobs/1"), metadata=bench.user())
            await _read(stream)
            await bench.jobs.watching.wait()
            stream.cancel()
            async with asyncio.timeout(_DEADLINE_S):
                await bench.jobs.watch_ended.wait()
    assert "incident" not in [line["event"] for line in logs]


async def test_health_is_for_everybody_and_can_be_watched_by_operators(bench: _Bench) -> None:
    request = health_pb2.HealthCheckRequest(service="wherry.queue.v1.JobService")
    serving = health_pb2.HealthCheckResponse.SERVING
    async with bench.channel("client") as channel, bench.channel("operator") as operators:
        async with asyncio.timeout(_DEADLINE_S):
            watch = health_stub(operators).Watch(request)
            while (await _read(watch)).status != serving:
                pass
            watch.cancel()
        assert (await health_stub(channel).Check(request)).status == serving
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read(health_stub(channel).Watch(request))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.row("K2")
async def test_reflection_is_for_operators_and_lists_every_service(bench: _Bench) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with bench.channel("operator") as channel:
        stream = reflection_stub(channel).ServerReflectionInfo(iter([request]))
        answer = await _read(stream)
        names = [service.name for service in answer.list_services_response.service]
        assert {"wherry.queue.v1.JobService", "grpc.health.v1.Health"} <= set(names)
    async with bench.channel("client") as channel:
        stream = reflection_stub(channel).ServerReflectionInfo(iter([request]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read(stream)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_read_in_the_handler_of_a_worker_knows_the_workers_certificate(pki: TestPki, tmp_path: Path) -> None:
    leases = Leases.create()
    pki.files("worker")
    async with (
        chassis_service(pki, tmp_path, TokenMaker().verifier(), leases=leases) as address,
        pki.channel("worker", address) as channel,
    ):
        await lease_service_pb2_grpc.LeaseServiceStub(channel).ReportEntries(iter([_report()]))
    assert leases.callers[0].peer.thumbprint == pki.files("worker").thumbprint
    assert leases.callers[0].peer.roles == {"worker"}
