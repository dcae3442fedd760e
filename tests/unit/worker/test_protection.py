"""How bytes are protected on their way: as the strongest of job and sites asks for, and whose demand it is."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_fakes.pretending_engines import Pretence, PretendingEngine, PretendingEngines
from wherry_fakes.worker_access import folder_access, folder_pool
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_worker.attempt import Attempt
from wherry_worker.engine.messages import CopyFiles, Message, Protection, Task
from wherry_worker.engine.protection import strongest
from wherry_worker.engine.verification import not_protected, size_differs
from wherry_worker.engines import EngineKey, Engines, Plan
from wherry_worker.protection import with_policy
from wherry_worker.running import TaskRunner
from wherry_worker.work import ChunkItem, CopyChunk, CopyRules, Lease, LeaseRef, Outcome, Settlement, WorkClass

J1 = pytest.mark.row("J1")
ASKED: list[Protection | None] = [None, "clear", "authenticated", "encrypted"]


class NotingEngine(PretendingEngine):
    """Tells what it was asked for."""

    def __init__(self, asked: list[tuple[Protection | None, Protection]]) -> None:
        super().__init__(Pretence())
        self._asked = asked

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        if isinstance(task, CopyFiles):
            self._asked.append((task.protection, task.least_protection))
        async with aclosing(super().run(task, deadline)) as messages:
            async for message in messages:
                yield message


class NotingEngines(PretendingEngines):
    def __init__(self) -> None:
        super().__init__(Pretence())
        self.asked: list[tuple[Protection | None, Protection]] = []

    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[PretendingEngine]:
        yield NotingEngine(self.asked)


class Lab:
    """Two sites that are folders, one file at the first, and what each of them demands."""

    def __init__(self, folder: Path) -> None:
        self.folders = [folder / name for name in ("a", "b")]
        for each in self.folders:
            each.mkdir()
        (self.folders[0] / "f").write_bytes(b"content")

    async def copied(
        self,
        engines: Engines,
        wish: Protection | None,
        source: Protection | None = None,
        destination: Protection | None = None,
        *,
        within_one: bool = False,
    ) -> Settlement:
        """What comes of copying the file; `within_one`: from the first site to itself."""
        accesses = [
            replace(folder_access(f"sites/{folder.name}", folder), data_channel=demand)
            for folder, demand in zip(self.folders, (source, destination), strict=True)
        ]
        end = accesses[0 if within_one else 1].site
        chunk = CopyChunk("/", "/", (ChunkItem("f", "copy", 7),), b"", CopyRules(protection=wish))
        ref = LeaseRef("jobs/1/tasks/2", 1)
        lease = Lease(ref, time.monotonic() + 60, "t", WorkClass.BULK, "users/1", "sites/a", end, 1, chunk)
        runner = TaskRunner(FakeSites(*accesses), FakeQueue(), engines, {"folder": "folder"})
        return await runner.run(Attempt(lease))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@J1
@given(st.lists(st.sampled_from(ASKED), max_size=3))
def test_the_strongest_holds_whoever_asks_for_it(asked: list[Protection | None]) -> None:
    # None of them, clear, authenticated, encrypted: the list above is in this order.
    assert strongest(*asked) == (max(asked, key=ASKED.index, default=None) or "clear")


@J1
@pytest.mark.parametrize(
    ("wish", "source", "destination", "least"),
    [
        (None, None, None, "clear"),
        ("clear", None, None, "clear"),
        ("clear", "authenticated", None, "authenticated"),
        ("clear", None, "encrypted", "encrypted"),
        (None, "encrypted", "authenticated", "encrypted"),
        ("encrypted", "authenticated", "clear", "authenticated"),
    ],
)
async def test_an_engine_is_told_what_the_job_wishes_and_the_least_that_the_sites_demand(
    lab: Lab,
    wish: Protection | None,
    source: Protection | None,
    destination: Protection | None,
    least: Protection,
) -> None:
    engines = NotingEngines()
    settlement = await lab.copied(engines, wish, source, destination)
    assert (settlement.outcome, engines.asked) == (Outcome.COMPLETED, [(wish, least)])


@J1
async def test_a_copy_within_a_site_heeds_its_demand_too(lab: Lab) -> None:
    engines = NotingEngines()
    await lab.copied(engines, "clear", "encrypted", within_one=True)
    assert engines.asked == [("clear", "encrypted")]


@J1
async def test_doors_that_cannot_do_what_a_site_demands_get_no_byte_and_the_site_is_named(
    lab: Lab, tmp_path: Path
) -> None:
    pool = folder_pool(tmp_path)
    try:
        refused = await lab.copied(pool, "clear", None, "encrypted")
        assert list(lab.folders[1].iterdir()) == []
        asked_for = await lab.copied(pool, "encrypted")
        allowed = await lab.copied(pool, "clear", "clear")
    finally:
        await pool.close()
    assert refused.outcome is Outcome.FAILED
    assert refused.problem is not None
    assert refused.problem.reason == "DATA_CHANNEL_NOT_PROTECTED"
    assert "The policy of b demands that bytes go encrypted." in refused.problem.help
    assert asked_for.problem == not_protected(), "no site has said anything"
    assert (allowed.outcome, allowed.protection) == (Outcome.COMPLETED, "clear")
    assert (lab.folders[1] / "copy").read_bytes() == b"content"


@J1
def test_only_sites_that_demand_protection_are_named_and_each_once(tmp_path: Path) -> None:
    a, b = (folder_access(f"sites/{name}", tmp_path) for name in "ab")
    clear = replace(a, data_channel="clear")
    demanding = [replace(a, data_channel="authenticated"), replace(b, data_channel="encrypted")]
    assert with_policy(not_protected(), [a, clear]) == not_protected()
    both = with_policy(not_protected(), demanding)
    assert both.help.startswith(
        "The policy of a demands that bytes go authenticated and that of b demands that bytes go encrypted. "
    )
    assert replace(both, help=not_protected().help) == not_protected()
    once = with_policy(not_protected(), [demanding[1], demanding[1]])
    assert once.help.startswith("The policy of b demands that bytes go encrypted. ")
    assert with_policy(size_differs(1, 2), demanding) == size_differs(1, 2), "the policy has nothing to do with others"
