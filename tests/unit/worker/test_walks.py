"""What a walk makes of what it finds: decisions, chunks and batches, and whole walks over folders."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_testing.walk_bench import Bench
from wherry_worker.chunking import BatchBuilder, ChunkLimits
from wherry_worker.engine.messages import Entry, ListDirectory, Message, Overwrite, Pair, Problem, Task
from wherry_worker.engines import EngineHandle, EngineKey, EnginePool, Plan
from wherry_worker.running import TaskRunner
from wherry_worker.walking import copy_entry, extraneous_entry, is_inside, remove_entry, tree_entry
from wherry_worker.work import (
    ChunkItem,
    CopyChunk,
    CopyRules,
    DestinationFile,
    Found,
    ListOne,
    MakeOneDirectory,
    Outcome,
    RemoveOneDirectory,
    RenameOne,
    WalkCopy,
    WalkRemove,
    WalkTree,
    Work,
)

WALK = WalkCopy("/from", "/to", root=False, recursive=True, cursor="")
FILE = Entry("name", "file", 10, 5, 0o640)
FOLDER = Entry("name", "directory")


def decided(pair: Pair, overwrite: Overwrite = "never") -> Found:
    batch = BatchBuilder("", ChunkLimits())
    copy_entry(pair, WalkCopy("/from", "/to", False, True, "", CopyRules(overwrite)), batch)
    return batch.take()


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair(Entry("name", "unlistable", problem=Problem("WHY", ""))), "WHY"),
        (Pair(Entry("name", "unlistable")), "SOURCE_NAME_NOT_CARRIED"),
        (Pair(FOLDER, FILE), "DESTINATION_NOT_A_DIRECTORY"),
        (Pair(FILE, FOLDER), "DESTINATION_IS_A_DIRECTORY"),
        (Pair(FILE, Entry("name", "file", 11)), "DESTINATION_EXISTS"),
    ],
)
@pytest.mark.row("J6")
def test_what_cannot_be_copied_is_said_with_its_path(pair: Pair, reason: str) -> None:
    found = decided(pair)
    (failure,) = found.failures
    assert (failure.problem.reason, failure.path) == (reason, "/from/name")
    assert (found.chunks, found.directories, found.cursor) == ((), (), "name")


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (Pair(Entry("name", "symlink")), "SYMLINK_SKIPPED"),
        (Pair(Entry("name", "other")), "SPECIAL_FILE_SKIPPED"),
    ],
)
@pytest.mark.row("J6")
@pytest.mark.row("D9")
def test_what_is_left_out_is_said_and_is_no_failure(pair: Pair, reason: str) -> None:
    found = decided(pair)
    (skipped,) = found.skipped
    assert (skipped.problem.reason, skipped.path) == (reason, "/from/name")
    assert (found.chunks, found.directories, found.failures, found.cursor) == ((), (), (), "name")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", "nul\0"])
def test_a_name_that_leads_elsewhere_is_nothing_to_walk_or_to_remove(name: str) -> None:
    for kind in ("directory", "file", "symlink"):
        pair = Pair(Entry(name, kind))
        batches = [BatchBuilder("", ChunkLimits()) for _ in range(3)]
        copy_entry(pair, WALK, batches[0])
        remove_entry(pair, WalkRemove("/at", root=True, recursive=True, cursor=""), batches[1])
        tree_entry(pair, WalkTree("/at", root=True, recursive=True, cursor=""), batches[2])
        for found in [batch.take() for batch in batches]:
            assert (found.chunks, found.directories) == ((), ())
            assert [failure.problem.reason for failure in found.failures] == ["SOURCE_NAME_NOT_CARRIED"]


def test_files_become_chunks_and_directories_walks() -> None:
    (item,) = decided(Pair(FILE)).chunks[0]
    assert (item.name, item.size_bytes, item.modify_time_s, item.mode) == ("name", 10, 5, 0o640)
    assert decided(Pair(FOLDER)).directories == ("name",)
    assert decided(Pair(FOLDER, FOLDER)).directories == ("name",)


def test_a_file_that_may_be_the_same_or_be_replaced_is_left_to_the_copy_to_decide() -> None:
    assert decided(Pair(FILE, FILE)).chunks
    assert decided(Pair(FILE, Entry("name", "file", 11)), "always").chunks


@pytest.mark.row("J10")
def test_what_the_destination_had_goes_with_the_file() -> None:
    (item,) = decided(Pair(FILE, Entry("name", "file", 10, 77))).chunks[0]
    assert item.destination == DestinationFile(10, 77)
    assert decided(Pair(FILE)).chunks[0][0].destination is None


def test_where_overwriting_is_asked_for_every_file_goes_into_a_chunk() -> None:
    for there in (FILE, Entry("name", "file", 11), FOLDER, Entry("name", "symlink")):
        assert decided(Pair(FILE, there), "always").chunks


def test_a_link_at_the_destination_is_left_to_the_copy_which_sees_what_it_leads_to() -> None:
    assert decided(Pair(FILE, Entry("name", "symlink"))).chunks
    assert decided(Pair(FOLDER, Entry("name", "symlink"))).directories


def test_other_copies_unfinished_files_are_passed_over() -> None:
    found = decided(Pair(Entry(".wherry-job.1-1-0", "file", 10)))
    assert (found.chunks, found.failures, found.cursor) == ((), (), ".wherry-job.1-1-0")


def test_a_name_that_only_begins_like_an_unfinished_files_is_a_name_as_any_other() -> None:
    for name in (".wherry-notes", ".wherry-1-1-0.txt", ".wherry-job.1-1-0-old-photos"):
        (item,) = decided(Pair(Entry(name, "file", 10))).chunks[0]
        assert item.name == name
        batch = BatchBuilder("", ChunkLimits())
        extraneous_entry(Entry(name, "file"), WALK, batch)
        assert [item.name for item in batch.take().extraneous_chunks[0]] == [name]


def test_an_unfinished_file_that_is_named_itself_is_copied() -> None:
    """What a copy of long ago has set aside may be somebody's only one."""
    batch = BatchBuilder("", ChunkLimits())
    copy_entry(Pair(Entry(".wherry-job.1-1-0-old", "file", 10)), WALK, batch, "mine.dat")
    assert [item.destination_name for item in batch.take().chunks[0]] == ["mine.dat"]


