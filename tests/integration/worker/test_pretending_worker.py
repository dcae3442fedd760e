"""The worker process that only pretends, over real mTLS: what benchmarks and chaos runs stand on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry_chassis.tls import server_credentials
from wherry_fakes.scripted_leases import ScriptedServices
from wherry_testing.buildout_text import BUILDOUT
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker.packing import pack_chunk, unpack_chunk
from wherry_worker.work import ChunkItem

_TREE = Path(__file__).resolve().parents[3]


@pytest.fixture
async def scripted(pki: TestPki) -> AsyncIterator[tuple[ScriptedServices, int]]:
    services = ScriptedServices()
    server = grpc.aio.server()
    lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(services, server)
    port = server.add_secure_port("localhost:0", server_credentials(pki.material("queue")))
    await server.start()
    yield services, port
    await server.stop(None)


@asynccontextmanager
async def started(pki: TestPki, folder: Path, port: int, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process; killed at the end if it still runs."""
    pki.files("worker")
    text = BUILDOUT.replace("hosts/", f"{pki.folder}/")
    queue = text.index("[service.queue]")
    text = text[:queue] + text[queue:].replace("127.0.0.1:0", f"localhost:{port}", 1)
    (folder / "buildout.toml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wherry_fakes.pretending_worker",
        *("--buildout", str(folder / "buildout.toml"), *options),
        env=os.environ | {"PYTHONPATH": str(_TREE / "tests" / "fakes")},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lease(task: int = 1, **work: object) -> pb.Lease:
    message = pb.Lease(
        lease=pb.LeaseRef(task=f"jobs/j-1/tasks/{task}", fence=1),
        lease_token="token",
        work_class=pb.WORK_CLASS_BULK,
        user="users/1",
        source_site="sites/a",
        destination_site="sites/b",
        attempt=1,
        **work,  # type: ignore[arg-type]  # one of the message's kinds of work
    )
    message.time_left.FromSeconds(60)
    return message


async def test_a_pretending_process_walks_and_copies_over_real_connections_and_drains(
    scripted: tuple[ScriptedServices, int], pki: TestPki, tmp_path: Path
) -> None:
    services, port = scripted
    walk = pb.WalkCopyWork(source_path=b"/synthetic/3x2x250", destination_path=b"/x", root=True, recursive=True)
    chunk = pack_chunk([ChunkItem(f"f{number}", "", 10) for number in range(50)])
    copy = pb.CopyFilesWork(source_directory=b"/s", destination_directory=b"/d", chunk=chunk)
    services.down = [pb.StreamLeasesResponse(leases=[lease(1, walk_copy=walk), lease(2, copy_files=copy)])]
    async with started(
        pki, tmp_path, port, "--process", "3", "--task-ms", "5", "--fail-rate", "0.2", "--seed", "1"
    ) as process:
        await until(lambda: sum(len(request.settlements) for request in services.settled) == 2, within_s=20)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    settled = {item.lease.task: item for request in services.settled for item in request.settlements}
    assert {item.outcome for item in settled.values()} == {pb.OUTCOME_COMPLETED}
    copied = settled["jobs/j-1/tasks/2"]
    assert copied.files_done + len(copied.failures) == 50
    assert 0 < len(copied.failures) < 25
    assert services.said[0].open.worker.endswith(f"pretending-3-{process.pid}")
    assert any(said.HasField("drain") for said in services.said)
    assert services.said[0].open.version == version("wherry-worker")
    (report,) = services.reported
    assert (list(report.directories), report.directories_done) == ([b"d000", b"d001", b"d002"], 1)
    names = [item.name for part in report.chunks for item in unpack_chunk(part)]
    assert names == [f"f{number:06}" for number in range(250)]


@pytest.mark.row("W1")
async def test_a_process_that_the_queue_drains_gives_back_what_does_not_end_and_leaves_with_status_0(
    scripted: tuple[ScriptedServices, int], pki: TestPki, tmp_path: Path
) -> None:
    services, port = scripted
    chunk = pack_chunk([ChunkItem(f"f{number}", "", 10) for number in range(500)])
    copy = pb.CopyFilesWork(source_directory=b"/s", destination_directory=b"/d", chunk=chunk)
    drain = pb.StreamLeasesResponse()
    drain.drain_grace.FromSeconds(2)
    services.down = [pb.StreamLeasesResponse(leases=[lease(copy_files=copy)]), drain]
    async with started(pki, tmp_path, port, "--task-ms", "60000", "--spread", "fixed", "--name", "w") as process:
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    ((settled,),) = [request.settlements for request in services.settled]
    assert (settled.outcome, settled.failure.reason) == (pb.OUTCOME_RETURNED, "WORKER_DRAINED")
    assert 0 < settled.files_done < 500
    assert sum(byte.bit_count() for byte in settled.done) == settled.files_done
    assert services.said[0].open.worker == "w"
    assert any(said.HasField("drain") for said in services.said)
