"""How every engine copies as the rules of a copy say: subclass CopyRulesConformance and give it a rig.

The other half of EngineConformance, which see.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from wherry_testing.engine_conformance import EngineRig, copy, failure, in_order, names_in, run
from wherry_worker.engine.messages import (
    ChecksumFiles,
    EntryBatch,
    ListDirectory,
    SetMode,
    SetModes,
)
from wherry_worker.engine_process import EngineTaskFailed

THEN = 1_600_000_000


def put(folder: Path, name: str, content: bytes, at_s: int = THEN) -> None:
    """Makes a file with a time of change."""
    (folder / name).write_bytes(content)
    os.utime(folder / name, (at_s, at_s))


class CopyRulesConformance:
    """The suite. Subclasses provide the fixture `rig`."""

    @pytest.mark.row("J8")
    @pytest.mark.parametrize(
        ("rules", "at_s", "replaced"),
        [
            ({"overwrite": "if_newer"}, THEN - 9, True),
            ({"overwrite": "if_newer"}, THEN, False),
            ({"overwrite": "if_different"}, THEN, True),
            ({"overwrite": "always"}, THEN + 9, True),
        ],
    )
    async def test_what_is_there_is_replaced_or_left_as_the_policy_says(
        self, rig: EngineRig, rules: dict[str, Any], at_s: int, *, replaced: bool
    ) -> None:
        put(rig.source, "f", b"new bytes")
        put(rig.destination, "f", b"other", at_s)
        rig.own()
        (done,) = await copy(rig, b"f", **rules)
        assert (done.problem, done.left_alone) == (None, not replaced)
        assert (rig.destination / "f").read_bytes() == (b"new bytes" if replaced else b"other")
        assert names_in(rig.destination) == ["f"]

    @pytest.mark.row("J8")
    async def test_of_the_same_size_and_time_bytes_count_only_where_they_are_to_be_compared(
        self, rig: EngineRig
    ) -> None:
        put(rig.source, "f", b"123")
        put(rig.destination, "f", b"abc")
        rig.own()
        (left,) = await copy(rig, b"f", overwrite="if_different")
        assert (left.problem, left.left_alone, left.adopted) == (None, True, False)
        (replaced,) = await copy(rig, b"f", overwrite="if_different", comparison="checksum")
        assert (replaced.problem, replaced.left_alone, replaced.adopted) == (None, False, False)
        assert (rig.destination / "f").read_bytes() == b"123"

    @pytest.mark.row("J8")
    async def test_both_are_kept_under_two_names_and_again_is_no_third(self, rig: EngineRig) -> None:
        put(rig.source, "run.tar.gz", b"new bytes")
        put(rig.destination, "run.tar.gz", b"other")
        (rig.destination / "run (1).tar.gz").mkdir()
        rig.own()
        for again in (False, True):
            (done,) = await copy(rig, b"run.tar.gz", overwrite="keep_both")
            assert (done.problem, done.kept_beside, done.adopted) == (None, "run (2).tar.gz", again)
        assert (rig.destination / "run.tar.gz").read_bytes() == b"other"
        assert (rig.destination / "run (2).tar.gz").read_bytes() == b"new bytes"
        assert names_in(rig.destination) == ["run (1).tar.gz", "run (2).tar.gz", "run.tar.gz"]

    @pytest.mark.row("J8")
    async def test_a_file_keeps_its_time_and_one_with_the_same_bytes_gets_it(self, rig: EngineRig) -> None:
        put(rig.source, "new", b"1")
        put(rig.source, "same", b"2")
        put(rig.source, "not-wanted", b"3")
        put(rig.destination, "same", b"2", THEN + 50)
        rig.own()
        done = await copy(rig, b"new", b"same", overwrite="if_different")
        assert [(item.problem, item.adopted) for item in done] == [(None, False), (None, True)]
        if rig.keeps_times:
            assert int((rig.destination / "new").stat().st_mtime) == THEN
            assert int((rig.destination / "same").stat().st_mtime) == THEN
        await copy(rig, b"not-wanted", keep_times=False)
        assert int((rig.destination / "not-wanted").stat().st_mtime) > THEN

    @pytest.mark.row("J9")
    @pytest.mark.row("D10")
    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
    async def test_other_algorithms_verify_too(self, rig: EngineRig, algorithm: str) -> None:
        put(rig.source, "f", b"123")
        rig.own()
        (done,) = await copy(rig, b"f", algorithm=algorithm)
        assert (done.problem, done.checksum) == (None, hashlib.new(algorithm, b"123").hexdigest())

    @pytest.mark.row("J9")
    async def test_an_algorithm_that_no_server_has_is_said_and_leaves_nothing(self, rig: EngineRig) -> None:
        put(rig.source, "f", b"123")
        rig.own()
        try:
            (done,) = await copy(rig, b"f", algorithm="crc99")
            problem = done.problem
        except EngineTaskFailed as failed:  # no other file would fare better
            problem = failed.problem
        assert problem is not None
        assert problem.reason.endswith("CHECKSUM_UNSUPPORTED")
        assert names_in(rig.destination) == []

    @pytest.mark.row("J9")
    async def test_by_size_alone_no_checksum_is_computed(self, rig: EngineRig) -> None:
        put(rig.source, "f", b"123")
        rig.own()
        (done,) = await copy(rig, b"f", verification="size")
        assert (done.problem, done.checksum, done.size_bytes) == (None, "", 3)
        assert (rig.destination / "f").read_bytes() == b"123"

    @pytest.mark.row("J1")
    async def test_checksums_of_many_files_are_told_each_for_itself(self, rig: EngineRig) -> None:
        names = [f"f{number:03}" for number in range(150)]
        for name in names:
            (rig.source / name).write_bytes(name.encode())
        (rig.source / "folder").mkdir()
        rig.own()
        async with rig.open() as engine:
            done = in_order(await run(engine, ChecksumFiles("/", (*names, "gone", "folder"), "md5")))
        assert [item.checksum for item in done[:150]] == [hashlib.md5(name.encode()).hexdigest() for name in names]
        assert {item.size_bytes for item in done[:150]} == {4}
        assert [item.problem.reason for item in done[150:] if item.problem] == [
            "SOURCE_NOT_FOUND",
            "SOURCE_IS_A_DIRECTORY",
        ]

    @pytest.mark.row("J1")
    @pytest.mark.row("D6")
    async def test_modes_are_set_of_files_and_of_a_directory(self, rig: EngineRig) -> None:
        for name in ("a", "b"):
            (rig.source / name).write_bytes(b"")
        (rig.source / "folder").mkdir()
        rig.own()
        async with rig.open() as engine:
            done = in_order(await run(engine, SetModes("/", ("a", "gone", "b"), 0o640)))
            await run(engine, SetMode("/folder", 0o2751))
            assert await failure(engine, SetMode("/none", 0o700)) == "SOURCE_NOT_FOUND"
        assert [item.problem.reason if item.problem else None for item in done] == [None, "SOURCE_NOT_FOUND", None]
        assert [(rig.source / name).stat().st_mode & 0o7777 for name in ("a", "b")] == [0o640, 0o640]
        assert (rig.source / "folder").stat().st_mode & 0o777 == 0o751

    @pytest.mark.row("J8")
    async def test_what_only_the_destination_has_is_told_where_it_is_asked_for(self, rig: EngineRig) -> None:
        for name in ("b", "d"):
            (rig.source / name).write_bytes(b"")
        for name in ("a", "b", "c", "e"):
            (rig.destination / name).write_bytes(b"x")
        (rig.destination / "f").mkdir()
        rig.own()
        async with rig.open() as engine:
            told = await run(engine, ListDirectory("/", beside="/", extraneous=True))
            behind = await run(engine, ListDirectory("/", beside="/", after="c", extraneous=True))
            unasked = await run(engine, ListDirectory("/", beside="/"))
        assert _extraneous(told) == [("a", "file"), ("c", "file"), ("e", "file"), ("f", "directory")]
        assert _extraneous(behind) == [("e", "file"), ("f", "directory")]
        assert _extraneous(unasked) == []

    @pytest.mark.row("J6")
    async def test_links_are_told_as_what_they_lead_to_where_they_are_to_be_followed(self, rig: EngineRig) -> None:
        (rig.source / "folder").mkdir()
        (rig.source / "file").write_bytes(b"1234")
        for name, target in (("to-file", "file"), ("to-folder", "folder"), ("nowhere", "missing")):
            (rig.source / name).symlink_to(target)
        rig.own()
        async with rig.open() as engine:
            told = await run(engine, ListDirectory("/", follow_links=True))
        found = {p.source.name: p.source for message in told if isinstance(message, EntryBatch) for p in message.pairs}
        assert (found["to-file"].kind, found["to-file"].size_bytes) == ("file", 4)
        assert found["to-folder"].kind == "directory"
        if rig.tells_links:
            assert found["to-folder"].target in ("folder", "/folder")
        if (nowhere := found.get("nowhere")) is not None:  # Globus leaves such links out of its listings
            assert nowhere.problem is not None
            assert nowhere.problem.reason == "SYMLINK_LEADS_NOWHERE"


def _extraneous(told: list[Any]) -> list[tuple[str, str]]:
    batches = [message for message in told if isinstance(message, EntryBatch)]
    return [(entry.name, entry.kind) for batch in batches for entry in batch.extraneous]
