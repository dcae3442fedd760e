"""What a copy's options do, over folders: overwriting, sync, filters, links, times, dry runs; modes, checksums."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from wherry_fakes.worker_access import folder_access, folder_pool
from wherry_fakes.worker_ports import FakeQueue, FakeSites
from wherry_worker.attempt import Attempt
from wherry_worker.engine.messages import Overwrite
from wherry_worker.engines import EnginePool
from wherry_worker.filtering import Filters
from wherry_worker.running import TaskRunner
from wherry_worker.work import (
    ChangeModeOfDirectory,
    ChangeModes,
    ChunkItem,
    CopyChunk,
    CopyRules,
    Found,
    Lease,
    LeaseRef,
    Outcome,
    Settlement,
    SumChunk,
    WalkCopy,
    WalkRemove,
    WalkTree,
    Work,
    WorkClass,
)

J8 = pytest.mark.row("J8")
THEN = 1_600_000_000


class Lab:
    """Two folders, and a runner over them."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.destination = tmp_path / "a", tmp_path / "b"
        self.source.mkdir()
        self.destination.mkdir()
        self.queue = FakeQueue()
        self.pool: EnginePool = folder_pool(tmp_path)
        sites = FakeSites(folder_access("sites/a", self.source), folder_access("sites/b", self.destination))
        self._runner = TaskRunner(sites, self.queue, self.pool, {"folder": "folder"})

    async def run(self, work: Work, *, one_site: bool = False) -> Settlement:
        ref, end = LeaseRef("jobs/1/tasks/2", 1), time.monotonic() + 60
        other = "sites/a" if one_site else "sites/b"
        return await self._runner.run(
            Attempt(Lease(ref, end, "t", WorkClass.BULK, "users/1", "sites/a", other, 1, work))
        )

    async def walk(self, rules: CopyRules, *, path_below: str = "") -> Found:
        """Walks from `d` to `d`; returns all that was found, in one."""
        self.queue.reported.clear()
        walk = WalkCopy("/d", "/d", root=True, recursive=True, cursor="", rules=rules, path_below=path_below)
        settlement = await self.run(walk)
        assert settlement.outcome is Outcome.COMPLETED, settlement.problem
        (found,) = self.queue.reported
        return found

    async def copy(self, *names: str, rules: CopyRules) -> Settlement:
        (self.destination / "d").mkdir(exist_ok=True)
        items = tuple(ChunkItem(name, "", (self.source / "d" / name).stat().st_size) for name in names)
        return await self.run(CopyChunk("/d", "/d", items, b"", rules))

    def put(self, side: str, name: str, content: bytes, at_s: int = THEN) -> Path:
        path = (self.source if side == "source" else self.destination) / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at_s, at_s))
        return path

    def there(self) -> dict[str, bytes]:
        top = self.destination / "d"
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    await lab.pool.close()


def names(chunks: tuple[tuple[ChunkItem, ...], ...]) -> list[str]:
    return [item.name for chunk in chunks for item in chunk]


@J8
@pytest.mark.parametrize(
    ("overwrite", "at_s", "content"),
    [
        ("if_newer", THEN - 9, b"new bytes"),
        ("if_newer", THEN, b"other"),
        ("if_newer", THEN + 9, b"other"),
        ("if_different", THEN, b"new bytes"),
        ("always", THEN + 9, b"new bytes"),
        ("never", THEN, b"other"),
    ],
)
async def test_a_file_that_is_there_is_replaced_or_left_as_the_policy_says(
    lab: Lab, overwrite: Overwrite, at_s: int, content: bytes
) -> None:
    lab.put("source", "f", b"new bytes")
    lab.put("destination", "f", b"other", at_s)
    settlement = await lab.copy("f", rules=CopyRules(overwrite))
    assert lab.there() == {"f": content}
    if overwrite == "never":
        assert [failure.problem.reason for failure in settlement.failures] == ["DESTINATION_EXISTS"]
    else:
        (result,) = settlement.results
        assert result.left_alone is (content == b"other")
        assert settlement.files_unchanged == int(result.left_alone)


