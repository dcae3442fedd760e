"""The queue service as users and workers meet it: over mutual TLS, with stand-ins for the services that it asks.

async with running_queue_service(pki, database_url, tmp_path) as service:
    async with service.worker("w1", bulk=2) as worker:
        lease = await worker.lease()
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import zstandard
from wherry.queue.v1 import (
    admin_service_pb2_grpc,
    file_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    lease_service_pb2,
    lease_service_pb2_grpc,
)
from wherry.site.v1 import site_service_pb2_grpc
from wherry.type.v1 import entry_pb2
from wherry.user.v1 import user_service_pb2_grpc
from wherry_chassis.buildout import Buildout
from wherry_chassis.server import running
from wherry_fakes.site_directory import FakeSiteDirectory
from wherry_fakes.token_issuers import FakeUserKeys
from wherry_queue.app import build
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

_ROLES = ("user", "queue", "worker", "client", "operator", "gateway", "site")
DEADLINE_S = PATIENCE_S
_TTL_S = 20.0
"""Of leases; long, since a test and its service share a process: when that stands still, its workers seem silent."""


class TestWorker:
    """A worker whose every word the test says."""

    __test__ = False

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self.name = name
        self.stub = lease_service_pb2_grpc.LeaseServiceStub(channel)
        self.opened = lease_service_pb2.StreamOpened()
        self.cancelled: list[lease_service_pb2.CancelledLease] = []
        self.renewed: list[lease_service_pb2.RenewedLease] = []
        self.ended_sessions: list[lease_service_pb2.EndedSession] = []
        self.drained = False
        self.ended: grpc.aio.AioRpcError | None = None
        self.closed = False
        self._leases: asyncio.Queue[lease_service_pb2.Lease] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._stream: Any = None
        self._listener: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def open(
        self,
        *,
        interactive: int = 1,
        bulk: int = 1,
        held: Sequence[lease_service_pb2.LeaseRef] = (),
        version: str = "1.0",
    ) -> TestWorker:
        """Opens the stream and announces its places."""
        self._stream = self.stub.StreamLeases()
        opening = lease_service_pb2.OpenStream(worker=self.name, held=held, version=version)
        await self._write(lease_service_pb2.StreamLeasesRequest(open=opening))
        first = await asyncio.wait_for(self._stream.read(), DEADLINE_S)
        self.opened = first.opened
        self._take(first)
        await self.capacity(interactive, bulk)
        self._listener = asyncio.create_task(self._listen())
        self._heart = asyncio.create_task(self._beat())
        return self

    def fall_silent(self) -> None:
        """Says nothing more of itself; the stream stays open."""
        if self._heart is not None:
            self._heart.cancel()

    async def capacity(self, interactive: int, bulk: int) -> None:
        """Announces places."""
        places = lease_service_pb2.Capacity(interactive=interactive, bulk=bulk)
        await self._write(lease_service_pb2.StreamLeasesRequest(capacity=places))

    async def progress(self, lease: lease_service_pb2.Lease, transferred_bytes: int) -> None:
        """Reports progress."""
        task = lease_service_pb2.TaskProgress(lease=lease.lease, transferred_bytes=transferred_bytes)
        await self.say(lease_service_pb2.ProgressReport(tasks=[task]))

    async def say(self, report: lease_service_pb2.ProgressReport) -> None:
        """Reports progress as it is given."""
        await self._write(lease_service_pb2.StreamLeasesRequest(progress=report))

    async def lease(self) -> lease_service_pb2.Lease:
        """Returns the next lease."""
        return await asyncio.wait_for(self._leases.get(), DEADLINE_S)

    def leases_waiting(self) -> int:
        """How many leases have come and not been looked at."""
        return self._leases.qsize()

    async def until(self, condition: Any) -> None:
        """Waits until something that the stream brought makes a condition true."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)

    async def report(
        self, lease: lease_service_pb2.Lease, *batches: lease_service_pb2.ReportEntriesRequest
    ) -> lease_service_pb2.ReportEntriesResponse:
        """Reports batches on one stream."""
        for batch in batches:
            batch.lease.CopyFrom(lease.lease)
        answer: lease_service_pb2.ReportEntriesResponse = await self.stub.ReportEntries(iter(batches))
        return answer

    async def settle(
        self,
        lease: lease_service_pb2.Lease,
        outcome: lease_service_pb2.Outcome.ValueType = lease_service_pb2.OUTCOME_COMPLETED,
        **values: Any,
    ) -> lease_service_pb2.SettlementStatus.ValueType:
        """Settles a lease."""
        word = lease_service_pb2.Settlement(lease=lease.lease, outcome=outcome, **values)
        answer = await self.stub.SettleLeases(lease_service_pb2.SettleLeasesRequest(settlements=[word]))
        return answer.answers[0].status

    async def leave(self) -> None:
        """Cuts the stream."""
        self.fall_silent()
        if self._stream is not None:
            self._stream.cancel()
        tasks = [task for task in (self._listener, self._heart) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, message: lease_service_pb2.StreamLeasesRequest) -> None:
        async with self._writing:
            await self._stream.write(message)

    async def _beat(self) -> None:
        alive = lease_service_pb2.StreamLeasesRequest(progress=lease_service_pb2.ProgressReport())
        while True:
            await asyncio.sleep(self.opened.heartbeat_interval.ToNanoseconds() / 2e9)
            await self._write(alive)

    async def _listen(self) -> None:
        try:
            while (message := await self._stream.read()) is not grpc.aio.EOF:
                async with self._changed:
                    self._take(message)
                    self._changed.notify_all()
        except grpc.aio.AioRpcError as error:
            self.ended = error
        async with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, message: lease_service_pb2.StreamLeasesResponse) -> None:
        for lease in message.leases:
            self._leases.put_nowait(lease)
        self.cancelled += message.cancelled
        self.renewed += message.renewed
        self.ended_sessions += message.ended_sessions
        self.drained = self.drained or message.HasField("drain_grace")


