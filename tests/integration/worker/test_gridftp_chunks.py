"""Leases run against real GridFTP servers: whole walks and chunks, and copies that are stopped in the middle."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_testing.engine_conformance import names_in
from wherry_testing.sites import RealSite
from wherry_testing.waiting import until
from wherry_testing.worker_sites import site_access
from wherry_worker import running
from wherry_worker.attempt import Attempt
from wherry_worker.engine_process import EngineCommand, EngineLimits
from wherry_worker.engines import EnginePool
from wherry_worker.running import TaskRunner
from wherry_worker.work import ChunkItem, CopyChunk, Lease, LeaseRef, Outcome, WalkCopy, WalkRemove, Work, WorkClass

#: Large enough that a test can stop the copy in its middle, whatever the disks do; sparse at the source.
LARGE = 4 << 30
#: Large enough to be caught moving, and soon there.
MIDDLING = 1 << 30


@dataclass
class Bench:
    """A runner from Alice's folder at site A to Bob's at site B, with a queue in memory."""

    runner: TaskRunner
    queue: FakeQueue
    pool: EnginePool
    access: FakeSites
    source: Path
    destination: Path
    sites: tuple[RealSite, RealSite]

    def attempt(self, work: Work, *, fence: int = 1, seconds: float = 60) -> Attempt:
        ref = LeaseRef("jobs/j/tasks/5", fence)
        end = time.monotonic() + seconds
        other = "sites/site-a" if isinstance(work, WalkRemove) else "sites/site-b"
        return Attempt(Lease(ref, end, "t", WorkClass.BULK, "users/1", "sites/site-a", other, 1, work))

    def large(self, size_bytes: int = LARGE) -> CopyChunk:
        with (self.source / "large").open("wb") as file:
            file.truncate(size_bytes)
        (self.source / "small").write_bytes(b"small")
        self.sites[0].own("alice")
        return CopyChunk("/", "/", (ChunkItem("large", "", size_bytes), ChunkItem("small", "", 5)), b"")


@pytest.fixture
async def bench(
    two_sites: tuple[RealSite, RealSite],
    credentials: tuple[Path, Path],
    folders: tuple[Path, Path],
    tmp_path: Path,
) -> AsyncIterator[Bench]:
    (tmp_path / "engines").mkdir()
    pool = EnginePool(tmp_path / "engines", EngineCommand(), EngineLimits())
    accesses = (
        site_access(two_sites[0], "alice", credentials[0], below="work"),
        site_access(two_sites[1], "bob", credentials[1], below="work"),
    )
    queue = FakeQueue()
    access = FakeSites(*accesses)
    runner = TaskRunner(access, queue, pool, {"gsiftp": "gfal2"})
    yield Bench(runner, queue, pool, access, *folders, two_sites)
    await pool.close()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                path.unlink()


def written(folder: Path) -> int:
    """Bytes that have arrived under temporary names."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith(".wherry-"))


@pytest.mark.row("J7")
async def test_a_cancel_ends_a_running_copy_within_a_second_and_nothing_is_left(bench: Bench) -> None:
    attempt = bench.attempt(bench.large())
    copying = asyncio.create_task(bench.runner.run(attempt))
    await until(lambda: written(bench.destination) > 0, within_s=30)
    started = time.monotonic()
    await attempt.stop("JOB_CANCELLED")
    assert time.monotonic() - started < 1
    settlement = await copying
    assert settlement.outcome is Outcome.CANCELLED
    assert names_in(bench.destination) == []


@pytest.mark.row("J7")
async def test_a_pause_lets_the_moving_copy_end_and_starts_no_other(bench: Bench) -> None:
    attempt = bench.attempt(bench.large(MIDDLING))
    copying = asyncio.create_task(bench.runner.run(attempt))
    await until(lambda: written(bench.destination) > 0, within_s=30)
    await attempt.pause()
    settlement = await copying
    assert (settlement.outcome, settlement.done, settlement.failures) == (Outcome.COMPLETED, b"\x01", ())
    assert names_in(bench.destination) == ["large"]
    assert (bench.destination / "large").stat().st_size == MIDDLING


@pytest.mark.row("W4")
@pytest.mark.row("B4")
async def test_a_copy_that_outlasts_the_session_stops_before_its_end_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEAST_CREDENTIAL_S", 0)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=running.SESSION_MARGIN_S + 2.5)
    bench.access.accesses["sites/site-b"] = replace(
        bench.access.accesses["sites/site-b"], expires=soon, session_expires=soon
    )
    settlement = await bench.runner.run(bench.attempt(bench.large()))
    assert dt.datetime.now(dt.UTC) < soon
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.RETURNED, "SITE_SESSION_EXPIRED")
    assert (settlement.sign_in_site, settlement.done) == ("sites/site-b", b"\x00")
    assert names_in(bench.destination) == []
    assert bench.pool.known("users/1", ["sites/site-a", "sites/site-b"]) == []


@pytest.mark.row("W2")
@pytest.mark.row("D2")
async def test_a_copy_stops_before_its_lease_ends_and_the_next_lease_begins_cleanly(bench: Bench) -> None:
    chunk = bench.large()
    settlement = await bench.runner.run(bench.attempt(chunk, seconds=2.5))
    assert settlement.outcome is Outcome.RETURNED
    assert names_in(bench.destination) == []
    os.truncate(bench.source / "large", 1000)
    again = await bench.runner.run(bench.attempt(chunk, fence=2))
    assert (again.outcome, again.files_done, again.done) == (Outcome.COMPLETED, 2, b"\x03")
    assert names_in(bench.destination) == ["large", "small"]


async def test_progress_tells_the_bytes_that_arrive(bench: Bench) -> None:
    attempt = bench.attempt(bench.large())
    copying = asyncio.create_task(bench.runner.run(attempt))
    await until(lambda: attempt.transferred_bytes > 0 or copying.done(), within_s=60)
    assert 0 < attempt.transferred_bytes <= LARGE + 5
    await attempt.stop("JOB_CANCELLED")
    await copying


@pytest.mark.row("J6")
async def test_a_directory_is_walked_copied_and_removed(bench: Bench) -> None:
    (bench.source / "d" / "empty dir").mkdir(parents=True)
    (bench.source / "d" / "näme #1").write_bytes(b"1")
    (bench.source / "d" / "link").symlink_to("/etc")
    bench.sites[0].own("alice")
    walk = WalkCopy("/d", "/to/here", root=True, recursive=True, cursor="")
    assert (await bench.runner.run(bench.attempt(walk))).outcome is Outcome.COMPLETED
    (found,) = bench.queue.reported
    assert (found.directories, [why.problem.reason for why in found.skipped]) == (
        ("empty dir",),
        ["SYMLINK_SKIPPED"],
    )
    copied = await bench.runner.run(bench.attempt(CopyChunk("/d", "/to/here", found.chunks[0], b"")))
    assert copied.files_done == 1
    assert names_in(bench.destination / "to" / "here") == ["näme #1"]
    (bench.source / "precious").mkdir()
    (bench.source / "precious" / "file").touch()
    (bench.source / "link").symlink_to("precious")
    bench.sites[0].own("alice")
    await bench.runner.run(bench.attempt(WalkRemove("/link", root=True, recursive=True, cursor="")))
    assert names_in(bench.source) == ["d", "precious"]
    assert names_in(bench.source / "precious") == ["file"]