@J8
@pytest.mark.parametrize(
    ("rules", "at_s", "content"),
    [
        (CopyRules("always"), THEN + 9, b"0.131"),
        (CopyRules("if_newer"), THEN - 9, b"0.131"),
        (CopyRules("if_different"), THEN - 9, b"0.131"),
        (CopyRules("if_different", comparison="checksum"), THEN, b"0.131"),
        (CopyRules("never"), THEN - 9, b"0.212"),
        (CopyRules("keep_both"), THEN - 9, b"0.212"),
    ],
)
async def test_a_file_that_was_edited_is_not_taken_for_the_same_though_its_adler32_is(
    lab: Lab, rules: CopyRules, at_s: int, content: bytes
) -> None:
    assert zlib.adler32(b"0.131") == zlib.adler32(b"0.212")
    lab.put("source", "f", b"0.131")
    lab.put("destination", "f", b"0.212", at_s)
    settlement = await lab.copy("f", rules=rules)
    assert not any(result.adopted for result in settlement.results)
    assert lab.there()["f"] == content
    assert bool(settlement.failures) is (rules.overwrite == "never")


@J8
async def test_what_was_written_after_the_look_is_decided_anew(lab: Lab) -> None:
    """The walk saw an old file; a newer one has come since, and is left alone."""
    lab.put("source", "f", b"new bytes")
    there = lab.put("destination", "f", b"old", THEN - 9)
    found = await lab.walk(CopyRules("if_newer"))
    assert names(found.chunks) == ["f"]
    there.write_bytes(b"by somebody else")
    settlement = await lab.copy("f", rules=CopyRules("if_newer"))
    assert settlement.results[0].left_alone
    assert lab.there() == {"f": b"by somebody else"}


@J8
async def test_both_are_kept_under_two_names_and_again_is_no_third(lab: Lab) -> None:
    lab.put("source", "run.tar.gz", b"new bytes")
    lab.put("destination", "run.tar.gz", b"other")
    for again in (False, True):
        settlement = await lab.copy("run.tar.gz", rules=CopyRules("keep_both"))
        (result,) = settlement.results
        assert (result.kept_beside, result.adopted) == ("run (1).tar.gz", again)
        assert lab.there() == {"run.tar.gz": b"other", "run (1).tar.gz": b"new bytes"}
    lab.put("source", "run.tar.gz", b"newest bytes")
    (result,) = (await lab.copy("run.tar.gz", rules=CopyRules("keep_both"))).results
    assert result.kept_beside == "run (2).tar.gz"
    assert lab.there()["run (2).tar.gz"] == b"newest bytes"


@J8
async def test_a_sync_copies_only_what_changed_and_says_what_it_left(lab: Lab) -> None:
    rules = CopyRules("if_different", delete_extraneous=True)
    for name in ("same", "changed", "touched", "new"):
        lab.put("source", name, b"content of " + name.encode())
    lab.put("destination", "same", b"content of same")
    lab.put("destination", "changed", b"content of hanged")
    lab.put("destination", "touched", b"content of touched", THEN + 5)
    lab.put("destination", "extra", b"x")
    lab.put("destination", "extra-directory/f", b"x")
    (lab.destination / "d" / ".wherry-job.1-1-0").touch()
    found = await lab.walk(rules)
    assert names(found.chunks) == ["changed", "new", "touched"]
    assert (found.files_unchanged, found.bytes_unchanged) == (1, len(b"content of same"))
    assert names(found.extraneous_chunks) == ["extra"]
    assert found.extraneous_directories == ("extra-directory",)
    settlement = await lab.copy("changed", "new", "touched", rules=rules)
    assert [result.adopted for result in sorted(settlement.results, key=lambda r: r.index)] == [False, False, True]
    again = await lab.walk(rules)
    assert (names(again.chunks), again.files_unchanged) == ([], 4)


@J8
async def test_what_filters_leave_out_is_not_deleted_either(lab: Lab) -> None:
    lab.put("source", "a.dat", b"1")
    for name in ("old.dat", "notes.txt", "keep.dat", "folder/x.dat"):
        lab.put("destination", name, b"x")
    filters = Filters(include=("*.dat",), exclude=("keep*",))
    found = await lab.walk(CopyRules("if_different", delete_extraneous=True, filters=filters))
    assert names(found.extraneous_chunks) == ["old.dat"]
    assert found.extraneous_directories == ()