@dataclass
class QueueServiceUnderTest:
    """A running queue service.

    Attributes:
        users: signs the tokens that it verifies.
        sites: the sites that it resolves.
    """

    pki: TestPki
    address: str
    users: FakeUserKeys
    sites: FakeSiteDirectory
    channels: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def channel(self, name: str = "client") -> grpc.aio.Channel:
        """Returns a channel for the bearer of a certificate."""
        return self.pki.channel(name, self.address)

    def as_user(self, user: str = "a", session: str = "session-1") -> Sequence[tuple[str, str]]:
        """Returns the metadata of calls of a user."""
        return [("authorization", f"Bearer {self.users.token(user, session=session)}")]

    @contextlib.asynccontextmanager
    async def worker(self, name: str = "w1", certificate: str = "worker", **opening: Any) -> AsyncIterator[TestWorker]:
        """Runs a worker's stream within the block."""
        async with self.channel(certificate) as channel:
            worker = await TestWorker(channel, name).open(**opening)
            try:
                yield worker
            finally:
                await worker.leave()

    @contextlib.asynccontextmanager
    async def admin(self, certificate: str = "operator") -> AsyncIterator[admin_service_pb2_grpc.AdminServiceAsyncStub]:
        """Gives a stub for what operators do."""
        async with self.channel(certificate) as channel:
            yield admin_service_pb2_grpc.AdminServiceStub(channel)

    @contextlib.asynccontextmanager
    async def jobs(self) -> AsyncIterator[job_service_pb2_grpc.JobServiceAsyncStub]:
        """Gives a stub for jobs."""
        async with self.channel() as channel:
            yield job_service_pb2_grpc.JobServiceStub(channel)

    @contextlib.asynccontextmanager
    async def files(self) -> AsyncIterator[file_service_pb2_grpc.FileServiceAsyncStub]:
        """Gives a stub for listings."""
        async with self.channel() as channel:
            yield file_service_pb2_grpc.FileServiceStub(channel)