@pytest.mark.row("J8")
def test_nothing_is_removed_behind_a_link_of_the_destination() -> None:
    """What only that has lies elsewhere, and is not what the sync is of."""
    batch = BatchBuilder("", ChunkLimits())
    walk = replace(WALK, rules=CopyRules("if_different", delete_extraneous=True))
    copy_entry(Pair(FOLDER, Entry("name", "symlink")), walk, batch)
    found = batch.take()
    assert (found.directories, [failure.problem.reason for failure in found.failures]) == (
        (),
        ["DESTINATION_IS_A_LINK"],
    )


def test_a_removal_takes_links_and_everything_else_but_what_has_no_name() -> None:
    batch = BatchBuilder("", ChunkLimits())
    walk = WalkRemove("/at", root=True, recursive=True, cursor="")
    for name, kind in (("a", "file"), ("b", "symlink"), ("c", "other"), ("d", "directory"), ("e", "unlistable")):
        remove_entry(Pair(Entry(name, kind)), walk, batch)  # type: ignore[arg-type]  # literals, lost in the tuple
    found = batch.take(remove_directory=True)
    assert [item.name for item in found.chunks[0]] == ["a", "b", "c"]
    assert found.directories == ("d",)
    assert [failure.path for failure in found.failures] == ["/at/e"]
    assert found.remove_directory


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(1, 10), st.integers(1, 9000))
def test_chunks_keep_their_bounds_and_lose_nothing(sizes: list[int], items: int, total: int) -> None:
    batch = BatchBuilder("", ChunkLimits(items, total))
    for number, size in enumerate(sizes):
        copy_entry(Pair(Entry(f"{number:04}", "file", size)), WALK, batch)
    found = batch.take()
    assert [item.size_bytes for chunk in found.chunks for item in chunk] == sizes
    for chunk in found.chunks:
        assert 1 <= len(chunk) <= items
        assert sum(item.size_bytes for item in chunk) <= total or len(chunk) == 1


