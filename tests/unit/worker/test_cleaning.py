"""Clean-ups of what copies left at a destination, with engines whose doors are folders."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from wherry_fakes.worker_access import folder_access, folder_pool
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_worker import cleaning
from wherry_worker.attempt import Attempt
from wherry_worker.engine.paths import to_text
from wherry_worker.engine.temporary import aside_name, tag_of, temporary_name
from wherry_worker.running import TaskRunner
from wherry_worker.work import ChunkItem, CleanUp, Lease, LeaseRef, Outcome, Settlement, WorkClass

pytestmark = pytest.mark.row("D2")

COPY = "jobs/1/tasks/2"
TAG = tag_of(COPY)
Run = Callable[[CleanUp], Settlement]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder of the one site that a clean-up goes to."""
    folder = tmp_path / "b"
    folder.mkdir()
    return folder


@pytest.fixture
async def runner(tmp_path: Path, site: Path) -> AsyncIterator[TaskRunner]:
    pool = folder_pool(tmp_path)
    yield TaskRunner(FakeSites(folder_access("sites/b", site)), FakeQueue(), pool, {"folder": "folder"})
    await pool.close()


async def settled(runner: TaskRunner, work: CleanUp) -> Settlement:
    ref, deadline = LeaseRef("jobs/clean/tasks/9", 1), time.monotonic() + 60
    return await runner.run(
        Attempt(Lease(ref, deadline, "t", WorkClass.BULK, "users/1", "sites/b", "sites/b", 1, work))
    )


def left(*paths: Path) -> list[Path]:
    """Writes a piece of a file to each of the paths, in directories that are made."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a fi")
    return list(paths)


def below(site: Path) -> set[str]:
    return {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}


async def test_what_the_copys_leases_left_is_removed_and_nothing_else(runner: TaskRunner, site: Path) -> None:
    left(site / temporary_name(TAG, 1, 0), site / temporary_name(TAG, 2, 7, again=3))
    kept = left(
        site / temporary_name(tag_of("jobs/1/tasks/22"), 1, 0), site / aside_name(TAG, 1, 0), site / "a file of theirs"
    )
    settlement = await settled(runner, CleanUp(COPY, 2, "/"))
    assert settlement.outcome is Outcome.COMPLETED
    assert below(site) == {path.name for path in kept}


@pytest.mark.row("W2")
async def test_what_a_later_attempt_writes_stays(runner: TaskRunner, site: Path) -> None:
    (later,) = left(site / temporary_name(TAG, 3, 0))
    left(site / temporary_name(TAG, 2, 0))
    await settled(runner, CleanUp(COPY, 2, "/"))
    assert below(site) == {later.name}


async def test_it_looks_in_every_directory_in_which_a_file_may_have_been_begun(
    runner: TaskRunner, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "_DIRECTORIES", 2)
    odd = "caf\u00e9 \udcff"
    items = [ChunkItem(f"{number}/x") for number in range(3)]
    items += [ChunkItem("s", "renamed/deep/d"), ChunkItem(f"{odd}/x"), ChunkItem("gone/x"), ChunkItem("x")]
    there = {item.destination_name or item.name for item in items} - {"gone/x"}
    left(*((site / to_path(path)).parent / temporary_name(TAG, 1, 0) for path in there))
    settlement = await settled(runner, CleanUp(COPY, 1, "/", tuple(items)))
    assert settlement.outcome is Outcome.COMPLETED
    assert below(site) == set()


def to_path(text: str) -> str:
    """Returns a path as Python's functions for files take it: odd bytes are the same lone surrogates."""
    return to_text(text.encode("utf-8", "surrogateescape"))


async def test_a_directory_that_is_gone_has_nothing_to_be_removed(runner: TaskRunner, site: Path) -> None:
    assert below(site) == set()
    assert (await settled(runner, CleanUp(COPY, 1, "/gone"))).outcome is Outcome.COMPLETED


async def test_one_directory_that_cannot_be_cleaned_up_keeps_none_of_the_others_from_it(
    runner: TaskRunner, site: Path
) -> None:
    left(*(site / name / temporary_name(TAG, 1, 0) for name in ("a", "c")))
    # A directory under the name of a temporary file cannot be unlinked, whoever asks.
    (site / "b" / temporary_name(TAG, 1, 0)).mkdir(parents=True)
    settlement = await settled(runner, CleanUp(COPY, 1, "/", tuple(ChunkItem(f"{name}/x") for name in "abc")))
    assert settlement.outcome is Outcome.FAILED
    assert settlement.problem is not None
    assert not settlement.problem.retryable
    assert "/b" in settlement.log
    assert below(site) == set()


async def test_files_that_were_never_copied_lead_nowhere() -> None:
    items = tuple(ChunkItem(name) for name in ("../x", "a/../../x", "/x", "a//x", "ok/x", "a\0/x"))
    assert cleaning.directories(CleanUp(COPY, 1, "/to", items)) == ["/to/ok"]
