"""No-op tasks through the real queue service: leased over mTLS, "run", and settled, by one worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

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


def tasks_per_second(folder: Path, database_url: str, tasks: int, places: int) -> float:
    """Returns how many no-op tasks a second one worker with so many places gets through; each is durable when leased
    and when settled."""
    migrations.upgrade(database_url, "wherry_queue")
    return asyncio.run(_measure(folder, database_url, tasks, places))


async def _measure(folder: Path, database_url: str, tasks: int, places: int) -> float:
    await _submit(database_url, tasks)
    pki = TestPki(folder / "pki")
    async with _queue_process(pki, folder, database_url) as address, pki.channel("worker", address) as channel:
        stub = lease_service_pb2_grpc.LeaseServiceStub(channel)
        stream = stub.StreamLeases()
        await stream.write(pb.StreamLeasesRequest(open=pb.OpenStream(worker="bench")))
        await stream.read()
        begun_s = time.perf_counter()
        await stream.write(pb.StreamLeasesRequest(capacity=pb.Capacity(bulk=places)))
        done = 0
        settling: set[asyncio.Task[int]] = set()
        while done < tasks:
            message = await stream.read()
            assert isinstance(message, pb.StreamLeasesResponse)
            if message.leases:
                settling.add(asyncio.create_task(_settle(stub, [lease.lease for lease in message.leases])))
            finished = {task for task in settling if task.done()}
            settling -= finished
            done += sum(task.result() for task in finished)
            if settling and not message.leases:
                done += sum(await asyncio.gather(*settling))
                settling.clear()
            if done + sum(1 for _ in settling) * places >= tasks:
                done += sum(await asyncio.gather(*settling))
                settling.clear()
        taken_s = time.perf_counter() - begun_s
        stream.cancel()
        return tasks / taken_s


async def _settle(stub: lease_service_pb2_grpc.LeaseServiceAsyncStub, refs: list[pb.LeaseRef]) -> int:
    words = [
        pb.Settlement(lease=ref, outcome=pb.OUTCOME_COMPLETED, done=b"\x01", files_done=1, bytes_done=1) for ref in refs
    ]
    answer = await stub.SettleLeases(pb.SettleLeasesRequest(settlements=words))
    return sum(item.status == pb.SETTLEMENT_STATUS_ACCEPTED for item in answer.answers)


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
