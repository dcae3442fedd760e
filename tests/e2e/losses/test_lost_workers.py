"""What becomes of a copy whose worker is killed, or stops and wakes up too late."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client
from wherry_client.jobs import ENDED
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import LoggedProcess, is_alive, wait_until
from wherry_testing.running_copies import (
    Folders,
    JobObserver,
    chunk_in_mid_copy,
    ended,
    same_trees,
    write_large,
    write_many,
)

LARGE_BYTES = 300_000_000
VERY_LARGE_BYTES = 800_000_000
MANY = 450
"""One chunk, over within a second."""


@dataclass(frozen=True)
class Interrupted:
    """A copy whose first worker was lost in the middle.

    Attributes:
        before: the task's row when the worker was killed.
        other: the worker that was started then.
        engines: the processes that the killed one had.
        seen: the job as its owner saw it from then on.
        tasks: the rows at the end.
    """

    folders: Folders
    before: dict[str, Any]
    other: LoggedProcess
    engines: Sequence[int]
    seen: Sequence[pb.Job]
    job: pb.Job
    tasks: Sequence[dict[str, Any]]

    def task(self) -> dict[str, Any]:
        """Returns the task's row at the end."""
        (row,) = [row for row in self.tasks if row["id"] == self.before["id"]]
        return row


def _interrupted(
    breakable: RealDeployment, client: Client, folders: Folders, under_way: Callable[[], object]
) -> Interrupted:
    lost = breakable.only_worker()
    started = folders.start(client)
    before = chunk_in_mid_copy(breakable, started.name, under_way)
    engines = lost.children()
    lost.kill()
    with JobObserver(client, started.name) as observer:
        other = breakable.start_worker()
        job = ended(client, started.name)
    return Interrupted(folders, before, other, engines, observer.seen, job, breakable.task_rows(started.name))


