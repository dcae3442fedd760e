"""What a user waits for: a cancel that reaches the transfer, and a job of a million files that can still be handled.

The services are real processes, two replicas of the queue on PostgreSQL, over mutual TLS; every commit waits for the
disk. Nobody else does this work, so what is measured stands against the promise itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc as rpc
from wherry.type.v1 import entry_pb2
from wherry_testing.bare_deployment import Account, BareDeployment, eventually
from wherry_testing.deployment_processes import LoggedProcess
from wherry_testing.postgres import PostgresServer

from bench.measure import Bench, BenchmarkError, Measurement, benchmark

_GROUP = "jobs"
_CANCELS = 200
_TREE, _FILES = "/synthetic/99x1x10000-million", 1_000_000
"""A hundred directories of ten thousand files."""
_WORKERS = 3
_PAGES, _PAGE = 200, 100
_WALKED_WITHIN_S = 900.0


@benchmark(_GROUP)
async def cancels(bench: Bench) -> list[Measurement]:
    """From the request to the death of the engine that copies: caller and worker at different replicas."""
    server = PostgresServer(durable=True)
    try:
        place = BareDeployment(bench.folder / "centre", server=server, replicas=2)
        async with place.running() as centre:
            user = await centre.person("bench@example.org")
            root = bench.folder / "sites"
            for site in ("a", "b"):
                (root / site).mkdir(parents=True)
            worker = centre.start_worker("--root", str(root), program="wherry_fakes.folder_worker", replica=1)
            await centre.ready(worker, "stream_opened")
            jobs: Any = rpc.JobServiceStub(centre.channel("queue-0"))
            times_s = []
            for number in range(_CANCELS):
                times_s.append(await _cancel_one(jobs, user, root, worker, number))
                if number % 50 == 49:
                    bench.say(f"{number + 1} cancels, median {statistics.median(times_s) * 1000:.0f} ms")
    finally:
        server.remove()
    times_ms = sorted(taken_s * 1000 for taken_s in times_s)
    return [
        Measurement("jobs/cancel-p50-ms", statistics.median(times_ms), "ms"),
        Measurement("jobs/cancel-p99-ms", _quantile(times_ms, 0.99), "ms"),
    ]


async def _cancel_one(jobs: Any, user: Account, root: Path, worker: LoggedProcess, number: int) -> float:
    """Starts a copy that never ends and cancels it; returns how long its engine lived on, in seconds."""
    name = f"{number}-!stall"
    (root / "a" / name).write_bytes(b"x" * 1000)
    job = await _copy(jobs, user, f"/{name}", f"/{number}/{name}")
    # What has been begun at the destination: the engine is in the middle of it.
    await eventually(lambda: list((root / "b" / str(number)).glob(".wherry-*")), "the copy is under way", 30, 0.01)
    engines = worker.children()
    if len(engines) != 1:
        raise BenchmarkError(f"{len(engines)} engines run, so it cannot be told whose copy is cancelled")
    gone = _death_of(engines[0])
    began_s = time.perf_counter()
    await jobs.CancelJob(pb.CancelJobRequest(name=job.name), metadata=user.metadata)
    async with asyncio.timeout(30):
        taken_s = await gone - began_s
    await _until_ended(jobs, user, job.name)
    return taken_s


def _death_of(pid: int) -> asyncio.Future[float]:
    """Returns when a process ends, by `perf_counter`."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[float] = loop.create_future()
    watch = os.pidfd_open(pid)

    def over() -> None:
        ended.set_result(time.perf_counter())
        loop.remove_reader(watch)
        os.close(watch)

    loop.add_reader(watch, over)
    return ended


