"""What a chunk's copy says of temporary files that stay at the destination, and what it has engines keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from wherry_fakes.pretending_engines import Pretence, PretendingEngine, PretendingEngines
from wherry_fakes.worker_access import folder_access
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_testing.waiting import until
from wherry_worker.attempt import Attempt
from wherry_worker.engine.messages import (
    CopyFiles,
    ItemDone,
    LeftBehind,
    Message,
    Problem,
    Progress,
    RemoveTemporaries,
    Task,
)
from wherry_worker.engine_process import DeathCause, EngineDied, EngineTaskFailed
from wherry_worker.engines import EngineKey, Plan
from wherry_worker.running import TaskRunner
from wherry_worker.telling import settlement_message
from wherry_worker.work import ChunkItem, CopyChunk, CopyRules, Lease, LeaseRef, Outcome, Settlement, WorkClass

pytestmark = pytest.mark.row("B9")

LARGE = 5 << 30
CHUNK = CopyChunk("/", "/", (ChunkItem("large", "", LARGE), ChunkItem("other", "", LARGE)), b"", CopyRules("never"))
LOST = Problem("TRANSFER_BROKEN", "The connection was lost.", "network", retryable=True)
Act = Message | DeathCause | Problem
"""What an engine does with a task: tells something, dies, fails. At the end it finishes; `hang` waits for its end."""


class Scripted(PretendingEngines):
    """Engines that do with each copy what a test says, and with each clean-up what it says of those.

    Attributes:
        tasks: what they were given.
    """

    def __init__(self, copies: list[list[Act | None]], cleaned: LeftBehind | DeathCause | None = None) -> None:
        super().__init__(Pretence())
        self.copies = copies
        self.cleaned = cleaned
        self.tasks: list[Task] = []

    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[PretendingEngine]:
        yield _Engine(self)

    @property
    def clean_ups(self) -> list[RemoveTemporaries]:
        return [task for task in self.tasks if isinstance(task, RemoveTemporaries)]

    @property
    def copied(self) -> list[CopyFiles]:
        return [task for task in self.tasks if isinstance(task, CopyFiles)]


class _Engine(PretendingEngine):
    def __init__(self, script: Scripted) -> None:
        super().__init__(Pretence())
        self._script = script

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        self._script.tasks.append(task)
        cleaned = [] if self._script.cleaned is None else [self._script.cleaned]
        acts = self._script.copies.pop(0) if isinstance(task, CopyFiles) else cleaned
        for act in acts:
            if act is None:
                await self._killed.wait()
                raise EngineDied(self._cause)
            if isinstance(act, str):
                raise EngineDied(act)
            if isinstance(act, Problem):
                raise EngineTaskFailed(act)
            yield act


def attempt_at(chunk: CopyChunk, fence: int = 1) -> Attempt:
    deadline = asyncio.get_running_loop().time() + 60
    ref = LeaseRef("jobs/1/tasks/2", fence)
    return Attempt(Lease(ref, deadline, "t", WorkClass.BULK, "users/1", "sites/a", "sites/b", 1, chunk))


@pytest.fixture
def runner_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scripted], TaskRunner]:
    folder = tmp_path_factory.mktemp("sites")

    def make(engines: Scripted) -> TaskRunner:
        sites = FakeSites(folder_access("sites/a", folder), folder_access("sites/b", folder))
        return TaskRunner(sites, FakeQueue(), engines, {"folder": "folder"})

    return make


RunnerOf = Callable[[Scripted], TaskRunner]
DONE: list[Act | None] = [ItemDone(0, LARGE), ItemDone(1, LARGE)]


async def run(
    runner_of: RunnerOf, engines: Scripted, chunk: CopyChunk = CHUNK, fence: int = 1, stop: str | None = None
) -> Settlement:
    attempt = attempt_at(chunk, fence)
    running = asyncio.create_task(runner_of(engines).run(attempt))
    if stop is not None:
        await until(lambda: engines.tasks)
        await attempt.stop(stop)
    return await asyncio.wait_for(running, 30)


async def test_what_an_engine_tells_of_is_said_of_the_attempt(runner_of: RunnerOf) -> None:
    settlement = await run(runner_of, Scripted([[ItemDone(0, LARGE), LeftBehind(), LOST]]))
    assert (settlement.outcome, settlement.left_behind) == (Outcome.FAILED, True)
    assert settlement_message(settlement).left_behind
    settlement = await run(runner_of, Scripted([[ItemDone(0, LARGE), LOST]]))
    assert (settlement.outcome, settlement.left_behind) == (Outcome.FAILED, False)


async def test_an_attempt_that_looked_and_found_nothing_says_so(runner_of: RunnerOf) -> None:
    engines = Scripted([DONE])
    settlement = await run(runner_of, engines, fence=3)
    assert (settlement.outcome, settlement.left_behind) == (Outcome.COMPLETED, False)
    assert engines.copied[0].remove_stale


async def test_an_attempt_that_never_looked_does_not_say_that_nothing_is_there(runner_of: RunnerOf) -> None:
    for fence in (1, 2):
        attempt = attempt_at(CHUNK, fence)
        await attempt.pause()
        settlement = await runner_of(Scripted([])).run(attempt)
        assert (settlement.outcome, settlement.left_behind) == (Outcome.COMPLETED, fence > 1)


async def test_a_stalled_files_part_stays_while_the_others_go_on_and_for_the_next_attempt(runner_of: RunnerOf) -> None:
    stalls: list[Act | None] = [Progress(0, "copying", 4 << 30), "stalled"]
    engines = Scripted([stalls, [LeftBehind(), ItemDone(1, LARGE)]], cleaned=LeftBehind())
    settlement = await run(runner_of, engines)
    assert [failure.problem.reason for failure in settlement.failures] == ["TRANSFER_STALLED"]
    assert (settlement.done, settlement.left_behind) == (b"\x02", True)
    assert [task.keep_resumable for task in engines.clean_ups] == [True]
    again = engines.copied[1]
    assert (again.later, again.engines_before, again.remove_stale) == ((0,), 1, True)
    assert [item.index for item in again.items] == [1]


async def test_what_a_dead_engine_left_and_the_next_took_over_is_not_said_to_be_there(runner_of: RunnerOf) -> None:
    stalls: list[Act | None] = [Progress(0, "copying", 4 << 30), "stalled"]
    settlement = await run(runner_of, Scripted([stalls, [ItemDone(1, LARGE)]], cleaned=LeftBehind()))
    assert (settlement.done, settlement.left_behind) == (b"\x02", False)


@pytest.mark.parametrize("reason", ["DRAINED", "SIGN_IN_REQUIRED", "SUSPENDED"])
async def test_who_is_given_back_leaves_what_the_next_attempt_goes_on_from(runner_of: RunnerOf, reason: str) -> None:
    engines = Scripted([[Progress(0, "copying", 4 << 30), None]], cleaned=LeftBehind())
    settlement = await run(runner_of, engines, stop=reason)
    assert (settlement.outcome, settlement.left_behind) == (Outcome.RETURNED, True)
    assert [task.keep_resumable for task in engines.clean_ups] == [True]


async def test_who_is_cancelled_leaves_nothing(runner_of: RunnerOf) -> None:
    engines = Scripted([[Progress(0, "copying", 4 << 30), None]])
    settlement = await run(runner_of, engines, stop="JOB_CANCELLED")
    assert (settlement.outcome, settlement.left_behind) == (Outcome.CANCELLED, False)
    assert [task.keep_resumable for task in engines.clean_ups] == [False]


async def test_a_copy_that_trusts_in_sizes_keeps_nothing(runner_of: RunnerOf) -> None:
    chunk = replace(CHUNK, rules=replace(CHUNK.rules, verification="size"))
    engines = Scripted([[Progress(0, "copying", 4 << 30), "deadline"]])
    settlement = await run(runner_of, engines, chunk)
    assert (settlement.outcome, settlement.left_behind) == (Outcome.RETURNED, False)
    assert [task.keep_resumable for task in engines.clean_ups] == [False]


async def test_what_could_not_be_removed_is_said_to_be_there(runner_of: RunnerOf) -> None:
    settlement = await run(runner_of, Scripted([[None]], cleaned="crashed"), stop="JOB_CANCELLED")
    assert (settlement.outcome, settlement.left_behind) == (Outcome.CANCELLED, True)