@pytest.fixture(scope="module")
def large(breakable: RealDeployment, client_there: Client, fresh_folders: Callable[[], Folders]) -> Interrupted:
    """A large file whose worker was killed when a part of it had arrived."""
    folders = fresh_folders()
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    return _interrupted(breakable, client_there, folders, lambda: folders.moved_bytes() > LARGE_BYTES // 20)


@pytest.fixture(scope="module")
def many(breakable: RealDeployment, client_there: Client, fresh_folders: Callable[[], Folders]) -> Interrupted:
    """A chunk of files whose worker was killed when some of them had arrived."""
    folders = fresh_folders()
    write_many(folders.source, MANY)
    folders.source_site.own("alice")
    return _interrupted(breakable, client_there, folders, lambda: folders.arrived() >= 3)


@pytest.fixture(params=["large", "many"])
def interrupted(request: pytest.FixtureRequest) -> Interrupted:
    """Each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Interrupted)
    return found


@pytest.mark.row("D2")
def test_another_worker_finishes_the_copy_of_one_that_was_killed(
    breakable: RealDeployment, interrupted: Interrupted
) -> None:
    assert interrupted.job.state == pb.JOB_STATE_SUCCEEDED
    (attempt,) = breakable.attempts(interrupted.before["id"])
    assert attempt["worker"] == interrupted.other.name_at_the_queue()


@pytest.mark.row("D2")
def test_the_destination_of_an_interrupted_copy_holds_the_right_bytes(interrupted: Interrupted) -> None:
    assert same_trees(interrupted.folders.source, interrupted.folders.destination / "data")


@pytest.mark.row("D2")
def test_no_temporary_file_of_the_killed_worker_remains(interrupted: Interrupted) -> None:
    assert interrupted.folders.temporaries() == []


@pytest.mark.row("D1")
def test_an_interrupted_copy_counts_every_file_and_byte_once(interrupted: Interrupted) -> None:
    files = [path for path in interrupted.folders.source.rglob("*") if path.is_file()]
    progress = interrupted.job.progress
    assert (progress.files_total, progress.files_done, progress.files_failed) == (len(files), len(files), 0)
    size_bytes = sum(path.stat().st_size for path in files)
    assert (progress.bytes_total, progress.bytes_done, progress.bytes_failed) == (size_bytes, size_bytes, 0)
    assert (progress.directories_total, progress.directories_done, progress.tasks_open) == (1, 1, 0)


@pytest.mark.row("D1")
def test_a_job_never_reads_as_ended_while_the_work_of_a_lost_worker_is_left(interrupted: Interrupted) -> None:
    unfinished = [job for job in interrupted.seen if job.progress.files_done < job.progress.files_total]
    assert len(unfinished) > 5
    assert [pb.JobState.Name(job.state) for job in unfinished if job.state in ENDED] == []


@pytest.mark.row("W2")
def test_the_next_lease_of_the_task_has_a_higher_fence(interrupted: Interrupted) -> None:
    assert interrupted.task()["fence"] > interrupted.before["fence"]
    assert interrupted.task()["settled_fence"] == interrupted.task()["fence"]


@pytest.mark.row("D2")
def test_the_engines_of_a_killed_worker_die_with_it(interrupted: Interrupted) -> None:
    assert interrupted.engines
    wait_until(lambda: not any(is_alive(pid) for pid in interrupted.engines), "the engines are gone", 5)


@pytest.mark.row("D2")
def test_a_lost_worker_costs_the_task_no_attempt(interrupted: Interrupted) -> None:
    assert (interrupted.task()["lapses"], interrupted.task()["tries"]) == (1, 0)


@pytest.mark.row("B9")
def test_another_worker_goes_on_with_a_large_file_where_a_killed_one_ended(
    breakable: RealDeployment, client_there: Client, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_large(folders.source / "large.dat", VERY_LARGE_BYTES)
    folders.source_site.own("alice")
    there: list[int] = []

    def half_there() -> bool:
        if folders.moved_bytes() < VERY_LARGE_BYTES // 3:
            return False
        there.extend(path.stat().st_ino for path in folders.temporaries())
        return True

    found = _interrupted(breakable, client_there, folders, half_there)
    copy = folders.destination / "data" / "large.dat"
    assert found.job.state == pb.JOB_STATE_SUCCEEDED
    assert [copy.stat().st_ino] == there
    assert same_trees(folders.source, folders.destination / "data")
    assert found.job.progress.bytes_done == VERY_LARGE_BYTES
    assert folders.temporaries() == []
    assert (found.task()["lapses"], found.task()["tries"]) == (1, 0)


# --- a worker that stops for longer than its lease, and wakes up


@dataclass(frozen=True)
class WokenUp:
    """A copy whose worker and engine stood still past the lease, and then went on.

    Attributes:
        before: the task's row when they were stopped.
        other: the worker that was started then.
        job: at its end, which another worker reached.
        ended, late: job's and task's rows at that end, and after the first worker had had its say.
        said: what the first worker logged of the task's end when it had woken up.
    """

    folders: Folders
    before: dict[str, Any]
    other: LoggedProcess
    job: pb.Job
    ended: tuple[dict[str, Any], Sequence[dict[str, Any]]]
    late: tuple[dict[str, Any], Sequence[dict[str, Any]]]
    said: dict[str, Any]


@pytest.fixture(scope="module")
def woken_up(breakable: RealDeployment, client_there: Client, fresh_folders: Callable[[], Folders]) -> WokenUp:
    sleeper = breakable.only_worker()
    folders = fresh_folders()
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    started = folders.start(client_there)
    before = chunk_in_mid_copy(breakable, started.name, lambda: folders.moved_bytes() > LARGE_BYTES // 20)
    engines = sleeper.children()
    sleeper.pause()
    for engine in engines:
        os.kill(engine, signal.SIGSTOP)
    try:
        other = breakable.start_worker()
        job = ended(client_there, started.name)
        rows = breakable.job_row(job.name), breakable.task_rows(job.name)
    finally:
        for engine in engines:
            os.kill(engine, signal.SIGCONT)
        sleeper.resume()
    task = f"{started.name}/tasks/{before['id']}"

    def word() -> dict[str, Any] | None:
        return next((said for said in sleeper.events("task_ended") if said["task"] == task), None)

    said = wait_until(word, "the worker that woke up ends its task", 30, 0.1)
    wait_until(lambda: len(sleeper.events("stream_opened")) > 1, "the worker that woke up is back", 30, 0.1)
    # Another job after it: what it had to say about the first one has been said, or will never be.
    folders.start(client_there, "again")
    wait_until(lambda: folders.arrived("again"), "the next copy", 60, 0.1)
    late = breakable.job_row(job.name), breakable.task_rows(job.name)
    return WokenUp(folders, before, other, job, rows, late, said)


@pytest.mark.row("W2")
def test_a_worker_that_stops_past_its_lease_loses_the_task_to_another(
    breakable: RealDeployment, woken_up: WokenUp
) -> None:
    assert woken_up.job.state == pb.JOB_STATE_SUCCEEDED
    (attempt,) = breakable.attempts(woken_up.before["id"])
    assert attempt["worker"] == woken_up.other.name_at_the_queue()
    assert attempt["fence"] > woken_up.before["fence"]


@pytest.mark.row("W2")
def test_the_word_of_a_worker_that_woke_up_too_late_changes_nothing(woken_up: WokenUp) -> None:
    assert woken_up.said["fence"] == woken_up.before["fence"]
    assert woken_up.late == woken_up.ended


@pytest.mark.row("W2")
def test_a_worker_that_woke_up_too_late_leaves_the_destination_as_it_is(woken_up: WokenUp) -> None:
    assert same_trees(woken_up.folders.source, woken_up.folders.destination / "data")
    assert woken_up.folders.temporaries() == []
