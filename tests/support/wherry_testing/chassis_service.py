"""A small real service on the chassis: the job service's contract, with handlers that a test sets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from wherry.queue.v1 import (
    job_service_pb2,
    job_service_pb2_grpc,
    lease_service_pb2,
    lease_service_pb2_grpc,
)
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Access
from wherry_chassis.identity import Caller, current_caller
from wherry_chassis.interceptors import chain
from wherry_chassis.server import Service, running
from wherry_chassis.sql import Database
from wherry_chassis.tokens import TokenVerifier
from wherry_testing.pki import TestPki


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """Answers with the names it is asked for; `on_get` and `on_watch` run meanwhile and can raise."""

    @classmethod
    def create(cls) -> Self:
        """Returns one; its other methods stay unimplemented."""
        return cls()

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.on_get: Callable[[], Awaitable[None]] | None = None
        self.on_watch: Callable[[], Awaitable[None]] | None = None
        self.watching = asyncio.Event()
        self.watch_ended = asyncio.Event()

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Any) -> job_service_pb2.Job:  # noqa: N802  # the contract's name
        self.callers.append(current_caller())
        if self.on_get is not None:
            await self.on_get()
        return job_service_pb2.Job(name=request.name)

    async def CreateJob(self, request: job_service_pb2.CreateJobRequest, context: Any) -> job_service_pb2.Job:  # noqa: N802  # as above
        return request.job

    async def WatchJob(  # noqa: N802  # as above
        self, request: job_service_pb2.WatchJobRequest, context: Any
    ) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """Sends one message and then waits for ever."""
        self.callers.append(current_caller())
        try:
            yield job_service_pb2.WatchJobResponse(job=job_service_pb2.Job(name=request.name))
            self.watching.set()
            if self.on_watch is not None:
                await self.on_watch()
            await asyncio.Event().wait()
        finally:
            self.watch_ended.set()


class Leases(lease_service_pb2_grpc.LeaseServiceServicer):
    """Reads what it is sent in a task group, as handlers of both-way streams do."""

    @classmethod
    def create(cls) -> Self:
        """Returns one; its other methods stay unimplemented."""
        return cls()

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    async def ReportEntries(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[lease_service_pb2.ReportEntriesRequest], context: Any
    ) -> lease_service_pb2.ReportEntriesResponse:
        self.callers.append(current_caller())
        async for _ in request_iterator:
            pass
        return lease_service_pb2.ReportEntriesResponse()

    async def StreamLeases(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[lease_service_pb2.StreamLeasesRequest], context: Any
    ) -> AsyncIterator[lease_service_pb2.StreamLeasesResponse]:
        answers: asyncio.Queue[bool] = asyncio.Queue()

        async def read() -> None:
            async for _ in request_iterator:
                await answers.put(True)
            await answers.put(False)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while await answers.get():
                yield lease_service_pb2.StreamLeasesResponse()


def health_stub(channel: grpc.aio.Channel) -> Any:
    """Returns a health client; the library's has no types."""
    return health_pb2_grpc.HealthStub(channel)


def reflection_stub(channel: Any) -> Any:
    """Returns a reflection client; the library's has no types."""
    return reflection_pb2_grpc.ServerReflectionStub(channel)


@contextlib.asynccontextmanager
async def chassis_service(
    pki: TestPki,
    folder: Path,
    verifier: TokenVerifier,
    *,
    jobs: Jobs | None = None,
    leases: Leases | None = None,
    access: dict[str, list[str]] | None = None,
    host: str = "queue",
    drained: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """Runs it within the block; gives its address."""
    jobs, leases = jobs or Jobs.create(), leases or Leases.create()

    def register(server: grpc.aio.Server) -> None:
        job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
        lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(leases, server)

    service = Service(
        name="queue",
        register=register,
        service_names=["wherry.queue.v1.JobService", "wherry.queue.v1.LeaseService"],
        interceptors=chain(build_table(Access(roles=pki.roles, rpc=access or {})), verifier),
        database=Database(f"sqlite:///{folder}/{host}.db"),
        drained=drained or asyncio.Event(),
    )
    async with running(service, "127.0.0.1:0", pki.material(host)) as port:
        yield f"127.0.0.1:{port}"