def copy_request(source: str = "/data/x", destination: str = "/data/y", **job: Any) -> job_service_pb2.CreateJobRequest:
    """A recursive copy from site a to site b."""
    item = job_service_pb2.CopyItem(
        source=entry_pb2.Location(site="sites/a", path=source),
        destination=entry_pb2.Location(site="sites/b", path=destination),
    )
    copy = job_service_pb2.CopyOperation(items=[item], recursive=True)
    return job_service_pb2.CreateJobRequest(request_id=str(uuid.uuid4()), job=job_service_pb2.Job(copy=copy, **job))


def packed(*names: str, size_bytes: int = 10) -> lease_service_pb2.EntryChunk:
    """A chunk as a worker packs it."""
    entries = [lease_service_pb2.ChunkEntry(name=name.encode(), size_bytes=size_bytes) for name in names]
    payload = lease_service_pb2.ChunkEntries(entries=entries).SerializeToString()
    return lease_service_pb2.EntryChunk(
        payload=zstandard.compress(payload), entry_count=len(names), total_bytes=len(names) * size_bytes
    )


async def next_of(stream: Any) -> Any:
    """Returns a stream's next message; fails if it ends or stays silent."""
    message = await asyncio.wait_for(stream.read(), DEADLINE_S)
    assert message is not grpc.aio.EOF, "the stream ended without its last message"
    return message


async def read_to_end(stream: Any) -> None:
    """Reads a stream until it ends; raises what ends it."""
    while await stream.read() is not grpc.aio.EOF:
        pass


@contextlib.asynccontextmanager
async def running_queue_service(
    pki: TestPki, database_url: str, folder: Path, *, watch_heartbeat_s: float = 20, **lease: float
) -> AsyncIterator[QueueServiceUnderTest]:
    """Runs the service within the block; its database has to have the newest schema.

    Args:
        watch_heartbeat_s: `service.queue.heartbeat_s`.
        lease: keys of `[lease]`.
    """
    for role in _ROLES:
        pki.files(role)
    users, sites = FakeUserKeys(), FakeSiteDirectory()
    async with contextlib.AsyncExitStack() as stack:
        server = grpc.aio.server()
        user_service_pb2_grpc.add_KeyServiceServicer_to_server(users, server)
        user_service_pb2_grpc.add_RevocationServiceServicer_to_server(users, server)
        site_service_pb2_grpc.add_SiteDirectoryServiceServicer_to_server(sites, server)
        files = pki.files("user")
        credentials = grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())], files.ca.read_bytes(), require_client_auth=True
        )
        asked = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        await server.start()
        stack.push_async_callback(server.stop, None)
        service = build(_buildout(pki, database_url, folder, asked, watch_heartbeat_s, lease), 0)
        port = await stack.enter_async_context(running(service, "127.0.0.1:0", pki.material("queue")))
        yield QueueServiceUnderTest(pki, f"127.0.0.1:{port}", users, sites)


def _buildout(
    pki: TestPki, database_url: str, folder: Path, asked: str, watch_heartbeat_s: float, lease: dict[str, float]
) -> Buildout:
    def section(name: str, address: str, database: str) -> dict[str, object]:
        files = pki.files(name)
        return {"certificate": files.certificate, "key": files.key, "listen": [address], "database": database}

    worker = pki.files("worker")
    return Buildout.model_validate(
        {
            "deployment": {"name": "Test", "ca": pki.ca},
            "service": {
                "user": section("user", asked, "sqlite:///unused"),
                "site": section("site", asked, "sqlite:///unused") | {"key_encryption_key": "env:UNUSED"},
                "queue": section("queue", "127.0.0.1:0", database_url) | {"heartbeat_s": watch_heartbeat_s},
            },
            "worker": {"certificate": worker.certificate, "key": worker.key, "state": folder / "worker"},
            "lease": {"ttl_s": _TTL_S, "heartbeat_s": 0.3, "back_off_s": 0.01, "listing_wait_s": 2.0} | lease,
            "tokens": {"signing_key_encryption_key": "env:UNUSED"},
            "mail": {"host": "localhost", "port": 25, "sender": "wherry@localhost"},
            "access": {"roles": pki.roles},
        }
    )
