"""Walks that go into their sub-directories themselves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from wherry_testing.walk_bench import Bench
from wherry_worker import copy_walks
from wherry_worker.copy_walks import LEAST_INNER, InnerPlace, inner_place
from wherry_worker.filtering import Filters
from wherry_worker.work import CopyRules, Found, Outcome, WalkCopy

pytestmark = [pytest.mark.row("J6"), pytest.mark.row("J8")]

NAMES = sorted(["a", "a.x", "a-", "b", "b b", "c", "d0", "d1", "d2", "\u00e9"])
"""Some of which sort otherwise with a slash behind them."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.pool.close()


def fill(top: Path, names: list[str] = NAMES, files: int = 3) -> set[str]:
    """Makes directories with files and a directory each; returns the files' paths below the top."""
    for name in names:
        (top / name / "deeper").mkdir(parents=True)
        for number in range(files):
            (top / name / f"f{number}").write_bytes(b"12")
    return {f"{name}/f{number}" for name in names for number in range(files)}


def walk(cursor: str = "", rules: CopyRules | None = None) -> WalkCopy:
    return WalkCopy("/d", "/d", True, True, cursor, rules or CopyRules())


def files_of(found: list[Found]) -> list[str]:
    return [item.name for one in found for chunk in one.chunks for item in chunk]


def directories_of(found: list[Found]) -> list[str]:
    return [name for one in found for name in one.directories]


def joined(found: list[Found], cursor: str = "") -> None:
    """Holds batches against what the queue asks of them: each begins where the last ended, and comes behind it."""
    for one in found:
        assert one.after == cursor
        assert one.cursor.encode() > one.after.encode() or not one.after
        cursor = one.cursor


async def test_what_lies_in_many_directories_is_told_with_them(bench: Bench) -> None:
    paths = fill(bench.source / "d")
    (bench.source / "d" / "own").write_bytes(b"1")
    assert (await bench.run(walk())).outcome is Outcome.COMPLETED
    found = bench.queue.reported
    joined(found)
    assert sorted(files_of(found)) == sorted([*paths, "own"])
    assert sorted(directories_of(found)) == sorted(f"{name}/deeper" for name in NAMES)
    assert sum(one.inner_directories for one in found) == len(NAMES)
    assert sum(one.directories_done for one in found) == 1
    assert all(one.below for one in found)
    assert sorted(path.name for path in (bench.destination / "d").iterdir()) == sorted(NAMES)


async def test_few_directories_are_left_to_others(bench: Bench) -> None:
    """They may be large, and then several go through them at once."""
    few = NAMES[: LEAST_INNER - 1]
    fill(bench.source / "d", few)
    await bench.run(walk())
    (found,) = bench.queue.reported
    assert (list(found.directories), found.chunks, found.below) == (sorted(few), (), False)


@pytest.mark.parametrize(
    "rules", [CopyRules(dry_run=True), CopyRules(delete_extraneous=True), CopyRules(follow_links=True)]
)
async def test_where_more_is_asked_than_to_copy_each_directory_has_its_own_walk(bench: Bench, rules: CopyRules) -> None:
    fill(bench.source / "d")
    await bench.run(walk(rules=rules))
    assert directories_of(bench.queue.reported) == NAMES
    assert files_of(bench.queue.reported) == []


async def test_from_wherever_a_walk_is_cut_the_next_attempt_tells_the_rest_and_nothing_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = fill(bench.source / "d", files=9)
    monkeypatch.setattr("wherry_worker.chunking.BATCH_CHUNKS", 1)
    await bench.run(walk())
    whole = list(bench.queue.reported)
    joined(whole)
    assert len(whole) > len(NAMES)
    for cut in range(1, len(whole)):
        bench.queue.reported.clear()
        settlement = await bench.run(walk(cursor=whole[cut - 1].cursor), attempt=2)
        assert settlement.outcome is Outcome.COMPLETED
        joined(bench.queue.reported, whole[cut - 1].cursor)
        both = [*whole[:cut], *bench.queue.reported]
        assert sorted(files_of(both)) == sorted(paths)
        assert sorted(directories_of(both)) == sorted(f"{name}/deeper" for name in NAMES)
        assert sum(one.inner_directories for one in both) == len(NAMES)


