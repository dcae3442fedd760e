"""Flow 2: directories are walked by a worker at one replica for a caller at the other.

There is no dry run yet; it will be the same walk, whose chunks nobody takes up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import zstandard
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2
from wherry_queue.states import TaskKind
from wherry_testing.flow_callers import ReplicaCaller, copy_of, removal_of
from wherry_testing.flows import FlowDeployment

FILES = 25_000
"""Of one directory: more than a worker reports in one call."""


def _chunks(flow: FlowDeployment, job: str) -> list[dict[str, Any]]:
    return [row for row in flow.task_rows(job) if row["kind"] == TaskKind.COPY_FILES]


def _names(chunk: dict[str, Any]) -> list[bytes]:
    payload = zstandard.ZstdDecompressor().decompressobj().decompress(chunk["payload"])
    return [entry.name for entry in lease_service_pb2.ChunkEntries.FromString(payload).entries]


@dataclass(frozen=True)
class Walked:
    """A copy of one large directory, the first report of which was committed and its answer lost.

    Attributes:
        attempts: that it took.
        cursor: how far the walk was when the answer was lost.
        leases: of the walk, as they were given to workers; what was given before the answer was lost left out.
        job: at its end.
    """

    attempts: int
    cursor: bytes
    leases: Sequence[lease_service_pb2.Lease]
    job: pb.Job
    chunks: Sequence[dict[str, Any]]


def _walked(flow: FlowDeployment, caller: ReplicaCaller, paths: tuple[str, str], *, lose_worker: bool) -> Walked:
    relay = flow.relay("worker", "queue", 1)
    cut = relay.cut("ReportEntries")
    with flow.worker(at=(1, 0), pretending=[]) as worker:
        job = caller.create(copy_of(*paths))
        cut.wait()
        cursor = bytes(_walk(flow, job.name)["cursor"])
        if not lose_worker:
            ended = caller.ended(job.name)
            return Walked(_walk(flow, job.name)["attempt_count"], cursor, [], ended, _chunks(flow, job.name))
        worker.kill()
    with relay.recording("StreamLeases") as said, flow.worker(at=1, pretending=[]):
        ended = caller.ended(job.name)
        given = [lease for answer in said for lease in lease_service_pb2.StreamLeasesResponse.FromString(answer).leases]
        walks = [lease for lease in given if lease.HasField("walk_copy")]
        return Walked(_walk(flow, job.name)["attempt_count"], cursor, walks, ended, _chunks(flow, job.name))


def _walk(flow: FlowDeployment, job: str) -> dict[str, Any]:
    (walk,) = [row for row in flow.task_rows(job) if row["kind"] == TaskKind.WALK_COPY]
    return walk


@pytest.fixture(scope="module")
def unanswered(flow: FlowDeployment, first: ReplicaCaller, synthetic: Callable[[str], str]) -> Walked:
    """The worker lived, and reported again."""
    return _walked(flow, first, (synthetic(f"0x0x{FILES}"), "/data/bob/walked"), lose_worker=False)


@pytest.fixture(scope="module")
def abandoned(flow: FlowDeployment, first: ReplicaCaller, synthetic: Callable[[str], str]) -> Walked:
    """The worker was killed, and another went on."""
    return _walked(flow, first, (synthetic(f"0x0x{FILES}"), "/data/bob/walked"), lose_worker=True)


@pytest.fixture(params=["unanswered", "abandoned"])
def walked(request: pytest.FixtureRequest) -> Walked:
    """Each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Walked)
    return found


@pytest.mark.row("D1")
def test_each_file_of_a_walk_whose_report_was_repeated_or_gone_on_with_is_found_once(walked: Walked) -> None:
    assert walked.job.state == pb.JOB_STATE_SUCCEEDED
    assert (walked.job.progress.files_total, walked.job.progress.files_done) == (FILES, FILES)
    names = [name for chunk in walked.chunks for name in _names(chunk)]
    assert sorted(names) == [f"f{number:06}".encode() for number in range(FILES)]


@pytest.mark.row("D1")
def test_the_directory_of_such_a_walk_counts_once(walked: Walked) -> None:
    assert (walked.job.progress.directories_total, walked.job.progress.directories_done) == (1, 1)


@pytest.mark.row("D2")
def test_what_a_worker_reported_was_kept_though_its_answer_was_lost(walked: Walked) -> None:
    assert b"f000000" < walked.cursor < f"f{FILES - 1:06}".encode()


def test_a_worker_that_got_no_answer_to_a_report_goes_on_with_the_same_walk(unanswered: Walked) -> None:
    assert unanswered.attempts == 1


@pytest.mark.row("D2")
def test_the_next_worker_goes_on_behind_what_the_killed_one_had_reported(abandoned: Walked) -> None:
    (lease,) = abandoned.leases
    assert lease.walk_copy.cursor == abandoned.cursor
    assert abandoned.attempts == 2


# --- the order of a removal


@pytest.fixture(scope="module")
def removed(flow: FlowDeployment, first: ReplicaCaller, synthetic: Callable[[str], str]) -> list[dict[str, Any]]:
    """The tasks of a removal by workers at both replicas, in the order in which their ends were written."""
    with flow.worker(at=0, pretending=["--task-ms", "5"]), flow.worker(at=1, pretending=["--task-ms", "5"]):
        job = first.ended(first.create(removal_of(synthetic("3x2x20"))).name)
    assert job.state == pb.JOB_STATE_SUCCEEDED
    statement = (
        "select task.kind, task.depth, task.phase, attempt.worker from attempt join task on attempt.task_id = task.id"
        " join job on task.job_id = job.id where job.uid = :uid order by attempt.id"
    )
    return flow.rows(statement, uid=job.name.removeprefix("jobs/"))


@pytest.mark.row("J6")
def test_no_directory_is_removed_before_all_files_are(removed: list[dict[str, Any]]) -> None:
    kinds = [row["kind"] for row in removed]
    assert set(kinds[-13:]) == {TaskKind.REMOVE_DIRECTORY}
    assert set(kinds[:-13]) == {TaskKind.WALK_REMOVE, TaskKind.REMOVE_FILES}


@pytest.mark.row("J6")
def test_directories_are_removed_deepest_first(removed: list[dict[str, Any]]) -> None:
    depths = [row["depth"] for row in removed if row["kind"] == TaskKind.REMOVE_DIRECTORY]
    assert depths == [2] * 9 + [1] * 3 + [0]


@pytest.mark.row("W1")
def test_workers_at_both_replicas_have_a_part_in_one_job(removed: list[dict[str, Any]]) -> None:
    assert len({row["worker"] for row in removed}) == 2
