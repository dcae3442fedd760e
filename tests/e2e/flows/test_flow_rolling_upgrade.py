"""A new version comes in: every replica and every worker is ended as a supervisor would and started anew, one after the
other, while jobs are handed in, done and watched. Nobody loses more than a connection.

The new processes' packages bear another version, which is what operators see of it; their code is the same.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import grpc
import pytest
from wherry.queue.v1 import admin_service_pb2, admin_service_pb2_grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.tls import CHANNEL_OPTIONS
from wherry_queue.states import Outcome, TaskState
from wherry_testing.deployment import Person
from wherry_testing.deployment_processes import LoggedProcess
from wherry_testing.flow_callers import ReplicaCaller, copy_between, copy_of
from wherry_testing.flows import FILE_BY_FILE, REPLICAS, FlowDeployment, under_way, until
from wherry_testing.queue_books import discrepancies
from wherry_testing.rolling import Submitting, WatchingAll, WatchingOne
from wherry_testing.running_copies import Folders, same_trees, write_many

pytestmark = [pytest.mark.row("W1"), pytest.mark.timeout(480)]

NEW = "2099.1"
SHAPES = ("0x0x20", "2x1x30", "0x0x250", "1x2x10")
"""Of the trees that are copied."""
_WORK = ["--task-ms", "600", "--bulk", "6"]
_AT_LEAST = 40
_WORKER_ENDS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Seen:
    """What an operator sees at some moment: the versions of the replicas, and of the workers."""

    replicas: Sequence[str]
    workers: Sequence[str]


@dataclass(frozen=True)
class Rolled:
    """What came of it.

    Attributes:
        seen: at the beginning, after each replacement of a replica of the queue or a worker, and at the end.
        held: how many leases each worker had when it was told to end.
        adopted: leases that went on at the other replica when theirs was ended.
        tasks: rows of all tasks.
        attempts: rows of all attempts.
        everybody: watches of all jobs; `one`: watches of one job after the other.
    """

    submitting: Submitting
    everybody: Sequence[WatchingAll]
    one: Sequence[WatchingOne]
    seen: Sequence[Seen]
    held: Sequence[int]
    adopted: int
    jobs: Sequence[pb.Job]
    tasks: Sequence[dict[str, Any]]
    attempts: Sequence[dict[str, Any]]

    @property
    def watches(self) -> list[WatchingAll | WatchingOne]:
        """All watches."""
        return [*self.everybody, *self.one]


@contextlib.contextmanager
def _operator(flow: FlowDeployment, replica: int) -> Iterator[Any]:  # the stubs' class for callers lacks a type
    material = flow.material("operator")
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.chain)
    with grpc.secure_channel(flow.address("queue", replica), credentials, options=CHANNEL_OPTIONS) as channel:
        yield admin_service_pb2_grpc.AdminServiceStub(channel)


def _look(flow: FlowDeployment, replica: int) -> Seen:
    with _operator(flow, replica) as admin:
        replicas = admin.ListReplicas(admin_service_pb2.ListReplicasRequest(), timeout=10).replicas
        workers = admin.ListWorkers(admin_service_pb2.ListWorkersRequest(), timeout=10).workers
        return Seen(
            sorted(one.version for one in replicas), sorted({one.name: one.version for one in workers}.values())
        )


def _seen(flow: FlowDeployment, replica: int, right: Callable[[Seen], bool]) -> Seen:
    """Returns what is seen once it is right; workers that come and go are written down within moments."""
    last = _look(flow, replica)

    def looked() -> Seen | None:
        nonlocal last
        last = _look(flow, replica)
        return last if right(last) else None

    with contextlib.suppress(AssertionError):
        until(looked, "operators see it", 10)
    return last


def _replace(flow: FlowDeployment, replica: int, *services: str) -> None:
    """Ends a replica of each of the services as their supervisor would, and starts it again."""
    ending = [flow.service(service, replica) for service in services]
    for process in ending:
        process.terminate()
    for process in ending:
        assert process.wait() == 0, process.last_words()
    for service in services:
        flow.start_service(service, replica)


def _adopted(flow: FlowDeployment, replica: int) -> int:
    """Returns how many leases workers have brought to a replica since it was started."""
    return sum(event["adopted"] for event in flow.service("queue", replica).events("worker_joined"))


def _answers(caller: ReplicaCaller, job: str) -> bool:
    try:
        return caller.get(job).name == job
    except grpc.RpcError:
        return False


def _end(worker: LoggedProcess) -> int:
    """Ends a worker as its supervisor would; returns how many leases it had."""
    worker.terminate()
    assert worker.wait(_WORKER_ENDS_WITHIN_S) == 0, worker.last_words()
    (draining,) = worker.events("draining")
    return int(draining["held"])


@pytest.fixture(scope="module")
def rolled(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    second: ReplicaCaller,
    synthetic: Callable[[str], str],
) -> Rolled:
    flow.start_both("queue")
    with alice.wherry.client() as client:
        client.accounts.sign_in(alice.email, alice.password)  # a token that lasts as long as this does
    (last,) = flow.rows("select coalesce(max(id), 0) as id from job")
    old, callers, seen = version("wherry-queue"), (first, second), []

    def make(number: int) -> pb.Job:
        return copy_of(synthetic(SHAPES[number % len(SHAPES)]), synthetic("0x0x0"))

    with contextlib.ExitStack() as stack:
        ways = ((0, 1), (1, 0))
        workers = [stack.enter_context(flow.worker(at=way, pretending=_WORK)) for way in ways]
        submitting = stack.enter_context(Submitting(callers, make))
        until(lambda: len(submitting.accepted) >= 5, "jobs are handed in")
        everybody = [stack.enter_context(WatchingAll(callers, at)) for at in REPLICAS]
        one = [stack.enter_context(WatchingOne(callers, lambda: submitting.accepted[-1], at)) for at in REPLICAS]
        until(lambda: all(watch.last for watch in (*everybody, *one)), "they are watched")
        seen.append(_seen(flow, 0, lambda now: now == Seen([old] * 2, [old] * 2)))

        stack.enter_context(flow.installed(NEW))
        adopted = 0
        for replica in REPLICAS:
            before = _adopted(flow, 1 - replica)
            _replace(flow, replica, "queue")
            adopted += _adopted(flow, 1 - replica) - before
            until(partial(_answers, callers[replica], submitting.accepted[0]), "its callers reach it again")
            seen.append(_look(flow, replica))
        held = []
        for way, worker in zip(ways, workers, strict=True):
            held.append(_end(worker))
            stack.enter_context(flow.worker(at=way, pretending=_WORK))
            seen.append(_seen(flow, 0, lambda now: len(now.workers) == len(ways)))
        for replica in REPLICAS:
            _replace(flow, replica, "user", "site")

        enough = max(len(submitting.accepted) + 5, _AT_LEAST)
        until(lambda: len(submitting.accepted) >= enough, "more jobs are handed in")
        submitting.stop()
        for name in submitting.accepted:
            first.ended(name)
        until(lambda: all(set(submitting.accepted) <= ended_in(watch) for watch in everybody), "the ends are shown", 10)
        for watch in (*everybody, *one):
            watch.stop()
        seen.append(_seen(flow, 1, lambda now: now == Seen([NEW] * 2, [NEW] * 2)))
    tasks = flow.rows("select * from task where job_id > :last", last=last["id"])
    attempts = flow.rows(
        "select attempt.* from attempt join task on task.id = attempt.task_id where task.job_id > :last",
        last=last["id"],
    )
    jobs = [first.get(name) for name in submitting.accepted]
    return Rolled(submitting, everybody, one, seen, held, adopted, jobs, tasks, attempts)


def ended_in(watch: WatchingAll) -> set[str]:
    """Returns the jobs that a watch has shown to have succeeded."""
    return {name for name, job in list(watch.last.items()) if job.state == pb.JOB_STATE_SUCCEEDED}


# --- what the work sees of it


def test_every_job_that_was_handed_in_meanwhile_succeeds(rolled: Rolled) -> None:
    states = Counter(pb.JobState.Name(job.state) for job in rolled.jobs)
    assert states == {"JOB_STATE_SUCCEEDED": len(rolled.submitting.accepted)}
    for job in rolled.jobs:
        assert job.progress.files_done == job.progress.files_total > 0


def test_no_attempt_is_lost(rolled: Rolled) -> None:
    assert Counter(row["state"] for row in rolled.tasks) == {TaskState.SUCCEEDED: len(rolled.tasks)}
    lapsed = [row["id"] for row in rolled.tasks if row["lapses"] or row["tries"]]
    assert lapsed == []
    completed = Counter(row["task_id"] for row in rolled.attempts if row["outcome"] == Outcome.COMPLETED)
    assert completed == Counter(row["id"] for row in rolled.tasks)


def test_what_did_not_complete_was_given_back_unstarted_by_a_worker_that_ended(rolled: Rolled) -> None:
    for row in rolled.attempts:
        if row["outcome"] != Outcome.COMPLETED:
            assert (row["outcome"], row["results"]) == (Outcome.RETURNED, None)
            assert row["failure"]["reason"] == "WORKER_DRAINED"


def test_there_was_work_at_everything_that_was_ended(rolled: Rolled) -> None:
    assert rolled.adopted > 0
    assert all(rolled.held)


@pytest.mark.row("D1")
def test_the_books_agree_when_all_has_been_replaced(flow: FlowDeployment, rolled: Rolled) -> None:
    with flow.settled_books().connect() as connection:
        assert discrepancies(connection) == []


# --- what people see of it


@pytest.mark.row("J10")
def test_what_was_not_taken_while_a_replica_ended_was_taken_by_the_other_as_the_same_job(
    flow: FlowDeployment, rolled: Rolled
) -> None:
    assert rolled.submitting.faults == []
    assert set(rolled.submitting.codes) <= {grpc.StatusCode.UNAVAILABLE}
    uids = {row["job_id"] for row in rolled.tasks}
    assert len(uids) == len(set(rolled.submitting.accepted)) == len(rolled.submitting.accepted)


def test_watchers_see_nothing_go_back_and_nothing_but_reconnects(rolled: Rolled) -> None:
    assert [fault for watch in rolled.watches for fault in watch.faults] == []
    for watch in rolled.watches:
        assert set(watch.codes) <= {grpc.StatusCode.UNAVAILABLE, None}


def test_watchers_of_all_jobs_are_sent_on_by_each_replica_that_ends_and_by_nothing_else(rolled: Rolled) -> None:
    # The first was at the one that ended first, and had gone on to the other when that one ended too.
    assert [len(watch.codes) for watch in rolled.everybody] == [2, 1]
    assert all(watch.ends for watch in rolled.one)


def test_operators_see_both_versions_together_and_in_the_end_the_new_one_alone(rolled: Rolled) -> None:
    old = version("wherry-queue")
    first, *between, last = rolled.seen
    assert first == Seen([old] * 2, [old] * 2)
    assert {old, NEW} in [set(seen.replicas) for seen in between]
    assert {old, NEW} in [set(seen.workers) for seen in between]
    assert last == Seen([NEW] * 2, [NEW] * 2)


# --- a real copy


def test_a_real_copy_goes_on_under_the_next_worker_and_no_attempt_is_lost(
    flow: FlowDeployment, first: ReplicaCaller, second: ReplicaCaller, fresh_folders: Callable[[], Folders]
) -> None:
    flow.start_both("queue")
    folders = fresh_folders()
    for name in ("one", "two", "three"):
        (folders.source / name).mkdir()
        write_many(folders.source / name, 6)
    folders.source_site.own("alice")
    settings = f"bulk = 1\n{FILE_BY_FILE}"
    with flow.worker(at=(0, 1), settings=settings) as worker:
        job = first.create(copy_between(folders))
        under_way(second, job.name, lambda: folders.arrived() >= 2)
        held, arrived = _end(worker), folders.arrived()
        with flow.worker(at=(0, 1), settings=settings) as other:
            under_way(second, job.name, lambda: folders.arrived() >= arrived + 2)
            _replace(flow, 0, "queue")
            joined = other.events("stream_opened")
            ended = second.ended(job.name)
    assert (held, ended.state) == (1, pb.JOB_STATE_SUCCEEDED)
    assert arrived == 6, "the first worker ended what it had begun, and began nothing else"
    assert len(joined) > 1
    assert same_trees(folders.source, folders.destination / "data")
    assert folders.temporaries() == []
    for row in flow.task_rows(job.name):
        assert (row["tries"], row["lapses"]) == (0, 0)
        outcomes = [attempt["outcome"] for attempt in flow.attempts(row["id"])]
        assert outcomes.count(Outcome.COMPLETED) == 1
        assert set(outcomes) <= {Outcome.COMPLETED, Outcome.RETURNED}