@given(st.lists(st.sampled_from(["file", "directory", "symlink"]), max_size=40), st.integers(1, 7))
def test_batches_join_without_a_gap(kinds: list[str], every: int) -> None:
    batch = BatchBuilder("", ChunkLimits(), directories_done=1)
    taken = []
    for number, kind in enumerate(kinds):
        if number % every == 0:
            taken.append(batch.take())
        copy_entry(Pair(Entry(f"{number:04}", kind)), WALK, batch)  # type: ignore[arg-type]  # a literal of the strategy
    taken.append(batch.take())
    assert [found.after for found in taken] == ["", *(found.cursor for found in taken[:-1])]
    assert [found.directories_done for found in taken] == [1] + [0] * (len(taken) - 1)


def test_a_full_batch_says_so_before_its_message_is_too_large() -> None:
    batch = BatchBuilder("", ChunkLimits())
    count = 0
    while not batch.full:
        batch.add_directory(f"{count:0255}")
        count += 1
    assert 256 * count < 1 << 20


@pytest.mark.parametrize(
    ("path", "directory", "inside"),
    [("/a/b", "/a", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False), ("/x", "/", True)],
)
def test_inside_is_by_whole_parts(path: str, directory: str, inside: bool) -> None:
    assert is_inside(path, directory) is inside


# --- whole walks, with engines whose doors are folders ---


class ListingsSeen:
    """Engines of a pool; keeps what each listing was asked to list beside its directory."""

    def __init__(self, pool: EnginePool) -> None:
        self.beside: list[str | None] = []
        self.known, self.renew = pool.known, pool.renew
        self.end_sessions, self.end_all_sessions = pool.end_sessions, pool.end_all_sessions
        self._pool = pool

    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[EngineHandle]:
        async with self._pool.engine(key, plan) as engine:
            run = engine.run

            def seen(task: Task, deadline: float) -> AsyncGenerator[Message, None]:
                if isinstance(task, ListDirectory):
                    self.beside.append(task.beside)
                return run(task, deadline)

            engine.run = seen  # type: ignore[method-assign]  # the engine's own, with an ear at it
            yield engine
            del engine.run


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.pool.close()


def copy_of(source: str, destination: str, *, root: bool = True, recursive: bool = True, cursor: str = "") -> WalkCopy:
    return WalkCopy(source, destination, root, recursive, cursor)


@pytest.mark.row("J6")
async def test_a_walk_makes_the_directory_and_reports_what_is_in_it(bench: Bench) -> None:
    (bench.source / "d" / "sub").mkdir(parents=True)
    for name in ("f1", "f2", "f3"):
        (bench.source / "d" / name).write_bytes(b"123")
    settlement = await bench.run(copy_of("/d", "/new/place"))
    assert settlement.outcome is Outcome.COMPLETED
    assert (bench.destination / "new" / "place").is_dir()
    # The first full chunk goes at once: its copying can begin.
    first, rest = bench.queue.reported
    assert [[item.name for item in chunk] for chunk in first.chunks] == [["f1", "f2"]]
    assert [[item.name for item in chunk] for chunk in rest.chunks] == [["f3"]]
    assert (first.directories_done, first.cursor) == (1, "f2")
    assert (rest.directories, rest.directories_done, rest.after, rest.cursor) == (("sub",), 0, "f2", "sub")


@pytest.mark.row("J6")
async def test_an_empty_directory_is_made_too(bench: Bench) -> None:
    (bench.source / "empty").mkdir()
    assert (await bench.run(copy_of("/empty", "/empty"))).outcome is Outcome.COMPLETED
    assert (bench.destination / "empty").is_dir()
    assert bench.queue.reported == [Found("", "", directories_done=1)]