@J8
async def test_a_dry_run_removes_nothing_not_even_a_link_that_stands_for_a_directory(lab: Lab) -> None:
    for name in ("sub/g", "file"):
        lab.put("source", name, b"1")  # a removal is at the one site that its lease names, be it a copy's destination
    top = lab.source / "d"
    (top / "link").symlink_to(top / "sub")
    before = sorted(path.name for path in top.rglob("*"))
    for name in ("sub", "link", "file", "gone"):
        walk = WalkRemove(f"/d/{name}", root=False, recursive=True, cursor="", dry_run=True)
        assert (await lab.run(walk, one_site=True)).outcome is Outcome.COMPLETED
    assert sorted(path.name for path in top.rglob("*")) == before
    assert (top / "link").is_symlink()
    assert [names(found.chunks) for found in lab.queue.reported] == [["g"], ["g"], [], []]


@pytest.mark.row("J10")
async def test_filters_hold_below_the_item_that_was_named(lab: Lab) -> None:
    for name in ("x.dat", "x.txt", "tmp/y.dat", "run/y.dat"):
        lab.put("source", name, b"1")
    found = await lab.walk(CopyRules(filters=Filters(include=("*.dat",), exclude=("tmp",))))
    assert (names(found.chunks), found.directories) == (["x.dat"], ("run",))
    deeper = await lab.walk(CopyRules(filters=Filters(include=("below/*.txt",))), path_below="below")
    assert names(deeper.chunks) == ["x.txt"]


@pytest.mark.row("J10")
async def test_a_file_that_is_named_is_copied_whatever_the_filters_say(lab: Lab) -> None:
    lab.put("source", "x.txt", b"1")
    rules = CopyRules(filters=Filters(include=("*.dat",), exclude=("x*",)))
    await lab.run(WalkCopy("/d/x.txt", "/d/y.txt", root=True, recursive=False, cursor="", rules=rules))
    assert names(lab.queue.reported[0].chunks) == ["x.txt"]


@pytest.mark.row("J6")
async def test_links_are_followed_where_that_is_asked_for_and_never_in_a_circle(lab: Lab) -> None:
    lab.put("source", "sub/file", b"1234")
    top = lab.source / "d"
    for name, target in (
        ("to-file", "sub/file"),
        ("to-directory", "sub"),
        ("to-itself", "."),
        ("upwards", "../d"),
        ("nowhere", "missing"),
    ):
        (top / name).symlink_to(target)
    found = await lab.walk(CopyRules(follow_links=True))
    (item,) = [item for chunk in found.chunks for item in chunk]
    assert (item.name, item.size_bytes) == ("to-file", 4)
    assert found.directories == ("sub", "to-directory")
    assert {failure.path: failure.problem.reason for failure in found.failures} == {
        "/d/nowhere": "SYMLINK_LEADS_NOWHERE",
        "/d/to-itself": "SYMLINK_LOOP",
        "/d/upwards": "SYMLINK_LOOP",
    }
    assert found.skipped == ()
    skipping = await lab.walk(CopyRules())
    assert sorted(entry.path for entry in skipping.skipped) == [
        *("/d/nowhere", "/d/to-directory", "/d/to-file", "/d/to-itself", "/d/upwards"),
    ]


