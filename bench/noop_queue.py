"""No-op tasks through the real queue service: leased over mTLS, "run", and settled, by one worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry_chassis import migrations
from wherry_chassis.sql import Database
from wherry_queue.jobs import NewJob, NewTask
from wherry_queue.states import TaskKind
from wherry_queue.store import submission
from wherry_testing.pki import TestPki
from wherry_testing.sites import free_ports

_BUILDOUT = """\
[deployment]
name = "bench"
ca = "{ca}"
[service.user]
listen = ["127.0.0.1:{user_port}"]
database = "sqlite:///unused.db"
certificate = "{queue_pem}"
key = "{queue_key}"
[service.site]
listen = ["127.0.0.1:{site_port}"]
database = "sqlite:///unused.db"
certificate = "{queue_pem}"
key = "{queue_key}"
key_encryption_key = "env:UNUSED"
[service.queue]
listen = ["127.0.0.1:{queue_port}"]
database = "{database}"
certificate = "{queue_pem}"
key = "{queue_key}"
[worker]
certificate = "{worker_pem}"
key = "{worker_key}"
state = "worker"
[tokens]
signing_key_encryption_key = "env:UNUSED"
[mail]
host = "localhost"
port = 25
sender = "wherry@localhost"
[logging]
level = "error"
[access.roles]
queue = ["{queue_subject}"]
worker = ["{worker_subject}"]
"""


async def tasks_per_second(folder: Path, database_url: str, tasks: int, places: int) -> float:
    """Returns how many no-op tasks a second one worker with so many places gets through.

    Each is durable when it is leased and when it is settled.
    """
    migrations.upgrade(database_url, "wherry_queue")
    await _submit(database_url, tasks)
    pki = TestPki(folder / "pki")
    async with _queue_process(pki, folder, database_url) as address, pki.channel("worker", address) as channel:
        stub = lease_service_pb2_grpc.LeaseServiceStub(channel)
        stream = stub.StreamLeases()
        await stream.write(pb.StreamLeasesRequest(open=pb.OpenStream(worker="bench")))
        await stream.read()
        work = _Work(stub, stream, tasks)
        begun_s = time.perf_counter()
        await stream.write(pb.StreamLeasesRequest(capacity=pb.Capacity(bulk=places)))
        running = [asyncio.create_task(work.read()), asyncio.create_task(work.beat())]
        await work.finished.wait()
        taken_s = time.perf_counter() - begun_s
        for task in running:
            task.cancel()
        stream.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return tasks / taken_s


class _Work:
    """A worker that settles whatever it gets at once, a call for each message of leases."""

    def __init__(self, stub: lease_service_pb2_grpc.LeaseServiceAsyncStub, stream: Any, tasks: int) -> None:
        self._stub = stub
        self._stream = stream
        self._left = tasks
        self.finished = asyncio.Event()

    async def read(self) -> None:
        async with asyncio.TaskGroup() as group:
            while isinstance(message := await self._stream.read(), pb.StreamLeasesResponse):
                if message.leases:
                    group.create_task(self._settle([lease.lease for lease in message.leases]))

    async def beat(self) -> None:
        """A silent worker's leases lapse."""
        while True:
            await asyncio.sleep(2)
            await self._stream.write(pb.StreamLeasesRequest(progress=pb.ProgressReport()))

    async def _settle(self, refs: list[pb.LeaseRef]) -> None:
        words = [
            pb.Settlement(lease=ref, outcome=pb.OUTCOME_COMPLETED, done=b"\x01", files_done=1, bytes_done=1)
            for ref in refs
        ]
        answer = await self._stub.SettleLeases(pb.SettleLeasesRequest(settlements=words))
        self._left -= sum(item.status == pb.SETTLEMENT_STATUS_ACCEPTED for item in answer.answers)
        if self._left <= 0:
            self.finished.set()


async def _submit(database_url: str, tasks: int) -> None:
    database = Database(database_url)
    chunk = NewTask(TaskKind.COPY_FILES, b"/a", b"/b", payload=b"x", entry_count=1, total_bytes=1)
    job = NewJob("users/bench", "sites/a", "sites/b", "copy", b"", [chunk] * tasks)
    await database.write(submission.submit, job)
    database.close()


@contextlib.asynccontextmanager
async def _queue_process(pki: TestPki, folder: Path, database_url: str) -> AsyncIterator[str]:
    queue, worker = pki.files("queue"), pki.files("worker")
    user_port, site_port, queue_port = free_ports(3)
    file = folder / "buildout.toml"
    file.write_text(
        _BUILDOUT.format(
            ca=pki.ca, database=database_url, user_port=user_port, site_port=site_port, queue_port=queue_port,
            queue_pem=queue.certificate, queue_key=queue.key, queue_subject=queue.subject,
            worker_pem=worker.certificate, worker_key=worker.key, worker_subject=worker.subject,
        )
    )  # fmt: skip
    command = [sys.executable, "-P", "-m", "wherry_queue", "serve", "--buildout", str(file)]
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "UNUSED": ""}
    )
    try:
        address = f"127.0.0.1:{queue_port}"
        async with asyncio.timeout(30), pki.channel("worker", address) as channel:
            await channel.channel_ready()
        yield address
    finally:
        process.kill()
        await process.wait()