async def test_a_walk_goes_on_behind_its_cursor(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    for name in ("f1", "f2", "f3"):
        (bench.source / "d" / name).touch()
    await bench.run(copy_of("/d", "/d", cursor="f1"))
    (found,) = bench.queue.reported
    assert [item.name for chunk in found.chunks for item in chunk] == ["f2", "f3"]
    assert (found.after, found.directories_done) == ("f1", 0)


async def test_a_file_as_the_root_is_one_chunk_with_directories_of_its_own(bench: Bench) -> None:
    (bench.source / "file").write_bytes(b"1")
    await bench.run(copy_of("/file", "/far/away/renamed"))
    (found,) = bench.queue.reported
    ((item,),) = found.chunks
    assert (item.name, item.destination_name) == ("file", "renamed")
    assert (found.chunk_source_directory, found.chunk_destination_directory) == ("/", "/far/away")
    assert (bench.destination / "far" / "away").is_dir()


@pytest.mark.row("J10")
async def test_a_walk_lists_the_destination_beside_the_source_where_it_was_there_before(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    (bench.source / "d" / "is-a-directory-there").touch()
    (bench.source / "d" / "is-a-file-there").mkdir()
    for name in ("new", "other", "same"):
        (bench.source / "d" / name).write_bytes(b"123")
    there = bench.destination / "d"
    there.mkdir()
    (there / "is-a-directory-there").mkdir()
    (there / "is-a-file-there").touch()
    (there / "other").write_bytes(b"12345")
    (there / "same").write_bytes(b"123")
    (there / "only-there").touch()
    os.utime(there / "same", (1_700_000_000, 1_700_000_000))
    await bench.run(copy_of("/d", "/d"))
    (found,) = bench.queue.reported
    items = {item.name: item.destination for chunk in found.chunks for item in chunk}
    assert items == {"new": None, "same": DestinationFile(3, 1_700_000_000)}
    assert {failure.path: failure.problem.reason for failure in found.failures} == {
        "/d/is-a-directory-there": "DESTINATION_IS_A_DIRECTORY",
        "/d/is-a-file-there": "DESTINATION_NOT_A_DIRECTORY",
        "/d/other": "DESTINATION_EXISTS",
    }
    # The chunk would have said the same of the file that differs.
    chunk = CopyChunk("/d", "/d", (ChunkItem("other", "", 3), ChunkItem("is-a-directory-there")), b"")
    settlement = await bench.run(chunk)
    assert [failure.problem.reason for failure in settlement.failures] == [
        "DESTINATION_EXISTS",
        "DESTINATION_IS_A_DIRECTORY",
    ]


async def test_a_directory_that_the_walk_has_just_made_is_not_listed(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    (bench.source / "d" / "f").write_bytes(b"123")
    engines = ListingsSeen(bench.pool)
    runner = TaskRunner(bench.sites, bench.queue, engines, {"folder": "folder"})
    for _ in range(2):
        await bench.run_with(runner, copy_of("/d", "/d"))
    assert engines.beside == [None, "/d"]


async def test_a_pause_lets_a_walk_end_as_it_would(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    (bench.source / "d" / "f").touch()
    attempt = bench.attempt(copy_of("/d", "/d"))
    await attempt.pause()
    assert (await bench.runner.run(attempt)).outcome is Outcome.COMPLETED
    assert bench.queue.reported[0].chunks


async def test_a_file_as_the_root_is_looked_at_at_its_destination_too(bench: Bench) -> None:
    (bench.source / "file").write_bytes(b"1")
    (bench.destination / "same").write_bytes(b"2")
    (bench.destination / "other").write_bytes(b"22")
    (bench.destination / "folder").mkdir()
    for name in ("same", "other", "folder", "none"):
        await bench.run(copy_of("/file", f"/{name}"))
    same, other, folder, none = bench.queue.reported
    assert same.chunks[0][0].destination is not None
    assert [found.failures[0].problem.reason for found in (other, folder)] == [
        "DESTINATION_EXISTS",
        "DESTINATION_IS_A_DIRECTORY",
    ]
    assert (other.failures[0].path, other.chunks) == ("/file", ())
    assert (none.chunks[0][0].destination_name, none.chunks[0][0].destination) == ("none", None)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (copy_of("/missing", "/x"), "SOURCE_NOT_FOUND"),
        (copy_of("/d", "/x", recursive=False), "SOURCE_IS_A_DIRECTORY"),
        (copy_of("/d", "/file-there"), "DESTINATION_EXISTS"),
        (WalkRemove("/missing", root=True, recursive=True, cursor=""), "NOT_FOUND"),
        (WalkRemove("/d", root=True, recursive=False, cursor=""), "IS_A_DIRECTORY"),
        (MakeOneDirectory("/d", parents=False), "EXISTS"),
        (RenameOne("/missing", "/x"), "NOT_FOUND"),
        (ListOne("/missing"), "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_done_fails_with_its_reason(bench: Bench, work: Work, reason: str) -> None:
    (bench.source / "d").mkdir()
    (bench.destination / "file-there").touch()
    settlement = await bench.run(work)
    assert settlement.outcome is Outcome.FAILED
    assert settlement.problem is not None
    assert settlement.problem.reason == reason
    assert reason in settlement.log


async def test_a_directory_is_not_copied_into_itself(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    settlement = await bench.run(copy_of("/d", "/d/copy"), destination_site="sites/a")
    assert settlement.problem is not None
    assert settlement.problem.reason == "DESTINATION_INSIDE_SOURCE"


async def test_a_removals_walk_reports_files_directories_and_itself(bench: Bench) -> None:
    (bench.source / "d" / "sub").mkdir(parents=True)
    (bench.source / "d" / "file").touch()
    (bench.source / "d" / "link").symlink_to("/")
    await bench.run(WalkRemove("/d", root=True, recursive=True, cursor=""))
    found = bench.queue.reported
    assert [item.name for one in found for chunk in one.chunks for item in chunk] == ["file", "link"]
    assert [name for one in found for name in one.directories] == ["sub"]
    assert [one.remove_directory for one in found][-1]  # the last, once all is told
    assert sum(one.remove_directory for one in found) == 1


@pytest.mark.row("J6")
async def test_a_removal_never_walks_into_what_a_link_leads_to(bench: Bench) -> None:
    (bench.source / "precious").mkdir()
    (bench.source / "precious" / "file").touch()
    (bench.source / "link").symlink_to("precious")
    for root in (True, False):
        (bench.source / "link").unlink(missing_ok=True)
        (bench.source / "link").symlink_to("precious")
        settlement = await bench.run(WalkRemove("/link", root=root, recursive=True, cursor=""))
        assert settlement.outcome is Outcome.COMPLETED
        assert not (bench.source / "link").is_symlink()
    assert (bench.source / "precious" / "file").exists()
    assert all(not found.chunks and not found.directories for found in bench.queue.reported)


async def test_a_file_to_remove_is_one_chunk_in_its_own_directory(bench: Bench) -> None:
    (bench.source / "d").mkdir()
    (bench.source / "d" / "file").touch()
    await bench.run(WalkRemove("/d/file", root=True, recursive=False, cursor=""))
    (found,) = bench.queue.reported
    assert (found.chunk_source_directory, found.chunks[0][0].name) == ("/d", "file")


async def test_what_a_removal_took_in_an_earlier_attempt_is_no_failure(bench: Bench) -> None:
    settlement = await bench.run(WalkRemove("/gone", root=True, recursive=True, cursor=""), attempt=2)
    assert settlement.outcome is Outcome.COMPLETED


async def test_a_listing_gives_entries_and_a_file_itself(bench: Bench) -> None:
    (bench.source / "b").write_bytes(b"12")
    (bench.source / "a").mkdir()
    await bench.run(ListOne("/"))
    await bench.run(ListOne("/b"))
    whole, single = bench.queue.reported
    assert [(entry.name, entry.kind) for entry in whole.entries] == [("a", "directory"), ("b", "file")]
    assert [(entry.name, entry.size_bytes) for entry in single.entries] == [("b", 2)]


async def test_single_operations_are_done(bench: Bench) -> None:
    for work in (MakeOneDirectory("/x/y", parents=True), RenameOne("/x/y", "/x/z"), RemoveOneDirectory("/x/z")):
        assert (await bench.run(work)).outcome is Outcome.COMPLETED
    assert list((bench.source / "x").iterdir()) == []
