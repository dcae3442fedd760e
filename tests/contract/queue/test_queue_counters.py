"""Whatever happens in whatever order: the counters are right, and a job with work left never reads as finished."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from wherry_chassis import migrations
from wherry_chassis.sql import make_engine
from wherry_queue.jobs import Found, LeaseLost, NewTask
from wherry_queue.models import EntryFailure, Job, Task
from wherry_queue.settling import FailedEntry, Failure, Settlement
from wherry_queue.states import FINISHED, JobState, Outcome, TaskKind, TaskState, WorkClass, job_state
from wherry_queue.store import control, lanes, leases, replicas, settlements, submission
from wherry_queue.store.leases import LeasedTask
from wherry_testing.queue_cases import POLICY, assert_counters, chunk_task, copy_job, files

_OPEN = (TaskState.READY, TaskState.RUNNING, TaskState.BLOCKED, TaskState.DELAYED)


class QueueMachine(RuleBasedStateMachine):
    """Users, workers and mishaps, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name)}/queue.db"
        migrations.upgrade(url, "wherry_queue")
        self.engine = make_engine(url).execution_options(wherry_writes=True)
        self.replica = self.do(replicas.renew_replica, None, 3_600_000)
        self.jobs: list[tuple[int, str]] = []
        self.held: list[LeasedTask] = []
        self.past: list[Settlement] = []

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def do(self, work: Any, *args: Any) -> Any:
        """Runs a work in a transaction."""
        with self.engine.begin() as connection:
            return work(connection, *args)

    @rule(chunks=st.integers(0, 3), removal=st.booleans())
    def submit(self, chunks: int, removal: bool) -> None:
        """A user asks for something."""
        if removal:
            job = copy_job(operation="remove", tasks=[NewTask(TaskKind.WALK_REMOVE, b"/d", root=True)])
        elif chunks:
            job = copy_job(tasks=[chunk_task(3) for _ in range(chunks)])
        else:
            job = copy_job()
        self.jobs.append(self.do(submission.submit, job))

    @rule(want=st.integers(1, 4))
    def lease(self, want: int) -> None:
        """Workers have room."""
        self.held += self.do(leases.lease, self.replica, WorkClass.BULK, want)

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99), chunks=st.integers(0, 2), directories=st.integers(0, 2), done=st.integers(0, 1))
    def report(self, pick: int, chunks: int, directories: int, done: int) -> None:
        """A walk finds something; perhaps it is one that has lost its lease."""
        task = self.held[pick % len(self.held)]
        if task.kind not in (TaskKind.WALK_COPY, TaskKind.WALK_REMOVE):
            return
        found = Found(
            task.task_id,
            task.fence,
            b"",
            b"m",
            chunks=[files(3)] * chunks,
            directories=[b"sub%d" % n for n in range(directories)],
            remove_directory=task.kind is TaskKind.WALK_REMOVE,
            directories_done=done,
        )
        try:
            self.do(submission.report, found)
        except LeaseLost:
            query = sa.select(Task.fence, Task.state, Job.cancelled).join(Job, Job.id == Task.job_id)
            row = self.do(lambda c: c.execute(query.where(Task.id == task.task_id)).one())
            assert row.cancelled or row.fence != task.fence or row.state != TaskState.RUNNING

    @precondition(lambda self: self.held)
    @rule(
        pick=st.integers(0, 99),
        outcome=st.sampled_from(list(Outcome)),
        done=st.sets(st.integers(0, 2)),
        broken=st.sets(st.integers(0, 2)),
        retryable=st.booleans(),
        keep=st.booleans(),
    )
    def settle(
        self, pick: int, outcome: Outcome, done: set[int], broken: set[int], retryable: bool, keep: bool
    ) -> None:
        """A worker says how it went; with `keep` its word is sent twice."""
        task = self.held.pop(pick % len(self.held))
        chunk = task.kind in (TaskKind.COPY_FILES, TaskKind.REMOVE_FILES)
        before = task.settled[0] if task.settled else 0
        bits = sum(1 << i for i in done) | before
        fresh = (bits & ~before).bit_count()
        failure = Failure("WHY", "because", retryable=retryable)
        word = Settlement(
            task.task_id,
            task.fence,
            outcome,
            failure=failure if outcome in (Outcome.FAILED, Outcome.RETURNED) else None,
            done=bytes([bits]) if chunk else b"",
            files_done=fresh if chunk else 0,
            bytes_done=10 * fresh if chunk else 0,
            failures=[FailedEntry(i, b"/x", 10, failure) for i in broken - done] if chunk else [],
        )
        self.send(word)
        if keep:
            self.past.append(word)

    @precondition(lambda self: self.past)
    @rule(pick=st.integers(0, 99))
    def repeat(self, pick: int) -> None:
        """An answer was lost and the worker repeats its word."""
        self.send(self.past[pick % len(self.past)])

    def send(self, word: Settlement) -> None:
        """Sends a word, and opens what it ends."""
        _, jobs = self.do(settlements.settle, [word], POLICY)
        for job_id in jobs:
            self.do(lanes.open_next_phase, job_id)

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99))
    def lapse(self, pick: int) -> None:
        """A worker is lost; its word may still come."""
        task = self.held[pick % len(self.held)]
        for job_id in self.do(leases.requeue, self.replica, [(task.task_id, task.fence)]):
            self.do(lanes.open_next_phase, job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        """The owner has had enough."""
        self.do(control.cancel, "users/a", self.jobs[pick % len(self.jobs)][1])

    @rule()
    def release(self) -> None:
        """Time passes."""
        self.do(lanes.release_delayed, 1 << 60)

    @invariant()
    def counters_are_what_counting_gives(self) -> None:
        """No counter drifts."""
        self.do(assert_counters)

    @invariant()
    def no_job_with_work_left_reads_as_finished(self) -> None:
        """And no job without any reads as unfinished."""
        with self.engine.begin() as connection:
            for job in connection.execute(sa.select(Job.__table__)):
                of_job = sa.select(sa.func.count()).select_from(Task).where(Task.job_id == job.id)
                left = connection.execute(of_job.where(Task.state.in_(_OPEN))).scalar_one()
                state = job_state(job)
                assert (state in FINISHED) == (left == 0), f"{state} with {left} tasks left"
                failures = connection.execute(
                    sa.select(sa.func.count()).select_from(EntryFailure).where(EntryFailure.job_id == job.id)
                ).scalar_one()
                if state is JobState.SUCCEEDED:
                    assert failures == 0
                    assert job.files_done == job.files_total, "a job that succeeded has done all it knew of"
                if not job.cancelled and state in FINISHED:
                    assert job.files_done + job.files_failed == job.files_total


_SETTINGS = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.row("D1")
def test_counters_are_right_under_any_order_of_events() -> None:
    run_state_machine_as_test(QueueMachine, settings=_SETTINGS)