@pytest.mark.row("J11", missing="reachable both ways")
async def test_a_dry_run_writes_nothing_and_finds_what_would_clash(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    lab.put("source", "clash", b"12")
    found = await lab.walk(CopyRules(dry_run=True))
    assert list(lab.destination.iterdir()) == []
    assert (names(found.chunks), found.directories_done) == (["clash", "f"], 0)
    lab.put("destination", "clash", b"123")
    found = await lab.walk(CopyRules(dry_run=True))
    assert [failure.problem.reason for failure in found.failures] == ["DESTINATION_EXISTS"]
    lab.queue.reported.clear()
    root = WalkCopy("/d/f", "/new/f", root=True, recursive=False, cursor="", rules=CopyRules(dry_run=True))
    assert (await lab.run(root)).outcome is Outcome.COMPLETED
    assert not (lab.destination / "new").exists()


@J8
async def test_a_file_keeps_its_time_unless_that_is_not_wanted(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    lab.put("source", "g", b"12")
    await lab.copy("f", rules=CopyRules())
    await lab.copy("g", rules=CopyRules(keep_times=False))
    assert int((lab.destination / "d" / "f").stat().st_mtime) == THEN
    assert int((lab.destination / "d" / "g").stat().st_mtime) > THEN


@pytest.mark.row("J9")
async def test_another_algorithm_is_used_and_recorded(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    settlement = await lab.copy("f", rules=CopyRules(algorithm="sha256"))
    (result,) = settlement.results
    assert (result.algorithm, result.checksum) == ("sha256", hashlib.sha256(b"12").hexdigest())


@pytest.mark.row("J9")
async def test_without_checksums_the_size_is_looked_at_still(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    lab.put("source", "g!short", b"12")
    lab.put("source", "h!corrupt", b"12")
    settlement = await lab.copy("f", "g!short", "h!corrupt", rules=CopyRules(verification="size"))
    assert [(failure.index, failure.problem.reason) for failure in settlement.failures] == [(1, "SIZE_MISMATCH")]
    assert [(result.index, result.checksum) for result in settlement.results] == [(0, ""), (2, "")]
    refused = await lab.copy("h!corrupt", rules=CopyRules("always"))
    assert [failure.problem.reason for failure in refused.failures] == ["CHECKSUM_MISMATCH"]


@pytest.mark.row("J1")
@pytest.mark.row("D6")
async def test_modes_of_a_tree_are_set_files_first(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    lab.put("source", "sub/g", b"12")
    (lab.source / "d" / "link").symlink_to("f")
    walk = WalkTree("/d", root=True, recursive=True, cursor="", directories_too=True)
    assert (await lab.run(walk, one_site=True)).outcome is Outcome.COMPLETED
    (found,) = lab.queue.reported
    assert (names(found.chunks), found.directories, found.remove_directory) == (["f"], ("sub",), True)
    settlement = await lab.run(ChangeModes("/d", (ChunkItem("f", "", 2), ChunkItem("gone")), b"", 0o640), one_site=True)
    assert [(failure.path, failure.problem.reason) for failure in settlement.failures] == [("/d/gone", "NOT_FOUND")]
    assert (settlement.done, (lab.source / "d" / "f").stat().st_mode & 0o7777) == (b"\x01", 0o640)
    await lab.run(ChangeModeOfDirectory("/d/sub", 0o711), one_site=True)
    assert (lab.source / "d" / "sub").stat().st_mode & 0o7777 == 0o711


@pytest.mark.row("J1")
async def test_checksums_of_files_are_computed_each_for_itself(lab: Lab) -> None:
    lab.put("source", "f", b"12")
    lab.put("source", "g", b"")
    chunk = SumChunk("/d", tuple(ChunkItem(name) for name in ("f", "gone", "g")), b"", "md5")
    settlement = await lab.run(chunk, one_site=True)
    assert [(failure.index, failure.problem.reason) for failure in settlement.failures] == [(1, "NOT_FOUND")]
    found = {result.index: (result.algorithm, result.checksum, result.size_bytes) for result in settlement.results}
    assert found == {0: ("md5", hashlib.md5(b"12").hexdigest(), 2), 2: ("md5", hashlib.md5(b"").hexdigest(), 0)}
    rest = await lab.run(replace(chunk, done=settlement.done), one_site=True)
    assert rest.results == ()


@pytest.mark.row("J1")
@pytest.mark.parametrize(("recursive", "modes"), [(False, True), (False, False), (True, False)])
async def test_a_tree_of_one_file_or_of_one_directory(lab: Lab, *, recursive: bool, modes: bool) -> None:
    lab.put("source", "f", b"12")
    walk = WalkTree("/d/f", root=True, recursive=recursive, cursor="", directories_too=modes)
    await lab.run(walk, one_site=True)
    assert names(lab.queue.reported[-1].chunks) == ["f"]
    assert lab.queue.reported[-1].chunk_source_directory == "/d"
    settlement = await lab.run(replace(walk, path="/d"), one_site=True)
    if not recursive and not modes:
        assert settlement.problem is not None
        assert settlement.problem.reason == "IS_A_DIRECTORY"
    else:
        assert lab.queue.reported[-1].remove_directory is modes
        assert bool(lab.queue.reported[-1].chunks) is recursive
    missing = await lab.run(replace(walk, path="/missing"), one_site=True)
    assert missing.problem is not None
    assert missing.problem.reason == "NOT_FOUND"
