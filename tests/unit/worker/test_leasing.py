"""The worker's side of the lease protocol, against a queue in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from wherry_fakes.worker_ports import FakeQueue, FakeStream, HeldRunner
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker.leasing import Leasing
from wherry_worker.ports import Opened, StreamEvent
from wherry_worker.work import EndedSession, Lease, LeaseRef, ListOne, Outcome, Renewal, WorkClass

TASK = "jobs/1/tasks/7"


def lease(task: str = TASK, fence: int = 1, work_class: WorkClass = WorkClass.BULK) -> Lease:
    return Lease(
        ref=LeaseRef(task, fence),
        deadline=time.monotonic() + 30,
        token=f"token {fence}",
        work_class=work_class,
        user="users/1",
        source_site="sites/a",
        destination_site="sites/a",
        attempt=1,
        work=ListOne("/"),
    )


class Worker:
    """A worker under test."""

    def __init__(self) -> None:
        self.queue = FakeQueue()
        self.runner = HeldRunner()
        self.leasing = Leasing(self.queue, self.runner, interactive=2, bulk=3)
        self.serving = asyncio.create_task(self.leasing.serve(grace_s=0.3))

    async def stream(self, index: int = -1) -> FakeStream:
        await until(lambda: len(self.queue.streams) > (index if index >= 0 else 0))
        return self.queue.streams[index]

    async def holds(self, *leases: Lease) -> FakeStream:
        stream = await self.stream()
        stream.send(StreamEvent(leases=leases))
        await until(lambda: all(item.ref.task in self.runner.attempts for item in leases))
        return stream


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    yield worker
    worker.serving.cancel()
    await asyncio.gather(worker.serving, return_exceptions=True)


@pytest.mark.row("W1")
async def test_capacity_is_told_for_each_class_and_once(worker: Worker) -> None:
    stream = await worker.holds(lease())
    worker.runner.end(TASK)
    await until(lambda: worker.queue.settled)
    assert [detail for what, detail in stream.said if what == "capacity"] == [(2, 3)]


async def test_a_finished_task_is_settled(worker: Worker) -> None:
    await worker.holds(lease())
    assert worker.leasing.held == [LeaseRef(TASK, 1)]
    worker.runner.end(TASK)
    await until(lambda: worker.queue.settled)
    assert worker.queue.settled[0].outcome is Outcome.COMPLETED
    await until(lambda: worker.leasing.held == [])


@pytest.mark.row("J7")
async def test_a_cancel_stops_the_task_at_once_and_it_is_settled_as_cancelled(worker: Worker) -> None:
    stream = await worker.holds(lease())
    started = time.monotonic()
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 1), "JOB_CANCELLED")]))
    await until(lambda: worker.queue.settled)
    assert time.monotonic() - started < 1
    assert worker.queue.settled[0].outcome is Outcome.CANCELLED


@pytest.mark.row("J7")
async def test_a_pause_stops_nothing_that_runs_and_a_cancel_after_it_does(worker: Worker) -> None:
    stream = await worker.holds(lease())
    attempt = worker.runner.attempts[TASK]
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 1), "JOB_PAUSED")]))
    await until(lambda: attempt.pausing)
    assert attempt.stop_reason is None
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 1), "JOB_CANCELLED")]))
    await until(lambda: worker.queue.settled)
    assert worker.queue.settled[0].outcome is Outcome.CANCELLED


@pytest.mark.row("W4")
@pytest.mark.parametrize("reason", ["SIGN_IN_REQUIRED", "SUSPENDED"])
async def test_what_is_stopped_for_the_users_standing_is_given_back(worker: Worker, reason: str) -> None:
    stream = await worker.holds(lease())
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 1), reason)]))
    await until(lambda: worker.queue.settled)
    (settlement,) = worker.queue.settled
    assert settlement.problem is not None
    assert (settlement.outcome, settlement.problem.reason) == (Outcome.RETURNED, reason)


@pytest.mark.row("W4")
async def test_the_end_of_a_session_is_passed_on_and_marks_what_runs_for_its_user_there(worker: Worker) -> None:
    stream = await worker.holds(lease())
    ended = [EndedSession("users/2", "sites/a"), EndedSession("users/1", "sites/b")]
    stream.send(StreamEvent(ended_sessions=ended, leases=[lease("jobs/1/tasks/8")]))
    await until(lambda: "jobs/1/tasks/8" in worker.runner.attempts)
    attempt = worker.runner.attempts[TASK]
    assert attempt.ended_sites == set(), "neither is it this user's session nor at its site"
    stream.send(StreamEvent(ended_sessions=[EndedSession("users/1", "sites/a")]))
    await until(lambda: attempt.ended_sites == {"sites/a"})
    await until(lambda: len(worker.runner.ended_sessions) == 3)
    assert worker.runner.ended_sessions[0] == ("users/2", "sites/a")
    assert attempt.stop_reason is None, "what runs is stopped by the queue's word on its lease"
    assert worker.runner.all_ended == 0


@pytest.mark.row("W4")
async def test_a_worker_that_was_without_a_stream_keeps_nothing_warm_since_it_may_have_missed_a_sign_out(
    worker: Worker,
) -> None:
    first = await worker.holds(lease())
    assert worker.runner.all_ended == 0
    first.break_off()
    await worker.stream(1)
    await until(lambda: worker.runner.all_ended == 1)
    assert worker.runner.attempts[TASK].ended_sites == {"sites/a"}
    assert worker.runner.attempts[TASK].stop_reason is None


@pytest.mark.row("W2")
async def test_a_lease_that_was_lost_is_stopped_and_nothing_is_settled(worker: Worker) -> None:
    stream = await worker.holds(lease())
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 1), "LEASE_LOST")]))
    await until(lambda: worker.leasing.held == [])
    assert worker.runner.attempts[TASK].stop_reason == "LEASE_LOST"
    assert worker.queue.settled == []


@pytest.mark.row("W2")
async def test_a_cancel_of_an_older_lease_leaves_the_newer_alone(worker: Worker) -> None:
    stream = await worker.holds(lease(fence=5))
    stream.send(StreamEvent(cancelled=[(LeaseRef(TASK, 4), "JOB_CANCELLED")]))
    stream.send(StreamEvent(leases=[lease("jobs/1/tasks/8")]))
    await until(lambda: "jobs/1/tasks/8" in worker.runner.attempts)
    assert worker.runner.attempts[TASK].stop_reason is None


@pytest.mark.row("W2")
async def test_a_newer_lease_of_the_same_task_takes_the_place_of_the_older(worker: Worker) -> None:
    stream = await worker.holds(lease(fence=1))
    first = worker.runner.attempts[TASK]
    stream.send(StreamEvent(leases=[lease(fence=2)]))
    await until(lambda: worker.runner.attempts[TASK] is not first)
    assert first.stop_reason == "LEASE_LOST"
    worker.runner.end(TASK)
    await until(lambda: worker.queue.settled)
    assert [item.ref.fence for item in worker.queue.settled] == [2]


async def test_a_lease_that_is_sent_twice_runs_once(worker: Worker) -> None:
    stream = await worker.holds(lease())
    first = worker.runner.attempts[TASK]
    stream.send(StreamEvent(leases=[lease(), lease("jobs/1/tasks/8")]))
    await until(lambda: "jobs/1/tasks/8" in worker.runner.attempts)
    assert worker.runner.attempts[TASK] is first


async def test_a_renewal_moves_the_deadline_and_brings_a_new_token(worker: Worker) -> None:
    stream = await worker.holds(lease())
    attempt = worker.runner.attempts[TASK]
    later = time.monotonic() + 100
    stream.send(StreamEvent(renewed=[Renewal(LeaseRef(TASK, 1), later, "newer token")]))
    await until(lambda: attempt.token == "newer token")
    assert attempt.deadline == later


@pytest.mark.row("W1")
async def test_after_a_break_the_next_stream_names_what_is_held_finished_or_not(worker: Worker) -> None:
    stream = await worker.holds(lease(), lease("jobs/1/tasks/8"))
    worker.queue.down = True
    stream.break_off()
    worker.runner.end(TASK)
    await until(lambda: worker.queue.unanswered)
    worker.queue.down = False
    second = await worker.stream(1)
    settled = {item.ref.task for item in worker.queue.settled}
    assert {ref.task for ref in second.held} | settled == {TASK, "jobs/1/tasks/8"}
    assert worker.runner.attempts["jobs/1/tasks/8"].stop_reason is None
    await until(lambda: [item.ref.task for item in worker.queue.settled] == [TASK])


async def test_what_the_queue_says_is_lost_at_opening_is_stopped(worker: Worker) -> None:
    stream = await worker.holds(lease())
    worker.queue.opened = Opened(10, 30, lost=[LeaseRef(TASK, 1)])
    stream.break_off()
    await until(lambda: worker.leasing.held == [])
    assert worker.queue.settled == []


@pytest.mark.row("D2")
async def test_a_worker_with_nothing_to_tell_gives_signs_of_life_in_each_heartbeat(worker: Worker) -> None:
    first = await worker.stream()
    worker.queue.opened = Opened(heartbeat_s=0.2, ttl_s=30)
    first.break_off()
    stream = await worker.stream(2)
    await until(lambda: [said for said in stream.said if said[0] == "progress"][:2] == [("progress", [])] * 2)


async def test_a_silent_stream_is_given_up(worker: Worker) -> None:
    first = await worker.stream()
    worker.queue.opened = Opened(heartbeat_s=0.05, ttl_s=30)
    first.break_off()
    await worker.stream(2)


@pytest.mark.row("W1")
async def test_results_are_kept_and_sent_until_they_are_acknowledged(worker: Worker) -> None:
    await worker.holds(lease())
    worker.queue.down = True
    worker.runner.end(TASK)
    await until(lambda: worker.queue.unanswered)
    assert worker.leasing.held == [LeaseRef(TASK, 1)]
    worker.queue.down = False
    await until(lambda: worker.queue.settled)


async def test_a_lost_answer_has_the_result_sent_again_and_counted_once(worker: Worker) -> None:
    await worker.holds(lease())
    worker.queue.lost_answers = 2
    worker.runner.end(TASK)
    await until(lambda: worker.leasing.held == [])
    assert len(worker.queue.settled) == 1
    assert len(worker.queue.batches) == 3


async def test_one_unfit_result_does_not_hold_up_the_others(worker: Worker) -> None:
    tasks = [f"jobs/1/tasks/{number}" for number in range(3)]
    await worker.holds(*(lease(task) for task in tasks))
    worker.queue.refusals = {tasks[1]}
    for task in tasks:
        worker.runner.end(task)
    await until(lambda: worker.leasing.held == [])
    assert {item.ref.task for item in worker.queue.settled} == {tasks[0], tasks[2]}


async def test_progress_is_told_when_it_changed(worker: Worker) -> None:
    stream = await worker.holds(lease())
    worker.runner.attempts[TASK].advance(100, 1)
    await until(lambda: any(what == "progress" for what, _ in stream.said))
    (progress,) = [detail for what, detail in stream.said if what == "progress"]
    assert isinstance(progress, list)
    assert (progress[0].ref, progress[0].transferred_bytes, progress[0].files_done) == (LeaseRef(TASK, 1), 100, 1)


@pytest.mark.row("W1")
async def test_a_drain_lets_tasks_end_and_takes_no_more(worker: Worker) -> None:
    stream = await worker.holds(lease())
    worker.leasing.drain()
    await until(lambda: ("drain", None) in stream.said)
    assert [detail for what, detail in stream.said if what == "capacity"] == [(2, 3), (0, 0)]
    worker.runner.end(TASK)
    await asyncio.wait_for(worker.serving, PATIENCE_S)
    assert worker.queue.settled[0].outcome is Outcome.COMPLETED


async def test_what_does_not_end_in_the_grace_is_stopped_and_given_back(worker: Worker) -> None:
    await worker.holds(lease())
    worker.leasing.drain()
    await asyncio.wait_for(worker.serving, PATIENCE_S)
    assert worker.queue.settled[0].outcome is Outcome.RETURNED


async def test_the_queue_can_ask_for_a_drain(worker: Worker) -> None:
    stream = await worker.holds(lease())
    stream.send(StreamEvent(drain_grace_s=0.1))
    await asyncio.wait_for(worker.serving, PATIENCE_S)
    assert worker.queue.settled[0].outcome is Outcome.RETURNED


@pytest.mark.row("W1")
async def test_the_queues_grace_is_kept_even_where_it_is_longer_than_the_workers_own(worker: Worker) -> None:
    stream = await worker.holds(lease())
    stream.send(StreamEvent(drain_grace_s=30))
    await until(lambda: ("drain", None) in stream.said)
    await asyncio.wait([worker.serving], timeout=0.5)  # longer than the worker's own
    assert worker.runner.attempts[TASK].stop_reason is None
    worker.leasing.drain()  # a SIGTERM: the sooner end counts
    await asyncio.wait_for(worker.serving, PATIENCE_S)
    assert worker.queue.settled[0].outcome is Outcome.RETURNED


@pytest.mark.row("W1")
async def test_a_lease_that_was_under_way_when_the_drain_began_is_given_back_unstarted(worker: Worker) -> None:
    stream = await worker.holds(lease())
    stream.send(StreamEvent(drain_grace_s=30))
    await until(lambda: ("drain", None) in stream.said)
    stream.send(StreamEvent(leases=[lease("jobs/1/tasks/8")]))
    await until(lambda: worker.queue.settled)
    assert [(item.ref.task, item.outcome) for item in worker.queue.settled] == [
        ("jobs/1/tasks/8", Outcome.RETURNED),
    ]
    assert "jobs/1/tasks/8" not in worker.runner.attempts


async def test_a_worker_with_a_fault_of_its_own_ends_instead_of_idling(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await worker.stream()

    async def broken(*_: object) -> None:
        raise LookupError("a fault")

    monkeypatch.setattr(stream, "progress", broken)
    await worker.holds(lease())
    worker.runner.attempts[TASK].advance(1, 1)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(worker.serving, PATIENCE_S)
