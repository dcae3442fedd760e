"""What becomes of a copy when the queue service is killed in the middle of it and started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client
from wherry_testing.deployment import RealDeployment
from wherry_testing.running_copies import Folders, chunk_in_mid_copy, ended, same_trees, write_large, write_many

LARGE_BYTES = 800_000_000
SMALL_FILES = 3


@dataclass(frozen=True)
class Survived:
    """A copy during which the queue was killed, and the job at its end."""

    folders: Folders
    job: pb.Job


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def survived(request: pytest.FixtureRequest, fresh_folders: Callable[[], Folders]) -> Iterator[Survived]:
    names = {"sqlite": ("small", "small_client"), "postgresql": ("breakable", "client_there")}
    deployment, client = (request.getfixturevalue(name) for name in names[request.param])
    assert isinstance(deployment, RealDeployment)
    assert isinstance(client, Client)
    worker = deployment.only_worker()
    folders = fresh_folders()
    write_many(folders.source, SMALL_FILES)
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    started = folders.start(client)
    chunk_in_mid_copy(deployment, started.name, lambda: folders.moved_bytes() > LARGE_BYTES // 10)
    deployment.services["queue"].kill()
    deployment.services["queue"].start()
    deployment.services["queue"].wait_for_event("serving")
    yield Survived(folders, ended(client, started.name))
    if request.param == "sqlite":
        worker.terminate()
        worker.wait_for_end()


@pytest.mark.row("D2")
def test_a_copy_goes_on_after_the_queue_was_killed(survived: Survived) -> None:
    assert survived.job.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(survived.folders.source, survived.folders.destination / "data")


@pytest.mark.row("D2")
def test_no_temporary_file_remains_after_the_queue_was_killed(survived: Survived) -> None:
    assert survived.folders.temporaries() == []


@pytest.mark.row("D1")
def test_the_counters_are_right_after_the_queue_was_killed(survived: Survived) -> None:
    sizes = [path.stat().st_size for path in survived.folders.source.iterdir()]
    progress = survived.job.progress
    assert (progress.files_total, progress.files_done, progress.files_failed) == (len(sizes), len(sizes), 0)
    assert (progress.bytes_total, progress.bytes_done, progress.bytes_failed) == (sum(sizes), sum(sizes), 0)
