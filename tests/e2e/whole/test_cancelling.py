"""Cancelling a copy that runs between two real sites."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import is_alive, wait_until
from wherry_testing.running_copies import Folders, ended, write_large

SIZE_BYTES = 800_000_000
REACHED_WITHIN_S = 1.0


@dataclass(frozen=True)
class CancelledCopy:
    """A copy that was cancelled in the middle.

    Attributes:
        reached_s: from the request to the end of the engine that copied.
        job: at its end.
    """

    folders: Folders
    reached_s: float
    job: pb.Job


@pytest.fixture(scope="module")
def cancelled(deployment: RealDeployment, alices_client: Client, fresh_folders: Callable[[], Folders]) -> CancelledCopy:
    folders = fresh_folders()
    write_large(folders.source / "large.dat", SIZE_BYTES)
    folders.source_site.own("alice")
    started = folders.start(alices_client)
    wait_until(lambda: folders.moved_bytes() > SIZE_BYTES // 20, "the copy is under way", 60, 0.005)
    engines = [engine for worker in deployment.workers for engine in worker.children()]
    began_s = time.monotonic()
    alices_client.jobs.cancel(started.name)
    wait_until(lambda: not all(is_alive(engine) for engine in engines), "the engine is gone", 10, 0.005)
    reached_s = time.monotonic() - began_s
    job = ended(alices_client, started.name)
    (folders.source / "large.dat").unlink()
    return CancelledCopy(folders, reached_s, job)


@pytest.mark.row("J7")
def test_a_cancel_reaches_a_running_copy_within_a_second(cancelled: CancelledCopy) -> None:
    assert cancelled.reached_s < REACHED_WITHIN_S


@pytest.mark.row("J7")
def test_a_cancelled_job_ends_as_cancelled(cancelled: CancelledCopy) -> None:
    assert cancelled.job.state == pb.JOB_STATE_CANCELLED
    assert cancelled.job.progress.files_done == 0


@pytest.mark.row("J7")
def test_a_cancelled_copy_leaves_neither_a_temporary_file_nor_a_part_of_one(cancelled: CancelledCopy) -> None:
    wait_until(lambda: not cancelled.folders.temporaries(), "the temporary file is gone", 10)
    assert cancelled.folders.arrived() == 0