async def test_directories_that_went_to_others_before_are_left_to_them_by_every_attempt(bench: Bench) -> None:
    later = [f"c{number}" for number in range(LEAST_INNER)]
    paths = fill(bench.source / "d", ["a", "b", *later])
    for name in ("b0", "b1", "b2"):  # a full chunk: what was found by then goes
        (bench.source / "d" / name).write_bytes(b"1")
    await bench.run(walk())
    whole = list(bench.queue.reported)
    joined(whole)
    assert list(whole[0].directories) == ["a", "b"]
    expected = sorted(["b0", "b1", "b2", *(path for path in paths if path.startswith("c"))])
    for cut in range(1, len(whole)):
        bench.queue.reported.clear()
        await bench.run(walk(cursor=whole[cut - 1].cursor), attempt=2)
        both = [*whole[:cut], *bench.queue.reported]
        assert sorted(files_of(both)) == expected
        assert sorted(directories_of(both)) == sorted(["a", "b", *(f"{name}/deeper" for name in later)])


async def test_what_is_too_much_for_one_walk_is_left_to_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bench.source / "d")
    monkeypatch.setattr(copy_walks, "MOST_INNER", 4)
    monkeypatch.setattr("wherry_worker.chunking.BATCH_CHUNKS", 1)
    await bench.run(walk())
    whole = list(bench.queue.reported)
    joined(whole)
    gone_into = {path.partition("/")[0] for path in files_of(whole)}
    left = {name for name in directories_of(whole) if "/" not in name}
    assert len(gone_into) == 4
    assert gone_into | left == set(NAMES)
    for cut in range(1, len(whole)):
        bench.queue.reported.clear()
        await bench.run(walk(cursor=whole[cut - 1].cursor), attempt=2)
        both = [*whole[:cut], *bench.queue.reported]
        assert sorted(
            {p.partition("/")[0] for p in files_of(both)}
            | set(directories_of(both)) - {name for name in directories_of(both) if "/" in name}
        ) == sorted(NAMES)
        assert len(files_of(both)) == len(set(files_of(both)))


async def test_filters_hold_below_as_they_do_in_a_walk_of_its_own(bench: Bench) -> None:
    fill(bench.source / "d")
    rules = CopyRules(filters=Filters(include=("*/f1",), exclude=("b", "c/f1")))
    await bench.run(walk(rules=rules))
    names = [name for name in NAMES if name not in ("b", "c")]
    assert sorted(files_of(bench.queue.reported)) == sorted(f"{name}/f1" for name in names)


async def test_a_directory_that_cannot_be_made_is_left_to_its_own_walk(bench: Bench) -> None:
    fill(bench.source / "d")
    (bench.destination / "d").mkdir()
    await bench.run(replace(walk(), root=False))
    bench.queue.reported.clear()
    (bench.destination / "d" / "c").rename(bench.destination / "d" / "gone")
    (bench.destination / "d" / "c").symlink_to("nowhere")
    assert (await bench.run(replace(walk(), root=False))).outcome is Outcome.COMPLETED
    assert "c" in directories_of(bench.queue.reported)
    joined(bench.queue.reported)


async def test_what_has_come_in_the_way_of_a_directory_since_is_told_by_its_own_walk(bench: Bench) -> None:
    fill(bench.source / "d")
    await bench.run(walk())
    first = bench.queue.reported[0]
    bench.queue.reported.clear()
    shutil.rmtree(bench.destination / "d" / "d1")
    (bench.destination / "d" / "d1").write_bytes(b"a file")
    assert first.cursor.count("/") == 2, "cut before any sub-directory"
    assert (await bench.run(walk(cursor=first.cursor), attempt=2)).outcome is Outcome.COMPLETED
    assert [name for name in directories_of(bench.queue.reported) if "/" not in name] == ["d1"]
    assert not any(name.startswith("d1/") for name in files_of(bench.queue.reported))


async def test_after_two_attempts_the_rest_is_left_to_others_and_none_goes_down_with_another(bench: Bench) -> None:
    fill(bench.source / "d")
    await bench.run(walk())
    first = bench.queue.reported[0]
    bench.queue.reported.clear()
    await bench.run(walk(cursor=first.cursor), attempt=3)
    assert sorted(directories_of(bench.queue.reported)) == sorted(NAMES)
    assert files_of(bench.queue.reported) == []


@pytest.mark.parametrize(
    ("cursor", "place"),
    [
        ("", None),
        ("name", None),
        ("z//", InnerPlace("z", "", "", "", left=False)),
        ("z/b/c/", InnerPlace("z", "b", "c", "", left=False)),
        ("z/b/c/f", InnerPlace("z", "b", "c", "f", left=False)),
        ("z/b/c//", InnerPlace("z", "b", "c", "", left=True)),
    ],
)
def test_cursors_say_where_a_walk_is(cursor: str, place: InnerPlace | None) -> None:
    assert inner_place(cursor) == place
