"""Flow 1: a job is handed in at one replica, and taken up at another."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_testing.deployment import Person
from wherry_testing.flow_callers import ReplicaCaller, copy_of
from wherry_testing.flows import FlowDeployment, in_state

ONE_AFTER_THE_OTHER = 25
WITHIN_S = 16.0
"""For so many. Whoever only looked once a second would take about 25."""
_COUNT = "select count(*) as number from job where request_id = :request_id"


@dataclass(frozen=True)
class HandedInTwice:
    """A job whose acceptance was lost on the way, and that was handed in once more, at the other replica.

    Attributes:
        lost: as it stood in the answer that nobody got.
        again: the second answer.
        error: what the caller saw the first time.
    """

    request_id: str
    lost: pb.Job
    again: pb.Job
    error: grpc.StatusCode


@pytest.fixture(scope="module")
def handed_in_twice(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, synthetic: Callable[[str], str]
) -> HandedInTwice:
    request_id, job = str(uuid.uuid4()), copy_of(synthetic("0x0x3"), synthetic("0x0x3"))
    cut = flow.relay("gateway", "queue", 0).cut("CreateJob")
    with pytest.raises(grpc.RpcError) as caught:
        first.create(job, request_id)
    cut.wait()
    again = second.create(job, request_id)
    second.cancel(again.name)
    return HandedInTwice(request_id, pb.Job.FromString(cut.answer), again, caught.value.code())


def test_a_caller_whose_acceptance_was_lost_sees_a_lost_connection(handed_in_twice: HandedInTwice) -> None:
    assert handed_in_twice.error is grpc.StatusCode.UNAVAILABLE
    assert handed_in_twice.lost.name


@pytest.mark.row("J10")
def test_a_job_handed_in_again_after_its_acceptance_was_lost_is_the_same_job(handed_in_twice: HandedInTwice) -> None:
    assert handed_in_twice.again.name == handed_in_twice.lost.name


@pytest.mark.row("J10")
def test_what_was_handed_in_twice_is_one_job_with_one_first_task(
    flow: FlowDeployment, handed_in_twice: HandedInTwice
) -> None:
    assert flow.rows(_COUNT, request_id=handed_in_twice.request_id) == [{"number": 1}]
    assert len(flow.task_rows(handed_in_twice.again.name)) == 1


@pytest.mark.row("J10")
def test_the_same_request_at_both_replicas_at_once_is_one_job(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    job = copy_of(synthetic("0x0x3"), synthetic("0x0x3"))
    for _ in range(5):
        request_id = str(uuid.uuid4())
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda caller, key=request_id: caller.create(job, key), [first, second] * 2))
        assert len({one.name for one in made}) == 1
        assert flow.rows(_COUNT, request_id=request_id) == [{"number": 1}]
        first.cancel(made[0].name)


@pytest.fixture(scope="module")
def after_a_kill(
    flow: FlowDeployment, alice: Person, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> Iterator[pb.Job]:
    """A job whose replica was killed as soon as it had said that it has it."""
    accepted = first.create(copy_of(synthetic("1x1x50"), synthetic("0x0x0")))
    flow.service("queue", 0).kill()
    yield accepted
    if not flow.service("queue", 0).running:
        flow.start_service("queue", 0)


@pytest.mark.row("D2")
def test_an_accepted_job_outlives_the_killing_of_the_replica_that_accepted_it(
    flow: FlowDeployment, after_a_kill: pb.Job, second: ReplicaCaller
) -> None:
    assert second.get(after_a_kill.name).state == pb.JOB_STATE_QUEUED
    with flow.worker(at=1, pretending=[]):
        ended = second.ended(after_a_kill.name)
    assert (ended.state, ended.progress.files_done) == (pb.JOB_STATE_SUCCEEDED, 100)


@pytest.mark.row("W1")
def test_a_worker_at_the_other_replica_takes_up_each_job_at_once(
    flow: FlowDeployment, after_a_kill: pb.Job, first: ReplicaCaller, second: ReplicaCaller
) -> None:
    if not flow.service("queue", 0).running:
        flow.start_service("queue", 0)
    target = entry_pb2.Location(site="sites/site-a", path="/data/alice/nowhere")
    job = pb.Job(make_directory=pb.MakeDirectoryOperation(target=target, parents=True))

    with flow.worker(at=1, pretending=[]):
        in_state(second, first.create(job).name, pb.JOB_STATE_SUCCEEDED)
        over_s = time.monotonic() + WITHIN_S
        for _ in range(ONE_AFTER_THE_OTHER):
            made = first.create(job)
            in_state(second, made.name, pb.JOB_STATE_SUCCEEDED, within_s=over_s - time.monotonic())
