"""The engines that only pretend: alike at every look, and as heedful of the worker as real ones."""

from __future__ import annotations

import asyncio
import time

import pytest
from wherry_fakes.pretending_engines import Pretence, PretendingEngines
from wherry_fakes.pretending_worker import PretendingRunner
from wherry_fakes.synthetic_trees import directory_at, entries_of, size_of
from wherry_fakes.worker_ports import FakeQueue
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker.attempt import Attempt
from wherry_worker.work import (
    ChunkItem,
    CopyChunk,
    Lease,
    LeaseRef,
    ListOne,
    Outcome,
    Settlement,
    WalkCopy,
    WalkRemove,
    Work,
    WorkClass,
)

ITEMS = tuple(ChunkItem(f"f{number}", "", 10) for number in range(200))
CHUNK = CopyChunk("/s", "/d", ITEMS, b"")


def attempt_at(work: Work, fence: int = 1) -> Attempt:
    ref, end = LeaseRef("jobs/1/tasks/2", fence), time.monotonic() + 30
    return Attempt(Lease(ref, end, "t", WorkClass.BULK, "users/1", "sites/a", "sites/b", 1, work))


def failed(settlement: Settlement) -> list[int]:
    return [failure.index for failure in settlement.failures]


def test_a_tree_is_the_same_at_every_look_and_ends_at_its_depth() -> None:
    top = list(entries_of("/synthetic/3x2x5"))
    assert [entry.name for entry in top] == ["d000", "d001", "d002", *(f"f{number:06}" for number in range(5))]
    assert top == list(entries_of("/synthetic/3x2x5"))
    assert len({entry.size_bytes for entry in top}) > 3
    assert [directory_at(f"/synthetic/3x2x5{below}") for below in ("/d001", "/d001/d002", "-mine")] == [
        (3, 5),
        (0, 5),
        (3, 5),
    ]
    for file in ("/synthetic/3x2x5/d001/d002/d000", "/synthetic/3x2x5/d003", "/synthetic/3x2x5/f000001", "/a/b"):
        assert directory_at(file) is None
        assert 1 <= size_of(file) <= 1 << 24


def test_a_tree_is_listed_on_behind_a_name() -> None:
    assert [entry.name for entry in entries_of("/synthetic/3x1x3", "d001")][:2] == ["d002", "f000000"]
    assert [entry.name for entry in entries_of("/synthetic/3x1x3", "f000001")] == ["f000002"]


async def test_walks_and_listings_report_the_tree() -> None:
    queue = FakeQueue()
    runner = PretendingRunner(queue, PretendingEngines(Pretence()))
    walk = WalkCopy("/synthetic/2x1x2500", "/x", root=True, recursive=True, cursor="f000999")
    assert (await runner.run(attempt_at(walk))).outcome is Outcome.COMPLETED
    names = [item.name for found in queue.reported for chunk in found.chunks for item in chunk]
    assert names == [f"f{number:06}" for number in range(1000, 2500)]
    queue.reported.clear()
    await runner.run(attempt_at(WalkRemove("/synthetic/2x1x3", root=True, recursive=True, cursor="")))
    (found,) = queue.reported
    assert (found.directories, len(found.chunks[0]), found.remove_directory) == (("d000", "d001"), 3, True)
    queue.reported.clear()
    await runner.run(attempt_at(ListOne("/synthetic/2x1x3")))
    assert len(queue.reported[0].entries) == 5


async def test_failures_are_the_same_for_one_seed_and_those_in_passing_pass() -> None:
    pretence = Pretence(seed=4, fail_rate=0.1, retry_rate=0.2)
    runner = PretendingRunner(FakeQueue(), PretendingEngines(pretence))
    first, again, later = [await runner.run(attempt_at(CHUNK, fence)) for fence in (1, 1, 2)]
    assert failed(first) == failed(again) != failed(later)
    for_good = [f.index for f in first.failures if not f.problem.retryable]
    assert 5 < len(for_good) < 40
    assert for_good == [f.index for f in later.failures if not f.problem.retryable]
    assert len(failed(first)) > len(for_good) + 15
    well = PretendingRunner(FakeQueue(), PretendingEngines(Pretence(seed=4, fail_rate=0.9, sick_attempts=1)))
    assert failed(await well.run(attempt_at(CHUNK, fence=2))) == []


@pytest.mark.parametrize("spread", ["fixed", "exponential", "lognormal"])
def test_tasks_take_the_mean_time_in_the_mean(spread: str) -> None:
    pretence = Pretence(task_s=2.0, spread=spread)  # type: ignore[arg-type]  # one of its words
    times = [pretence.duration_s(number) for number in range(4000)]
    assert 1.8 < sum(times) / len(times) < 2.2
    assert (len(set(times)) == 1) is (spread == "fixed")


async def test_a_pause_and_a_cancel_are_heeded_in_the_middle() -> None:
    runner = PretendingRunner(FakeQueue(), PretendingEngines(Pretence(task_s=20, spread="fixed")))
    paused, cancelled = attempt_at(CHUNK), attempt_at(CHUNK)
    runs = [asyncio.create_task(runner.run(attempt)) for attempt in (paused, cancelled)]
    await until(lambda: min(paused.files_done, cancelled.files_done) >= 2)
    await paused.pause()
    await cancelled.stop("JOB_CANCELLED")
    first, second = await asyncio.wait_for(asyncio.gather(*runs), PATIENCE_S)
    assert (first.outcome, second.outcome) == (Outcome.COMPLETED, Outcome.CANCELLED)
    assert 2 <= first.files_done < 200
    assert first.failures == ()
