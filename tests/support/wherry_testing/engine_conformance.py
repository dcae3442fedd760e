"""What every engine must do, whatever drives the bytes: subclass EngineConformance and give it a rig.

Engines run as they do in a worker: each in a process of its own.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wherry_testing.waiting import PATIENCE_S
from wherry_worker.engine.messages import (
    ChecksumFile,
    ChecksumResult,
    CopyFiles,
    CopyItem,
    Entry,
    EntryBatch,
    ItemDone,
    ListDirectory,
    MakeDirectory,
    Message,
    Pair,
    Progress,
    RemoveDirectory,
    RemoveFiles,
    RemoveTemporaries,
    Rename,
    Stat,
    StatResult,
    Task,
    Unlink,
)
from wherry_worker.engine.paths import to_text
from wherry_worker.engine_process import EngineTaskFailed
from wherry_worker.engines import EngineHandle, EnginePool, Plan


@dataclass(frozen=True)
class EngineRig:
    """Two empty folders behind two doors, as the engine and as the machine sees them.

    `source` and `destination` are outside views; `own` makes files that a test has put there the doors' user's;
    `tells_links` and `keeps_times` say what the engine can do through its doors.
    """

    pool: EnginePool
    plan: Plan
    source: Path
    destination: Path
    own: Callable[[], None]
    open: Callable[[], AbstractAsyncContextManager[EngineHandle]]
    tells_links: bool = True
    keeps_times: bool = True


async def run(engine: EngineHandle, task: Task, within_s: float = PATIENCE_S) -> list[Message]:
    """Runs a task to its end and returns what the engine told."""
    return [message async for message in engine.run(task, time.monotonic() + within_s)]


async def listing(
    engine: EngineHandle, path: str = "/", beside: str | None = None, after: str | None = None
) -> list[Pair]:
    """Lists a directory."""
    messages = await run(engine, ListDirectory(path, beside, after))
    return [pair for message in messages if isinstance(message, EntryBatch) for pair in message.pairs]


async def copy(rig: EngineRig, *names: bytes, fence: int = 1, **options: Any) -> list[ItemDone]:
    """Copies files of the root directory under their own names; returns what came of each."""
    async with rig.open() as engine:
        return await copy_with(engine, *names, fence=fence, **options)


async def copy_with(engine: EngineHandle, *names: bytes, fence: int = 1, **options: Any) -> list[ItemDone]:
    """As `copy`, with an engine at hand."""
    items = tuple(CopyItem(index, to_text(name), to_text(name)) for index, name in enumerate(names))
    task = CopyFiles("job.7", fence, "/", "/", items, **options)
    return in_order(await run(engine, task))


def in_order(told: Iterable[Message]) -> list[ItemDone]:
    """What came of the items, by index: an engine tells it in any order."""
    return sorted((message for message in told if isinstance(message, ItemDone)), key=lambda item: item.index)


async def failure(engine: EngineHandle, task: Task) -> str:
    """Runs a task that must fail as a whole and returns the reason."""
    with pytest.raises(EngineTaskFailed) as failed:
        await run(engine, task)
    return failed.value.problem.reason


def names_in(folder: Path) -> list[str]:
    """The names in a folder of this machine, sorted."""
    return sorted(path.name for path in folder.iterdir())


class EngineConformance:
    """The suite. Subclasses provide the fixture `rig`."""

    async def test_a_listing_tells_kinds_sizes_and_times_in_byte_order(self, rig: EngineRig) -> None:
        (rig.source / "b").write_bytes(b"four")
        (rig.source / "a").mkdir()
        (rig.source / "B").write_bytes(b"")
        (rig.source / "ü").write_bytes(b"1")
        os.utime(rig.source / "b", (1_700_000_000, 1_700_000_000))
        rig.own()
        async with rig.open() as engine:
            entries = [pair.source for pair in await listing(engine)]
        assert [entry.name for entry in entries] == ["B", "a", "b", "ü"]
        assert [entry.kind for entry in entries] == ["file", "directory", "file", "file"]
        assert entries[2] == Entry("b", "file", 4, 1_700_000_000, entries[2].mode)
        assert entries[2].mode == (rig.source / "b").stat().st_mode & 0o7777

    async def test_an_empty_directory_lists_as_nothing(self, rig: EngineRig) -> None:
        async with rig.open() as engine:
            assert await listing(engine) == []

    async def test_a_listing_goes_on_behind_a_name(self, rig: EngineRig) -> None:
        for name in ("a", "b", "c"):
            (rig.source / name).write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            assert [pair.source.name for pair in await listing(engine, after="a")] == ["b", "c"]
            assert [pair.source.name for pair in await listing(engine, after="bb")] == ["c"]

    async def test_two_directories_are_listed_side_by_side(self, rig: EngineRig) -> None:
        (rig.source / "both").write_bytes(b"12")
        (rig.source / "mine").write_bytes(b"")
        (rig.destination / "both").write_bytes(b"123")
        (rig.destination / "theirs").write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            pairs = await listing(engine, beside="/")
        assert [pair.source.name for pair in pairs] == ["both", "mine"]
        assert pairs[0].destination is not None
        assert (pairs[0].source.size_bytes, pairs[0].destination.size_bytes) == (2, 3)
        assert pairs[1].destination is None

    async def test_more_entries_than_a_batch_holds_are_all_listed(self, rig: EngineRig) -> None:
        names = sorted(f"file-{number}" for number in range(2100))
        for name in names:
            (rig.source / name).touch()
        rig.own()
        async with rig.open() as engine:
            assert [pair.source.name for pair in await listing(engine)] == names

    async def test_a_symbolic_link_is_told_as_one_where_the_engine_can(self, rig: EngineRig) -> None:
        (rig.source / "target").mkdir()
        (rig.source / "link").symlink_to("target")
        rig.own()
        async with rig.open() as engine:
            kinds = {pair.source.name: pair.source.kind for pair in await listing(engine)}
        # gfal2 alone shows what a link leads to; the removal's unlink before each listing is what makes that safe.
        assert kinds == {"link": "symlink" if rig.tells_links else "directory", "target": "directory"}

    async def test_listing_what_is_not_there_or_no_directory_fails(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            assert await failure(engine, ListDirectory("/missing")) == "SOURCE_NOT_FOUND"
            assert await failure(engine, ListDirectory("/file")) == "SOURCE_NOT_A_DIRECTORY"

    async def test_stat_tells_files_directories_and_nothing(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"123")
        rig.own()
        async with rig.open() as engine:
            (file,) = await run(engine, Stat("source", "/file"))
            (directory,) = await run(engine, Stat("destination", "/"))
            (nothing,) = await run(engine, Stat("source", "/none"))
        assert isinstance(file, StatResult)
        assert file.entry is not None
        assert (file.entry.kind, file.entry.size_bytes) == ("file", 3)
        assert isinstance(directory, StatResult)
        assert directory.entry is not None
        assert directory.entry.kind == "directory"
        assert nothing == StatResult(None)

    async def test_directories_are_made_with_parents_and_told_apart_from_old_ones(self, rig: EngineRig) -> None:
        (rig.destination / "file").write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            made = await run(engine, MakeDirectory("destination", "/a/b/c", parents=True))
            again = await run(engine, MakeDirectory("destination", "/a/b/c", parents=True))
            orphan = await failure(engine, MakeDirectory("destination", "/x/y"))
            taken = await failure(engine, MakeDirectory("destination", "/a"))
            in_the_way = await failure(engine, MakeDirectory("destination", "/file", parents=True, exist_ok=True))
        assert (rig.destination / "a/b/c").is_dir()
        assert [getattr(message, "changed", None) for message in made + again] == [True, False]
        assert (orphan, taken, in_the_way) == ("DESTINATION_NOT_FOUND", "DESTINATION_EXISTS", "DESTINATION_EXISTS")

    async def test_a_rename_moves_and_never_replaces(self, rig: EngineRig) -> None:
        (rig.source / "old").write_bytes(b"old")
        (rig.source / "other").write_bytes(b"other")
        (rig.source / "empty").mkdir()
        (rig.source / "folder").mkdir()
        rig.own()
        async with rig.open() as engine:
            assert await failure(engine, Rename("/old", "/other")) == "SOURCE_EXISTS"
            assert await failure(engine, Rename("/folder", "/empty")) == "SOURCE_EXISTS"
            assert await failure(engine, Rename("/none", "/new")) == "SOURCE_NOT_FOUND"
            await run(engine, Rename("/old", "/new"))
        assert (rig.source / "new").read_bytes() == b"old"
        assert (rig.source / "other").read_bytes() == b"other"
        assert not (rig.source / "old").exists()

    async def test_unlink_removes_a_link_and_leaves_a_directory(self, rig: EngineRig) -> None:
        (rig.source / "target").mkdir()
        (rig.source / "target" / "precious").write_bytes(b"")
        (rig.source / "link").symlink_to("target")
        rig.own()
        async with rig.open() as engine:
            found = [
                getattr((await run(engine, Unlink(path)))[0], "found", None) for path in ("/link", "/target", "/none")
            ]
        assert found == ["removed", "directory", "absent"]
        assert (rig.source / "target" / "precious").exists()
        assert not (rig.source / "link").is_symlink()

    async def test_files_are_removed_one_by_one(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"")
        (rig.source / "folder").mkdir()
        rig.own()
        async with rig.open() as engine:
            done = await run(engine, RemoveFiles("/", ("file", "gone", "folder")))
        reasons = [m.problem.reason if m.problem else None for m in done if isinstance(m, ItemDone)]
        assert reasons == [None, None, "SOURCE_IS_A_DIRECTORY"]
        assert names_in(rig.source) == ["folder"]

    @pytest.mark.row("J6")
    async def test_a_directory_is_removed_only_when_it_is_empty(self, rig: EngineRig) -> None:
        (rig.source / "full").mkdir()
        (rig.source / "full" / "file").write_bytes(b"")
        (rig.source / "empty").mkdir()
        rig.own()
        async with rig.open() as engine:
            assert await failure(engine, RemoveDirectory("/full")) == "SOURCE_NOT_EMPTY"
            await run(engine, RemoveDirectory("/empty"))
            await run(engine, RemoveDirectory("/never-was"))
        assert names_in(rig.source) == ["full"]
        assert names_in(rig.source / "full") == ["file"]

    async def test_a_checksum_is_the_files(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"some bytes")
        (rig.source / "empty").write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            (full,) = await run(engine, ChecksumFile("source", "/file"))
            (empty,) = await run(engine, ChecksumFile("source", "/empty"))
            assert await failure(engine, ChecksumFile("source", "/none")) == "SOURCE_NOT_FOUND"
        assert full == ChecksumResult("adler32", f"{zlib.adler32(b'some bytes'):08x}")
        assert empty == ChecksumResult("adler32", "00000001")

    async def test_files_are_copied_verified_and_leave_no_temporary(self, rig: EngineRig) -> None:
        contents = {b"one": b"1" * 100_000, b"two": b"", b"three": b"3"}
        for name, content in contents.items():
            (rig.source / os.fsdecode(name)).write_bytes(content)
        rig.own()
        done = await copy(rig, *contents)
        assert [(d.index, d.problem, d.adopted) for d in done] == [(i, None, False) for i in range(3)]
        for item, (name, content) in zip(done, contents.items(), strict=True):
            assert (rig.destination / os.fsdecode(name)).read_bytes() == content
            assert item.checksum == f"{zlib.adler32(content):08x}"
            assert item.size_bytes == len(content)
        assert names_in(rig.destination) == ["one", "three", "two"]

    async def test_progress_is_told_while_a_file_is_copied(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"x" * 1000)
        rig.own()
        async with rig.open() as engine:
            told = await run(engine, CopyFiles("job.7", 1, "/", "/", (CopyItem(5, "file", "copy"),)))
        progress = [message for message in told if isinstance(message, Progress)]
        assert {p.index for p in progress} == {5}
        assert [p.phase for p in progress if p.transferred_bytes == 1000][-1] == "verifying"

    async def test_the_same_bytes_at_the_destination_count_as_done(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"same")
        (rig.destination / "file").write_bytes(b"same")
        rig.own()
        before = (rig.destination / "file").stat()
        (done,) = await copy(rig, b"file")
        assert (done.problem, done.adopted, done.size_bytes) == (None, True, 4)
        assert (rig.destination / "file").stat().st_ino == before.st_ino

    async def test_other_bytes_are_kept_unless_overwriting_is_asked_for(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"new!")
        (rig.destination / "file").write_bytes(b"old!")
        rig.own()
        (refused,) = await copy(rig, b"file")
        assert refused.problem is not None
        assert refused.problem.reason == "DESTINATION_EXISTS"
        assert (rig.destination / "file").read_bytes() == b"old!"
        (replaced,) = await copy(rig, b"file", overwrite="always")
        assert replaced.problem is None
        assert (rig.destination / "file").read_bytes() == b"new!"
        assert names_in(rig.destination) == ["file"]

    async def test_one_failing_file_does_not_stop_the_others(self, rig: EngineRig) -> None:
        (rig.source / "a").write_bytes(b"a")
        (rig.source / "folder").mkdir()
        (rig.source / "z").write_bytes(b"z")
        (rig.destination / "z-is-a-directory").mkdir()
        rig.own()
        done = await copy(rig, b"a", b"missing", b"folder", b"z")
        reasons = [d.problem.reason if d.problem else None for d in done]
        assert reasons == [None, "SOURCE_NOT_FOUND", "SOURCE_IS_A_DIRECTORY", None]
        assert names_in(rig.destination) == ["a", "z", "z-is-a-directory"]

    async def test_a_file_is_not_written_over_a_directory(self, rig: EngineRig) -> None:
        (rig.source / "name").write_bytes(b"a")
        (rig.destination / "name").mkdir()
        rig.own()
        (done,) = await copy(rig, b"name", overwrite="always")
        assert done.problem is not None
        assert done.problem.reason == "DESTINATION_IS_A_DIRECTORY"

    @pytest.mark.row("D2")
    async def test_an_earlier_leases_temporaries_are_removed_and_nobody_elses(self, rig: EngineRig) -> None:
        (rig.source / "file").write_bytes(b"a")
        for name in (".wherry-job.7-1-0", ".wherry-job.7-2-3", ".wherry-job.70-1-0", ".wherry-job.7-3-1", ".wherry-x"):
            (rig.destination / name).write_bytes(b"left")
        rig.own()
        (done,) = await copy(rig, b"file", fence=3, remove_stale=True)
        assert done.problem is None
        left = names_in(rig.destination)
        assert left == [".wherry-job.7-3-1", ".wherry-job.70-1-0", ".wherry-x", "file"]

    @pytest.mark.row("J7")
    async def test_a_halted_copy_ends_what_moves_and_begins_no_other(self, rig: EngineRig) -> None:
        names = [f"{number:03}" for number in range(400)]
        for name in names:
            (rig.source / name).write_bytes(b"1")
        rig.own()
        task = CopyFiles("job.7", 1, "/", "/", tuple(CopyItem(i, name, name) for i, name in enumerate(names)))
        done = []
        async with rig.open() as engine:
            async for message in engine.run(task, time.monotonic() + 60):
                if isinstance(message, ItemDone):
                    done.append(names[message.index])
                    await engine.halt()
            assert 1 <= len(done) < 400
            assert names_in(rig.destination) == done
            await engine.halt()  # of no meaning to the task that comes next
            again = await copy_with(engine, b"399")
        assert [item.problem for item in again] == [None]

    @pytest.mark.row("J10")
    async def test_files_below_the_directories_are_copied_and_their_parents_made(self, rig: EngineRig) -> None:
        for path in ("d/e/one", "d/two", "three"):
            (rig.source / path).parent.mkdir(parents=True, exist_ok=True)
            (rig.source / path).write_bytes(path.encode())
        (rig.destination / "there").mkdir()
        (rig.destination / "file").write_bytes(b"")
        (rig.destination / "there" / ".wherry-job.7-1-1").write_bytes(b"an earlier lease's")
        rig.own()
        items = (
            CopyItem(0, "d/e/one", "new/er/1"),
            CopyItem(1, "d/two", "there/2"),
            CopyItem(2, "d/two", "file/2"),
            CopyItem(3, "three", "three"),
        )
        task = CopyFiles("job.7", 2, "/", "/", items, remove_stale=True, make_parents=True)
        async with rig.open() as engine:
            done = in_order(await run(engine, task))
        reasons = [item.problem.reason if item.problem else None for item in done]
        assert reasons == [None, None, "DESTINATION_EXISTS", None]
        assert (rig.destination / "new" / "er" / "1").read_bytes() == b"d/e/one"
        assert names_in(rig.destination / "there") == ["2"]
        assert names_in(rig.destination / "new" / "er") == ["1"]
        assert (rig.destination / "three").read_bytes() == b"three"
        assert (rig.destination / "file").read_bytes() == b""

    async def test_without_being_asked_for_no_parent_is_made(self, rig: EngineRig) -> None:
        (rig.source / "f").write_bytes(b"1")
        rig.own()
        task = CopyFiles("job.7", 1, "/", "/", (CopyItem(0, "f", "new/f"),))
        async with rig.open() as engine:
            done = [message for message in await run(engine, task) if isinstance(message, ItemDone)]
        assert [item.problem.reason for item in done if item.problem] == ["DESTINATION_NOT_FOUND"]
        assert names_in(rig.destination) == []

    @pytest.mark.row("D2")
    async def test_temporaries_are_removed_from_each_directory_that_is_named(self, rig: EngineRig) -> None:
        for name in ("a", "b"):
            (rig.destination / name).mkdir()
            (rig.destination / name / ".wherry-job.7-3-0").write_bytes(b"left")
        rig.own()
        async with rig.open() as engine:
            await run(engine, RemoveTemporaries("job.7", 3, ("/none", "/a", "/b")))
        assert [names_in(rig.destination / name) for name in ("a", "b")] == [[], []]

    async def test_what_a_killed_copy_left_is_removed(self, rig: EngineRig) -> None:
        (rig.destination / ".wherry-job.7-3-0").write_bytes(b"left")
        (rig.destination / ".wherry-job.7-4-0").write_bytes(b"a later lease's")
        rig.own()
        async with rig.open() as engine:
            await run(engine, RemoveTemporaries("job.7", 3, ("/",)))
            await run(engine, RemoveTemporaries("job.7", 3, ("/no-such-directory",)))
        assert names_in(rig.destination) == [".wherry-job.7-4-0"]

    @pytest.mark.row("D7")
    async def test_odd_names_are_listed_copied_and_removed_byte_for_byte(self, rig: EngineRig) -> None:
        names = [
            *(
                b"a b",
                b" leading",
                b"-rf",
                b"--",
                b"hash#mark",
                b"per%cent",
                b"p%41",
                b"it's",
                b'quo"te',
                b"back\\slash",
            ),
            *(b"semi;colon", b"file=1; x", b"star*", b"[a]{b}", b"que?ry=1&x", b"tab\there", b"~home", b"a:b", b"..."),
            *("ä€🚢".encode(), b"not\xff\xfeutf8", b"..x", b"\x01\x7f", b"$(id)", b"`id`", b"|&;<>", b"x" * 255),
        ]
        for number, name in enumerate(names):
            (rig.source / os.fsdecode(name)).write_bytes(b"%d" % number)
        rig.own()
        async with rig.open() as engine:
            listed = [pair.source for pair in await listing(engine)]
            assert [entry.name for entry in listed] == [to_text(name) for name in sorted(names)]
            done = await copy_with(engine, *names)
            assert [d.problem for d in done] == [None] * len(names)
            for number, name in enumerate(names):
                assert (rig.destination / os.fsdecode(name)).read_bytes() == b"%d" % number
            await run(engine, RemoveFiles("/", tuple(to_text(name) for name in names)))
        assert names_in(rig.source) == []
        assert len(names_in(rig.destination)) == len(names)

    @pytest.mark.row("D7")
    async def test_a_name_that_the_protocol_cannot_carry_is_said_and_loses_no_other(self, rig: EngineRig) -> None:
        for name in ("before", "line\nbreak", "odd\n250 End.", "carriage\rreturn", "zz-behind"):
            (rig.source / name).write_bytes(b"")
        rig.own()
        async with rig.open() as engine:
            entries = [pair.source for pair in await listing(engine)]
        assert [entry.name for entry in entries if entry.kind == "file"] == ["before", "zz-behind"]
        lost = [entry for entry in entries if entry.kind == "unlistable"]
        assert len(lost) == 3
        assert {entry.problem.reason for entry in lost if entry.problem} == {"SOURCE_NAME_NOT_CARRIED"}
