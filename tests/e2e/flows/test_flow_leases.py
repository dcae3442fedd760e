"""Flow 3: lease, credential, copy, settlement; real copies by a worker at one replica, watched at the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2
from wherry.site.v1 import site_service_pb2
from wherry_testing.flow_callers import ReplicaCaller, copy_between
from wherry_testing.flows import FILE_BY_FILE, FlowDeployment, under_way, until
from wherry_testing.running_copies import COPY_FILES, Folders, same_trees, write_many

FEW = 2
MANY = 14


def _filled(folders: Folders, count: int) -> Folders:
    write_many(folders.source, count)
    folders.source_site.own("alice")
    return folders


def _chunk(flow: FlowDeployment, job: str) -> dict[str, Any]:
    (chunk,) = [row for row in flow.task_rows(job) if row["kind"] == COPY_FILES]
    return chunk


@dataclass(frozen=True)
class Copied:
    """A copy during which something was lost.

    Attributes:
        answers: the answers of the method whose answer was lost, the lost one first.
        chunk: the row of its only chunk, at the end.
        attempts: that were settled of it.
    """

    folders: Folders
    answers: Sequence[bytes]
    job: pb.Job
    chunk: dict[str, Any]
    attempts: Sequence[dict[str, Any]]

    def is_whole(self) -> bool:
        """Tells whether all was copied, and nothing else is there."""
        return same_trees(self.folders.source, self.folders.destination / "data") and not self.folders.temporaries()


def _copied(flow: FlowDeployment, folders: Folders, answers: Sequence[bytes], job: pb.Job) -> Copied:
    chunk = _chunk(flow, job.name)
    return Copied(folders, answers, job, chunk, flow.attempts(chunk["id"]))


# --- a credential whose answer is lost


@pytest.fixture(scope="module")
def fetched_again(flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]) -> Copied:
    """The worker knows one replica of the site service, and has to ask that one again."""
    folders = _filled(fresh_folders(), FEW)
    relay = flow.relay("worker", "site", 0)
    with flow.worker(at=1, sites=[0]), relay.recording("FetchCredentials") as answers:
        cut = relay.cut("FetchCredentials")
        job = first.create(copy_between(folders))
        cut.wait()
        return _copied(flow, folders, answers, first.ended(job.name))


@pytest.mark.row("S6")
def test_a_credential_whose_answer_was_lost_is_asked_for_again_and_is_the_same(fetched_again: Copied) -> None:
    answers = [site_service_pb2.FetchCredentialsResponse.FromString(one) for one in fetched_again.answers]
    assert len(answers) > 1
    given = [[(site.site, site.credential_id) for site in answer.sites] for answer in answers[:2]]
    assert given[0] == given[1]
    assert [site for site, _ in given[0]] == ["sites/site-a", "sites/site-b"]


@pytest.mark.row("D16")
def test_a_lost_credential_fails_nothing_and_counts_no_attempt(flow: FlowDeployment, fetched_again: Copied) -> None:
    assert fetched_again.job.state == pb.JOB_STATE_SUCCEEDED
    assert fetched_again.is_whole()
    assert {row["tries"] for row in flow.task_rows(fetched_again.job.name)} == {0}


@pytest.mark.row("S6")
def test_a_credential_whose_answer_was_lost_is_had_from_the_other_replica_at_once(
    flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders = _filled(fresh_folders(), FEW)
    with flow.worker(at=1):
        cut = flow.relay("worker", "site", 0).cut("FetchCredentials")
        job = first.ended(first.create(copy_between(folders)).name)
    assert cut.done
    assert job.state == pb.JOB_STATE_SUCCEEDED
    assert {row["attempt_count"] for row in flow.task_rows(job.name)} == {1}


# --- a settlement whose answer is lost


@pytest.fixture(scope="module", params=["the same replica", "the other replica"])
def settled_again(
    request: pytest.FixtureRequest, flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> Copied:
    """The settlement of the copy's chunk is answered into the void."""
    folders = _filled(fresh_folders(), FEW)
    replicas = [1] if request.param == "the same replica" else [1, 0]
    relays = [flow.relay("worker", "queue", replica) for replica in replicas]
    with contextlib.ExitStack() as stack:
        answers = [stack.enter_context(relay.recording("SettleLeases")) for relay in relays]
        stack.enter_context(flow.worker(at=replicas))
        job = first.create(copy_between(folders))
        until(lambda: len(flow.task_rows(job.name)) > 1, "the walk has found a chunk")
        task = f"{job.name}/tasks/{_chunk(flow, job.name)['id']}"
        cut = relays[0].cut("SettleLeases", holding=task.encode())
        cut.wait()
        if len(relays) > 1:
            relays[0].sever()
            stack.callback(relays[0].restore)
        until(lambda: sum(task.encode() in one for one in answers[-1]) >= 3 - len(relays), "it is settled again")
        ended = first.ended(job.name)
        said = [one for of_relay in answers for one in of_relay if task.encode() in one]
    return _copied(flow, folders, said, ended)


