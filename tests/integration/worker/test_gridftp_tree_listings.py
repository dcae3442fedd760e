"""Listings to a depth through real GridFTP servers, with each engine."""

from __future__ import annotations

import os
import time

import pytest
from wherry_fakes.worker_ports import FakeQueue
from wherry_testing.engine_conformance import EngineRig
from wherry_worker.attempt import Attempt
from wherry_worker.engine.messages import Entry
from wherry_worker.engine.paths import to_text
from wherry_worker.listing import list_for_caller
from wherry_worker.work import Lease, LeaseRef, ListOne, WorkClass

pytestmark = [pytest.mark.row("J1"), pytest.mark.timeout(180)]

#: What neither a listing nor a path may stumble over.
ODD = [b"caf\xe9", "日本 ü".encode(), b" lead", b"#%41?x=1", b"-rf", b"'\"$(id)`", b"...", b"a;b=c; d"]


async def listed(rig: EngineRig, depth: int, path: str = "/") -> list[Entry]:
    """Lists a directory, to a depth, as for somebody who waits."""
    work, queue = ListOne(path, depth), FakeQueue()
    lease = Lease(
        LeaseRef("jobs/1/tasks/2", 1), time.monotonic() + 90, "token", WorkClass.INTERACTIVE, "users/1", "sites/site-a",
        "sites/site-a", 1, work,
    )  # fmt: skip
    async with rig.open() as engine:
        await list_for_caller(Attempt(lease), engine, work, queue)
    return [entry for found in queue.reported for entry in found.entries]


async def test_odd_names_are_told_and_gone_into_at_every_level(rig: EngineRig) -> None:
    for name in map(os.fsdecode, ODD):
        (rig.source / name / name).mkdir(parents=True)
        (rig.source / name / name / name).write_bytes(b"12345")
    rig.own()
    entries = await listed(rig, 3)
    ordered = sorted(ODD)
    assert [entry.name for entry in entries] == [
        *(to_text(name) for name in ordered),
        *(to_text(path) for name in ordered for path in (name + b"/" + name, name + b"/" + name + b"/" + name)),
    ]
    assert [(entry.kind, entry.size_bytes) for entry in entries if entry.name.count("/") == 2] == [("file", 5)] * len(
        ODD
    )


async def test_a_link_to_a_directory_is_told_and_not_gone_into(rig: EngineRig) -> None:
    (rig.source / "a" / "b").mkdir(parents=True)
    (rig.source / "a" / "up").symlink_to("..")
    (rig.source / "to-a").symlink_to("a")
    rig.own()
    entries = await listed(rig, 32 if rig.tells_links else 2)
    kind = "symlink" if rig.tells_links else "directory"
    expected = [("a", "directory"), ("to-a", kind), ("a/b", "directory"), ("a/up", kind)]
    # gfal2 alone shows what a link leads to: there the depth and the most entries bound what it leads into.
    behind = [] if rig.tells_links else [("to-a/b", "directory"), ("to-a/up", "directory")]
    assert [(entry.name, entry.kind) for entry in entries] == expected + behind


async def test_a_directory_that_may_not_be_read_says_so_and_the_rest_is_told(rig: EngineRig) -> None:
    for name in ("a", "closed", "d"):
        (rig.source / name).mkdir()
        (rig.source / name / "file").write_bytes(b"1")
    rig.own()
    (rig.source / "closed").chmod(0)
    entries = await listed(rig, 2)
    assert [entry.name for entry in entries] == ["a", "closed", "d", "a/file", "closed", "d/file"]
    problems = [(entry.name, entry.problem.reason) for entry in entries if entry.problem]
    assert problems == [("closed", "SOURCE_PERMISSION_DENIED")]


async def test_many_directories_with_many_files_are_told_whole(rig: EngineRig) -> None:
    expected = []
    for directory in ("a", "b"):
        (rig.source / directory).mkdir()
        for number in range(1200):
            (rig.source / directory / f"{number:04}").touch()
            expected.append(f"{directory}/{number:04}")
    rig.own()
    assert [entry.name for entry in await listed(rig, 2)] == ["a", "b", *expected]