@benchmark(_GROUP)
async def a_million_files(bench: Bench) -> list[Measurement]:
    """A job of a million files: the queue's memory while it is walked, its pages at random places, its cancel."""
    server = PostgresServer(durable=True)
    try:
        place = BareDeployment(bench.folder / "centre", server=server, replicas=2)
        async with place.running() as centre:
            user = await centre.person("bench@example.org")
            for number in range(_WORKERS):
                # Chunks take long enough that most of them are still to be done when the walks have ended.
                centre.start_worker("--task-ms", "500", "--interactive", "1", "--bulk", "4", replica=number % 2)
            jobs: Any = rpc.JobServiceStub(centre.channel("queue-0"))
            began_s = time.perf_counter()
            job = await _copy(jobs, user, _TREE, "/copies", recursive=True)
            await _until_walked(jobs, user, job.name, bench)
            walked_s = time.perf_counter() - began_s
            bench.say(f"walked in {walked_s:.0f} s; a queue process had at most {_queue_peak_mb(centre):.0f} MB")
            files_ms = await _pages(bench, jobs, user, job.name, "ListJobFiles", pb.ListJobFilesRequest)
            tasks_ms = await _pages(bench, jobs, user, job.name, "ListTasks", pb.ListTasksRequest)
            cancels_ms = await _cancel_and_retry(jobs, user, job.name)
            peak_mb = _queue_peak_mb(centre)
            bench.say(f"cancels: {', '.join(f'{one:.0f}' for one in cancels_ms)} ms; at most {peak_mb:.0f} MB in all")
    finally:
        server.remove()
    return [
        Measurement("jobs/1e6-queue-peak-mb", peak_mb, "MB"),
        Measurement("jobs/1e6-walk", _FILES / walked_s, "files/s"),
        Measurement("jobs/1e6-page-ms", max(_quantile(files_ms, 0.95), _quantile(tasks_ms, 0.95)), "ms"),
        Measurement("jobs/1e6-cancel-ms", max(cancels_ms), "ms"),
    ]


async def _until_walked(jobs: Any, user: Account, name: str, bench: Bench) -> None:
    deadline_s = time.perf_counter() + _WALKED_WITHIN_S
    said_s = time.perf_counter()
    while True:
        now = await jobs.GetJob(pb.GetJobRequest(name=name), metadata=user.metadata)
        if now.progress.files_total == _FILES and now.state == pb.JOB_STATE_RUNNING:
            return
        if now.state > pb.JOB_STATE_RUNNING or time.perf_counter() > deadline_s:
            raise BenchmarkError(f"not walked: {now}")
        if time.perf_counter() - said_s > 15:
            said_s = time.perf_counter()
            bench.say(f"{now.progress.files_total} files known, {now.progress.files_done} done")
        await asyncio.sleep(0.5)


async def _pages(
    bench: Bench, jobs: Any, user: Account, name: str, method: str, request: Callable[..., Any]
) -> list[float]:
    """Returns how long pages at random places take, in milliseconds; the work goes on beside it."""
    call: Callable[..., Awaitable[Any]] = getattr(jobs, method)
    tokens, token = [""], ""
    while True:
        answer = await call(request(parent=name, page_size=1000, page_token=token), metadata=user.metadata)
        token = answer.next_page_token
        if not token:
            break
        tokens.append(token)
    dice = random.Random(1)
    times_ms = []
    for _ in range(_PAGES):
        asked = request(parent=name, page_size=_PAGE, page_token=dice.choice(tokens))
        began_s = time.perf_counter()
        await call(asked, metadata=user.metadata)
        times_ms.append((time.perf_counter() - began_s) * 1000)
    bench.say(
        f"{method}: {len(tokens)} pages of 1000; of {_PAGE}: median {statistics.median(times_ms):.1f} ms, "
        f"p95 {_quantile(times_ms, 0.95):.1f} ms"
    )
    return times_ms


async def _cancel_and_retry(jobs: Any, user: Account, name: str) -> list[float]:
    """Returns how long it takes until a cancel is answered, in milliseconds; it is opened again in between."""
    times_ms = []
    for number in range(3):
        if number:
            await jobs.RetryJob(pb.RetryJobRequest(name=name), metadata=user.metadata)
        began_s = time.perf_counter()
        await jobs.CancelJob(pb.CancelJobRequest(name=name), metadata=user.metadata)
        times_ms.append((time.perf_counter() - began_s) * 1000)
        await _until_ended(jobs, user, name)
    return times_ms


async def _copy(jobs: Any, user: Account, source: str, destination: str, *, recursive: bool = False) -> pb.Job:
    item = pb.CopyItem(
        source=entry_pb2.Location(site="sites/a", path=source),
        destination=entry_pb2.Location(site="sites/b", path=destination),
    )
    job = pb.Job(copy=pb.CopyOperation(items=[item], recursive=recursive))
    answer: pb.Job = await jobs.CreateJob(pb.CreateJobRequest(job=job), metadata=user.metadata)
    return answer


async def _until_ended(jobs: Any, user: Account, name: str) -> None:
    async for message in jobs.WatchJob(pb.WatchJobRequest(name=name), metadata=user.metadata, timeout=60):
        if message.last:
            return
    raise BenchmarkError(f"the watch of {name} ended before it")


def _queue_peak_mb(centre: BareDeployment) -> float:
    return max(_peak_mb(centre.services[f"queue-{replica}"].pid) for replica in range(centre.replicas))


def _peak_mb(pid: int) -> float:
    """Returns the most memory that a process ever had, resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchmarkError(f"there is no process {pid}")


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]