@pytest.mark.row("W2")
def test_a_settlement_whose_answer_was_lost_is_sent_again_and_answered_alike(settled_again: Copied) -> None:
    answers = [lease_service_pb2.SettleLeasesResponse.FromString(one) for one in settled_again.answers]
    assert len(answers) == 2
    statuses = [answer.status for one in answers for answer in one.answers]
    assert set(statuses) == {lease_service_pb2.SETTLEMENT_STATUS_ACCEPTED}


@pytest.mark.row("D1")
def test_a_settlement_whose_answer_was_lost_counts_once(settled_again: Copied) -> None:
    progress = settled_again.job.progress
    assert (progress.files_total, progress.files_done, progress.tasks_open) == (FEW, FEW, 0)
    sizes = [path.stat().st_size for path in settled_again.folders.source.iterdir()]
    assert progress.bytes_done == sum(sizes)
    assert len(settled_again.attempts) == 1
    assert settled_again.chunk["attempt_count"] == 1


# --- a lease stream that is lost


@dataclass(frozen=True)
class Adopted:
    """A copy whose worker lost its stream, and its way to that replica, in the middle.

    Attributes:
        before: the chunk's row when the stream was lost.
        after: the same when the worker had a stream to the other replica.
        engines: the worker's, before and after.
        arrived: files at the destination when the stream was lost.
    """

    copied: Copied
    before: dict[str, Any]
    after: dict[str, Any]
    engines: tuple[Sequence[int], Sequence[int]]
    arrived: int


@pytest.fixture(scope="module")
def adopted(flow: FlowDeployment, second: ReplicaCaller, fresh_folders: Callable[[], Folders]) -> Adopted:
    folders = _filled(fresh_folders(), MANY)
    relay = flow.relay("worker", "queue", 0)
    with flow.worker(at=(0, 1), settings=FILE_BY_FILE) as worker:
        job = second.create(copy_between(folders))
        under_way(second, job.name, lambda: folders.arrived() >= 2)
        before, engines = _chunk(flow, job.name), worker.children()
        relay.sever()
        try:
            arrived = folders.arrived()
            until(lambda: len(worker.events("stream_opened")) > 1, "the worker has another stream", 20)
            after = until(lambda: _elsewhere(flow, before), "the other replica has the lease", 10)
            kept = engines, worker.children()
            job = second.ended(job.name)
        finally:
            relay.restore()
    return Adopted(_copied(flow, folders, [], job), before, after, kept, arrived)


def _elsewhere(flow: FlowDeployment, before: dict[str, Any]) -> dict[str, Any] | None:
    (row,) = flow.rows("select * from task where id = :id", id=before["id"])
    return row if row["replica_id"] != before["replica_id"] else None


@pytest.mark.row("D2")
def test_a_worker_whose_stream_is_lost_goes_on_under_its_lease_at_the_other_replica(adopted: Adopted) -> None:
    assert adopted.after["replica_id"] is not None
    assert adopted.after["fence"] == adopted.before["fence"] == adopted.copied.chunk["settled_fence"]


@pytest.mark.row("W2")
def test_nothing_runs_twice_when_a_stream_is_lost(adopted: Adopted) -> None:
    assert adopted.arrived < MANY
    assert (adopted.copied.chunk["attempt_count"], adopted.copied.chunk["lapses"]) == (1, 0)
    assert len(adopted.copied.attempts) == 1
    assert adopted.engines[0] == adopted.engines[1]


@pytest.mark.row("D2")
def test_a_copy_whose_stream_was_lost_is_whole(adopted: Adopted) -> None:
    assert adopted.copied.job.state == pb.JOB_STATE_SUCCEEDED
    assert adopted.copied.is_whole()


# --- progress


@pytest.mark.row("J5")
def test_a_caller_sees_what_moves_at_a_worker_of_the_other_replica(
    flow: FlowDeployment, first: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    folders = _filled(fresh_folders(), MANY)
    with flow.worker(at=1, settings=FILE_BY_FILE):
        seen = list(first.watch(first.create(copy_between(folders)).name, 90))
    assert seen[-1].state == pb.JOB_STATE_SUCCEEDED
    running = [job.progress for job in seen if job.progress.tasks_open]
    landed = [progress.files_landed for progress in running]
    assert any(0 < now < MANY for now in landed)
    assert landed == sorted(landed)
    assert any(progress.bytes_moving > 0 for progress in running)
    assert all(job.progress.bytes_done + job.progress.bytes_moving <= job.progress.bytes_total for job in seen)
    last = seen[-1].progress
    assert (last.bytes_moving, last.files_landed, last.files_done) == (0, 0, MANY)
