"""W4: a job whose sign-in at a site has ended waits for the next one, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import wait_until
from wherry_testing.running_copies import Folders, ended, same_trees, write_many

pytestmark = pytest.mark.row("W4")

_MOST_LEASES = 4
"""A task that cannot run must not be leased again and again, as fast as it is given back."""


@dataclass(frozen=True)
class Waited:
    """A job whose user was signed out at the destination before any of it could run.

    Attributes:
        waiting: the job while it waited.
        leases: how often its first task was leased until it could run.
        job: at its end.
    """

    folders: Folders
    waiting: pb.Job
    leases: int
    job: pb.Job


@pytest.fixture(scope="module")
def waited(small: RealDeployment, small_client: Client, fresh_folders: Callable[[], Folders]) -> Waited:
    folders = fresh_folders()
    write_many(folders.source, 2)
    folders.source_site.own("alice")
    started = folders.start(small_client)
    small_client.site_sessions.sign_out("site-b")
    worker = small.only_worker()

    def parked() -> pb.Job | None:
        job = small_client.jobs.get(started.name)
        return job if job.state == pb.JOB_STATE_WAITING_FOR_SIGN_IN else None

    try:
        waiting = wait_until(parked, "the job waits for the sign-in", 20, 0.1)
        site = folders.destination_site
        small_client.site_sessions.sign_in(site.name, "bob", site.accounts["bob"])
        job = ended(small_client, started.name)
        leases = small.task_rows(started.name)[0]["attempt_count"]
    finally:
        worker.terminate()
        worker.wait_for_end()
    return Waited(folders, waiting, leases, job)


def test_a_job_without_a_sign_in_says_that_it_waits_for_one(waited: Waited) -> None:
    assert waited.waiting.waiting_reason.reason == "SIGN_IN_REQUIRED"


def test_a_job_goes_on_by_itself_after_the_sign_in(waited: Waited) -> None:
    assert waited.job.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(waited.folders.source, waited.folders.destination / "data")


def test_waiting_costs_no_attempt(waited: Waited) -> None:
    assert waited.job.progress.files_failed == 0
    assert 1 <= waited.leases <= _MOST_LEASES  # once, where the end of the session is known before a worker is there
