"""Flow 5: cancel, pause, resume and retry, said at one replica, of what a worker at the other is doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_testing.deployment_processes import is_alive
from wherry_testing.flow_callers import ReplicaCaller, copy_between, copy_of
from wherry_testing.flows import FILE_BY_FILE, FlowDeployment, in_state, under_way, until
from wherry_testing.running_copies import COPY_FILES, Folders, same_trees, write_large, write_many

pytestmark = pytest.mark.row("J7")

LARGE_BYTES = 800_000_000
REACHED_WITHIN_S = 1.0
MANY = 14


def _reason(error: Any) -> str:  # an RpcError, of which the stubs do not say that it is its call too
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    return str(info.reason) if status and any(detail.Unpack(info) for detail in status.details) else ""


# --- cancel


@dataclass(frozen=True)
class Cancelled:
    """A large copy that was cancelled in the middle, whose answer was lost, and that was cancelled again.

    Attributes:
        reached_s: from the request to the engine's end.
        again: the job in the answer to the second request, at the other replica.
        job: at its end.
    """

    folders: Folders
    reached_s: float
    lost: grpc.StatusCode
    again: pb.Job
    job: pb.Job
    attempts: Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def cancelled(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> Cancelled:
    folders = fresh_folders()
    write_large(folders.source / "large.dat", LARGE_BYTES)
    folders.source_site.own("alice")
    with flow.worker(at=1) as worker:
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.moved_bytes() > LARGE_BYTES // 20)
        engines = worker.children()
        flow.relay("gateway", "queue", 0).cut("CancelJob")
        began_s = time.monotonic()
        with pytest.raises(grpc.RpcError) as lost:
            first.cancel(job.name)
        until(lambda: not all(is_alive(engine) for engine in engines), "the engine is gone", 10)
        reached_s = time.monotonic() - began_s
        again = second.cancel(job.name)
        ended = second.ended(job.name)
    (folders.source / "large.dat").unlink()
    (chunk,) = [row for row in flow.task_rows(job.name) if row["kind"] == COPY_FILES]
    return Cancelled(folders, reached_s, lost.value.code(), again, ended, flow.attempts(chunk["id"]))


def test_the_engine_is_dead_within_a_second_though_it_works_for_the_other_replica(cancelled: Cancelled) -> None:
    assert cancelled.reached_s < REACHED_WITHIN_S


def test_cancelling_again_after_the_answer_was_lost_is_harmless(cancelled: Cancelled) -> None:
    assert cancelled.lost is grpc.StatusCode.UNAVAILABLE
    assert cancelled.again.state in (pb.JOB_STATE_CANCELLING, pb.JOB_STATE_CANCELLED)
    assert cancelled.job.state == pb.JOB_STATE_CANCELLED
    assert len(cancelled.attempts) == 1


def test_what_the_cancelled_copy_had_begun_is_removed(cancelled: Cancelled) -> None:
    until(lambda: not cancelled.folders.temporaries(), "the temporary file is gone", 10)
    assert cancelled.folders.arrived() == 0


# --- pause and resume


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns what tells a file from another that took its place."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@dataclass(frozen=True)
class Paused:
    """A copy of many files that was paused in the middle, and went on.

    Attributes:
        asked: how many files had arrived when the pause was asked for.
        lost: the job as it stood in the answer that nobody got; `error` is what the caller saw.
        answer: the job in the answer to the second request, at the other replica.
        paused: the job when nothing of it ran any more.
        arrived: the files that had arrived then.
        later: the same when the worker had done another job in the meantime.
        temporaries: unfinished files at that time.
        job: at its end.
    """

    folders: Folders
    asked: int
    lost: pb.Job
    error: grpc.StatusCode
    answer: pb.Job
    paused: pb.Job
    arrived: dict[str, tuple[int, int]]
    later: dict[str, tuple[int, int]]
    temporaries: Sequence[Path]
    resumed: pb.Job
    job: pb.Job
    attempts: Sequence[dict[str, Any]]
    chunk: dict[str, Any]


@pytest.fixture(scope="module")
def paused(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> Paused:
    folders, other = fresh_folders(), fresh_folders()
    write_many(folders.source, MANY)
    write_many(other.source, 1)
    folders.source_site.own("alice")
    with flow.worker(at=1, settings=FILE_BY_FILE):
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.arrived() >= 3)
        asked = folders.arrived()
        lost = flow.relay("gateway", "queue", 0).cut("PauseJob")
        with pytest.raises(grpc.RpcError) as error:
            first.pause(job.name)
        answer = second.pause(job.name)
        until(lambda: first.get(job.name).progress.tasks_running == 0, "nothing of it runs")
        now = first.get(job.name)
        arrived = _identities(folders.destination / "data")
        # The worker has places, and takes up something else: it would have taken this job up too.
        assert first.ended(first.create(copy_between(other)).name).state == pb.JOB_STATE_SUCCEEDED
        later, temporaries = _identities(folders.destination / "data"), folders.temporaries()
        cut = flow.relay("gateway", "queue", 0).cut("ResumeJob")
        with pytest.raises(grpc.RpcError):
            first.resume(job.name)
        cut.wait()
        resumed = second.resume(job.name)
        ended = second.ended(job.name)
    (chunk,) = [row for row in flow.task_rows(job.name) if row["kind"] == COPY_FILES]
    return Paused(
        folders,
        asked,
        pb.Job.FromString(lost.answer),
        error.value.code(),
        answer,
        now,
        arrived,
        later,
        temporaries,
        resumed,
        ended,
        flow.attempts(chunk["id"]),
        chunk,
    )


def test_a_pause_finishes_the_moving_file_and_starts_no_other(paused: Paused) -> None:
    assert paused.asked <= len(paused.arrived) <= paused.asked + 2 < MANY
    assert paused.temporaries == []
    assert paused.paused.progress.files_done == len(paused.arrived)


def test_pausing_again_after_the_answer_was_lost_is_harmless(paused: Paused) -> None:
    assert paused.error is grpc.StatusCode.UNAVAILABLE
    assert paused.lost.state == paused.answer.state == pb.JOB_STATE_PAUSED
    assert len(paused.attempts) == 2  # one before the pause, one after it


def test_a_paused_job_says_so_and_stays_as_it_is(paused: Paused) -> None:
    assert paused.answer.state == paused.paused.state == pb.JOB_STATE_PAUSED
    assert paused.paused.waiting_reason.reason == "PAUSED"
    assert paused.later == paused.arrived


def test_resuming_again_after_the_answer_was_lost_is_harmless(paused: Paused) -> None:
    assert paused.resumed.state != pb.JOB_STATE_PAUSED
    assert len(paused.attempts) == 2


def test_a_resumed_job_goes_on_where_it_was(paused: Paused) -> None:
    assert paused.job.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(paused.folders.source, paused.folders.destination / "data")
    assert paused.arrived.items() <= _identities(paused.folders.destination / "data").items()


def test_a_pause_counts_no_attempt(paused: Paused) -> None:
    assert (paused.chunk["tries"], paused.chunk["lapses"]) == (0, 0)
    assert paused.job.progress.files_done == MANY


# --- retry


@dataclass(frozen=True)
class Retried:
    """A copy some of whose files could not be read at first.

    Attributes:
        failed: the job at its first end.
        arrived: what had arrived then.
        lost: the job as the lost answer has it.
        again: why the second request was refused.
        late: why a third one was, when all of it was done.
        job: at its second end.
    """

    folders: Folders
    failed: pb.Job
    arrived: dict[str, tuple[int, int]]
    lost: pb.Job
    again: str
    late: str
    job: pb.Job
    before: Sequence[dict[str, Any]]
    after: Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def retried(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> Retried:
    folders = fresh_folders()
    write_many(folders.source, 4)
    folders.source_site.own("alice")
    locked = [folders.source / f"file {number:03}.dat" for number in (1, 2)]
    for path in locked:
        path.chmod(0)
    with flow.worker(at=1):
        failed = first.ended(first.create(copy_between(folders)).name)
    arrived = _identities(folders.destination / "data")
    before = flow.task_rows(failed.name)
    for path in locked:
        path.chmod(0o600)
    cut = flow.relay("gateway", "queue", 0).cut("RetryJob")
    with pytest.raises(grpc.RpcError):
        first.retry(failed.name)
    cut.wait()
    with pytest.raises(grpc.RpcError) as again:
        second.retry(failed.name)
    with flow.worker(at=1):
        ended = first.ended(failed.name)
    with pytest.raises(grpc.RpcError) as late:
        second.retry(failed.name)
    lost, reasons = pb.Job.FromString(cut.answer), (_reason(again.value), _reason(late.value))
    return Retried(folders, failed, arrived, lost, *reasons, ended, before, flow.task_rows(failed.name))


def test_a_job_with_unreadable_files_is_partially_failed(retried: Retried) -> None:
    assert retried.failed.state == pb.JOB_STATE_PARTIALLY_FAILED
    assert (retried.failed.progress.files_done, retried.failed.progress.files_failed) == (2, 2)


def test_retrying_again_after_the_answer_was_lost_opens_nothing_twice(retried: Retried) -> None:
    assert retried.lost.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING)
    assert (retried.again, retried.late) == ("JOB_NOT_ENDED", "NOTHING_TO_RETRY")
    assert [row["id"] for row in retried.after] == [row["id"] for row in retried.before]


def test_a_retry_copies_what_had_failed_and_nothing_else(retried: Retried) -> None:
    assert retried.job.state == pb.JOB_STATE_SUCCEEDED
    assert (retried.job.progress.files_done, retried.job.progress.files_failed) == (4, 0)
    assert same_trees(retried.folders.source, retried.folders.destination / "data")
    assert retried.arrived.items() <= _identities(retried.folders.destination / "data").items()


def test_a_job_that_nobody_works_on_is_cancelled_at_once_from_the_other_replica(
    first: ReplicaCaller, second: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    job = first.create(copy_of(synthetic("0x0x1"), synthetic("0x0x1")))
    assert second.cancel(job.name).state == pb.JOB_STATE_CANCELLED
    assert in_state(first, job.name, pb.JOB_STATE_CANCELLED).progress.tasks_open == 0


@pytest.mark.parametrize(
    ("act", "state"),
    [
        pytest.param("pause", pb.JOB_STATE_PAUSED, id="pause"),
        pytest.param("resume", pb.JOB_STATE_QUEUED, id="resume"),
        pytest.param("cancel", pb.JOB_STATE_CANCELLED, id="cancel"),
    ],
)
def test_what_was_said_and_not_answered_is_said_again_at_the_other_replica_to_the_same_effect(
    flow: FlowDeployment,
    first: ReplicaCaller,
    second: ReplicaCaller,
    synthetic: Callable[[str], str],
    act: str,
    state: pb.JobState.ValueType,
) -> None:
    job = first.create(copy_of(synthetic("0x0x1"), synthetic("0x0x1")))
    if act == "resume":
        first.pause(job.name)
    cut = flow.relay("gateway", "queue", 0).cut(f"{act.capitalize()}Job")
    with pytest.raises(grpc.RpcError):
        getattr(first, act)(job.name)
    cut.wait()
    again = getattr(second, act)(job.name)
    assert pb.Job.FromString(cut.answer).state == again.state == first.get(job.name).state == state
    first.cancel(job.name)
