"""Flow 8: parties die in the middle of things, and what they held goes on or is done by others.

What becomes of a worker that is killed or frozen is in test_lost_workers.py, of a queue with one replica in
test_lost_queue.py, of a gateway in test_watching_through_restarts.py.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_queue.states import TaskState
from wherry_testing.deployment_processes import is_alive
from wherry_testing.flow_callers import ReplicaCaller, copy_between, copy_of
from wherry_testing.flows import FILE_BY_FILE, FlowDeployment, under_way, until
from wherry_testing.postgres import PostgresServer
from wherry_testing.queue_books import discrepancies
from wherry_testing.running_copies import COPY_FILES, Folders, same_trees, write_large, write_many

pytestmark = pytest.mark.row("D2")

MANY = 14
STALL_S = 15
LARGE_BYTES = 800_000_000
UNRESOLVED = "SITES_UNAVAILABLE"
_SLOWLY = ["--task-ms", "10000", "--spread", "fixed"]
"""Longer than a lease without renewal."""
TREE, TREE_FILES = "0x0x1250", 1250
"""Three chunks."""


@pytest.fixture(autouse=True)
def all_there_in_the_end(flow: FlowDeployment) -> Iterator[None]:
    yield
    for service in ("queue", "site"):
        flow.start_both(service)


def _running(flow: FlowDeployment, job: str, count: int) -> list[dict[str, Any]] | None:
    rows = [row for row in flow.task_rows(job) if row["kind"] == COPY_FILES and row["state"] == TaskState.RUNNING]
    return rows if len(rows) == count else None


def _chunks(flow: FlowDeployment, job: str) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in flow.task_rows(job) if row["kind"] == COPY_FILES}


def _assert_books(flow: FlowDeployment) -> None:
    """Fails where a counter of the queue is not what counting gives; nothing may run."""
    with flow.settled_books().connect() as connection:
        assert discrepancies(connection) == []


@dataclass(frozen=True)
class Outlived:
    """A copy of three chunks during which something died.

    Attributes:
        before: its running chunks at that time; `after` at the end.
        job: at its end.
    """

    before: Sequence[dict[str, Any]]
    after: dict[int, dict[str, Any]]
    job: pb.Job


# --- a replica of the queue


@pytest.fixture(scope="module")
def adopted(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, synthetic: Callable[[str], str]
) -> Outlived:
    """The replica that gave out the leases is killed; its worker knows the other one too."""
    with flow.worker(at=(0, 1), pretending=_SLOWLY):
        job = second.create(copy_of(synthetic(TREE), synthetic("0x0x0")))
        before = until(lambda: _running(flow, job.name, 3), "three chunks run")
        flow.service("queue", 0).kill()
        ended = second.ended(job.name)
    return Outlived(before, _chunks(flow, job.name), ended)


def test_the_leases_of_a_killed_replica_go_on_at_the_other_with_their_worker(adopted: Outlived) -> None:
    assert (adopted.job.state, adopted.job.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, TREE_FILES)
    for row in adopted.before:
        after = adopted.after[row["id"]]
        assert (after["settled_fence"], after["attempt_count"], after["lapses"]) == (row["fence"], 1, 0)


@pytest.fixture(scope="module")
def reaped(flow: FlowDeployment, second: ReplicaCaller, synthetic: Callable[[str], str]) -> Outlived:
    """The replica is killed with its worker, so that nobody brings its leases along."""
    flow.start_both("queue")
    with flow.worker(at=0, pretending=_SLOWLY) as worker:
        job = second.create(copy_of(synthetic(TREE), synthetic("0x0x0")))
        before = until(lambda: _running(flow, job.name, 3), "three chunks run")
        flow.service("queue", 0).kill()
        worker.kill()
    with flow.worker(at=1, pretending=[]):
        ended = second.ended(job.name)
    return Outlived(before, _chunks(flow, job.name), ended)


def test_the_leases_of_a_replica_that_died_with_its_worker_are_given_out_by_the_other(reaped: Outlived) -> None:
    assert (reaped.job.state, reaped.job.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, TREE_FILES)
    for row in reaped.before:
        after = reaped.after[row["id"]]
        assert after["settled_fence"] > row["fence"]
        assert (after["tries"], after["attempt_count"]) == (0, 2)


# --- PostgreSQL


@pytest.fixture(scope="module")
def restarted(
    flow: FlowDeployment,
    postgres_server: PostgresServer,
    first: ReplicaCaller,
    synthetic: Callable[[str], str],
) -> Outlived:
    """The database is away for a while in the middle of a copy."""
    flow.start_both("queue")
    with flow.worker(at=1, pretending=_SLOWLY) as worker:
        job = first.create(copy_of(synthetic(TREE), synthetic("0x0x0")))
        before = until(lambda: _running(flow, job.name, 3), "three chunks run")
        postgres_server.stop()
        try:
            for replica in (0, 1):
                queue = flow.service("queue", replica)
                until(partial(queue.events, "upkeep_interrupted"), "the replica has noticed")
        finally:
            postgres_server.start()
        ended = first.ended(job.name)
        assert worker.running
    return Outlived(before, _chunks(flow, job.name), ended)


def test_leases_outlive_a_restart_of_the_database(restarted: Outlived) -> None:
    assert (restarted.job.state, restarted.job.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, TREE_FILES)
    for row in restarted.before:
        after = restarted.after[row["id"]]
        assert (after["settled_fence"], after["attempt_count"], after["lapses"]) == (row["fence"], 1, 0)


@pytest.mark.row("D1")
def test_the_counters_are_right_after_all_of_that(
    flow: FlowDeployment, adopted: Outlived, reaped: Outlived, restarted: Outlived
) -> None:
    _assert_books(flow)


# --- the site service


def test_a_copy_that_runs_goes_on_without_the_site_service(
    flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_many(folders.source, MANY)
    folders.source_site.own("alice")
    with flow.worker(at=1, settings=FILE_BY_FILE):
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.arrived() >= 2)
        flow.kill_both("site")
        ended = first.ended(job.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(folders.source, folders.destination / "data")
    assert {row["attempt_count"] for row in flow.task_rows(job.name)} == {1}


def test_what_has_not_begun_waits_for_the_site_service_and_counts_no_attempt(
    flow: FlowDeployment, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    job = until(lambda: _created(first, synthetic), "the site service is known to be back")
    flow.kill_both("site")
    with flow.worker(at=1, pretending=["--credentials"]) as worker:
        until(lambda: worker.events("task_returned"), "the worker gets no credential, and gives the task back")
        flow.start_both("site")
        assert first.ended(job.name).state == pb.JOB_STATE_SUCCEEDED
    assert {row["tries"] for row in flow.task_rows(job.name)} == {0}


def _created(caller: ReplicaCaller, synthetic: Callable[[str], str]) -> pb.Job | None:
    job = caller.create(copy_of(synthetic("0x0x5"), synthetic("0x0x0")))
    if job.waiting_reason.reason != UNRESOLVED:
        return job
    caller.cancel(job.name)
    return None


@pytest.mark.row("J3")
def test_a_job_that_comes_in_without_the_site_service_is_accepted_and_done_when_that_is_back(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders, request_id = fresh_folders(), str(uuid.uuid4())
    write_many(folders.source, 2)
    folders.source_site.own("alice")
    job = copy_between(folders)
    assert not job.copy.items[0].source.path.startswith("/"), "where it begins only the site service knows"
    flow.kill_both("site")
    with flow.worker(at=1):
        accepted = first.create(job, request_id)
        assert (accepted.state, accepted.waiting_reason.reason) == (pb.JOB_STATE_QUEUED, UNRESOLVED)
        assert second.create(job, request_id).name == accepted.name
        flow.start_both("site")
        ended = second.ended(accepted.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(folders.source, folders.destination / "data")
    assert {row["attempt_count"] for row in flow.task_rows(accepted.name)} == {1}


# --- a worker that dies, and whose job is cancelled before another comes


@pytest.mark.row("J7")
def test_what_a_killed_worker_left_of_a_copy_that_was_cancelled_then_is_removed_by_the_next_one(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    with flow.worker(at=1) as lost:
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.moved_bytes() > LARGE_BYTES // 20)
        lost.kill()
    until(lambda: flow.task_rows(job.name) and not flow.task_rows_running(job.name), "the lease has lapsed")
    first.cancel(job.name)
    assert second.ended(job.name).state == pb.JOB_STATE_CANCELLED
    assert folders.temporaries()
    with flow.worker(at=0):
        until(lambda: not folders.temporaries(), "what was left is removed", 60)
        ended = until(lambda: _ended_clean_up(flow, job.name), "the clean-up has ended")
    (folders.source / "large.dat").unlink()
    assert list((folders.destination / "data").iterdir()) == []
    assert (ended["tasks_failed"], ended["tasks_cancelled"]) == (0, 0)
    listed = first.ask(first.jobs.ListJobs, pb.ListJobsRequest(page_size=1000)).jobs
    assert f"jobs/{ended['uid']}" not in {one.name for one in listed}
    with pytest.raises(grpc.RpcError) as hidden:
        first.get(f"jobs/{ended['uid']}")
    assert hidden.value.code() is grpc.StatusCode.NOT_FOUND
    _assert_books(flow)


def _ended_clean_up(flow: FlowDeployment, job: str) -> dict[str, Any] | None:
    statement = (
        "SELECT job.* FROM job JOIN task ON task.job_id = job.id "
        "WHERE task.cleans LIKE :copy AND job.ended_ms IS NOT NULL"
    )
    rows = flow.rows_of("queue", statement, copy=f"{job}/%")
    assert len(rows) <= 1
    return rows[0] if rows else None


# --- an engine that stands still


def test_an_engine_that_stands_still_is_killed_and_another_does_the_rest(
    flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    with flow.worker(at=1, settings=f"stall_s = {STALL_S}") as worker:
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.moved_bytes() > LARGE_BYTES // 20)
        engines = worker.children()
        assert engines
        for engine in engines:
            os.kill(engine, signal.SIGSTOP)
        # One of them may be idle: nobody waits for that one, and it is kept until it is needed or has idled for long.
        until(lambda: not all(is_alive(engine) for engine in engines), "the stopped engine is killed")
        ended = first.ended(job.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(folders.source, folders.destination / "data")
    assert folders.temporaries() == []
    (folders.source / "large.dat").unlink()
    (chunk,) = _chunks(flow, job.name).values()
    assert chunk["lapses"] == 0
