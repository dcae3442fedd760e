"""Servers and engines that are killed or stall in the middle of a copy: what is done is told, the rest done again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time

import pytest
from wherry_testing.engine_conformance import names_in
from wherry_testing.engine_faults import (
    LARGE_BYTES,
    Came,
    FaultLab,
    Patience,
    assert_nothing_lost,
    chunk,
    copied,
    no_temporaries,
    processes_of,
    sealed,
    sessions_of,
    stopped,
    temporaries,
    written_bytes,
)
from wherry_testing.waiting import until
from wherry_worker.engine.messages import ItemDone
from wherry_worker.engine_process import EngineTaskFailed

PIPELINED = pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)
BOTH = pytest.mark.parametrize("engine_name", ["pipelined", "gfal2"], indirect=True)
SIDES = pytest.mark.parametrize("side", ["source", "destination"])

SMALL = [f"f{number:03}" for number in range(300)]
SHORT = Patience(namespace_timeout_s=6, marker_timeout_s=12, checksum_timeout_s=30)


def small_files(lab: FaultLab, names: list[str]) -> dict[str, bytes]:
    rng = random.Random(7)
    contents = {name: sealed(name, 0, 3000, rng) for name in names}
    lab.prepare(contents, {names[-1]: b"as it was"})
    return contents


def with_a_large_file(lab: FaultLab) -> tuple[list[str], dict[str, bytes]]:
    """A small file, one that takes its time, a small one; the large one has an older version at the destination."""
    contents = small_files(lab, ["a", "z"])
    (lab.destination / "z").unlink()
    with (lab.source / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)
    (lab.destination / "large").write_bytes(b"as it was")
    lab.own()
    return ["a", "large", "z"], contents


def gone(side: str) -> set[str]:
    """What may be said of a site that is killed: connections break, and none comes about any more."""
    return {f"{side.upper()}_UNREACHABLE", f"{side.upper()}_CONNECTION_LOST", "TRANSFER_BROKEN"}


@BOTH
@SIDES
@pytest.mark.row("T23", missing="gsiftp alone")
async def test_a_server_that_is_killed_in_mid_file_is_told_and_the_copy_can_be_done_again(
    fault_lab: FaultLab, side: str
) -> None:
    names, contents = with_a_large_file(fault_lab)
    site = fault_lab.sites[side == "destination"]
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(names, overwrite="always", size_bytes=LARGE_BYTES // 2)))
        try:
            await until(lambda: written_bytes(fault_lab.destination) > 4 << 20, within_s=60)
            site.kill()
            came = await copying
        finally:
            site.start()
    assert "large" not in [names[item.index] for item in came.done if item.problem is None]
    assert came.why <= gone(side)
    assert came.why
    assert came.problem is None or came.problem.retryable
    assert (fault_lab.destination / "large").read_bytes() == b"as it was"
    if side == "source":
        await no_temporaries(fault_lab.destination)  # the engine could remove it itself
    await fault_lab.clear()
    await no_temporaries(fault_lab.destination)
    os.truncate(fault_lab.source / "large", 1000)
    again = await fault_lab.copy(chunk(names, fence=2, overwrite="always", remove_stale=True))
    assert again.reasons == {0: None, 1: None, 2: None}
    assert_nothing_lost(fault_lab.destination, names, again, contents | {"large": bytes(1000)})
    await no_temporaries(fault_lab.destination)


@PIPELINED
@SIDES
@pytest.mark.row("T23", missing="gsiftp alone")
async def test_a_server_that_is_killed_between_files_is_told_and_the_copy_can_be_done_again(
    fault_lab: FaultLab, side: str
) -> None:
    contents = small_files(fault_lab, SMALL)
    old = {SMALL[-1]: b"as it was"}
    site = fault_lab.sites[side == "destination"]
    async with fault_lab.engine(SHORT) as engine:
        came = Came()
        try:
            try:
                async for message in engine.run(chunk(SMALL, overwrite="always"), time.monotonic() + 120):
                    if isinstance(message, ItemDone):
                        came.done.append(message)
                        if len(came.done) == 1:
                            site.kill()
            except EngineTaskFailed as failed:
                came.problem = failed.problem
        finally:
            site.start()
    assert came.problem is not None
    assert came.problem.reason in gone(side)
    assert came.problem.retryable
    assert 1 <= len(came.done) < len(SMALL)
    await fault_lab.clear()
    await no_temporaries(fault_lab.destination)
    assert_nothing_lost(fault_lab.destination, SMALL, came, contents, old)
    again = await fault_lab.copy(chunk(SMALL, fence=2, overwrite="always", remove_stale=True))
    assert set(again.reasons.values()) == {None}
    assert_nothing_lost(fault_lab.destination, SMALL, again, contents)


@PIPELINED
@SIDES
async def test_connections_that_are_cut_in_the_middle_cost_no_file(fault_lab: FaultLab, side: str) -> None:
    """The server itself lives: what served the copy's connections is killed."""
    contents = small_files(fault_lab, SMALL)
    site = fault_lab.sites[side == "destination"]
    async with fault_lab.engine(SHORT) as engine:
        came = Came()
        async for message in engine.run(chunk(SMALL, overwrite="always"), time.monotonic() + 120):
            if isinstance(message, ItemDone):
                came.done.append(message)
                if len(came.done) in (1, 200):
                    for pid in sessions_of(site):
                        with contextlib.suppress(ProcessLookupError):  # it may just have ended by itself
                            os.kill(pid, signal.SIGKILL)
    assert set(came.reasons.values()) == {None}
    assert len(came.done) == len(SMALL)
    assert_nothing_lost(fault_lab.destination, SMALL, came, contents)
    await no_temporaries(fault_lab.destination)


@PIPELINED
@SIDES
@pytest.mark.row("T23", missing="gsiftp alone")
async def test_a_server_that_stalls_in_mid_file_is_told_within_its_time(fault_lab: FaultLab, side: str) -> None:
    names, contents = with_a_large_file(fault_lab)
    site = fault_lab.sites[side == "destination"]
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(names, overwrite="always", size_bytes=LARGE_BYTES // 2)))
        await until(lambda: written_bytes(fault_lab.destination) > 4 << 20, within_s=60)
        with stopped(lambda: processes_of(site)):
            began_s = time.monotonic()
            came = await copying
        assert time.monotonic() - began_s < 90
    assert came.problem is not None
    assert came.problem.reason in (f"{side.upper()}_TIMED_OUT", "TRANSFER_STALLED")
    assert came.problem.retryable
    assert came.problem.party in (f"{side}_site", "network")
    assert_nothing_lost(fault_lab.destination, ["a", "z"], Came(), contents)
    assert (fault_lab.destination / "large").read_bytes() == b"as it was"
    await fault_lab.clear()
    await no_temporaries(fault_lab.destination)


@PIPELINED
@SIDES
async def test_connections_that_stall_for_a_moment_or_for_good_cost_no_file(fault_lab: FaultLab, side: str) -> None:
    """The server itself lives: what serves the copy's connections hangs, and others take their place."""
    contents = small_files(fault_lab, SMALL)
    site = fault_lab.sites[side == "destination"]
    pids: list[int] = []
    async with fault_lab.engine(SHORT) as engine:
        came = Came()
        try:
            async for message in engine.run(chunk(SMALL, overwrite="always"), time.monotonic() + 120):
                if isinstance(message, ItemDone):
                    came.done.append(message)
                    if len(came.done) == 1:
                        pids += sessions_of(site)
                        for pid in pids:
                            os.kill(pid, signal.SIGSTOP)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
    assert pids
    assert set(came.reasons.values()) == {None}
    assert len(came.done) == len(SMALL)
    assert_nothing_lost(fault_lab.destination, SMALL, came, contents)
    await no_temporaries(fault_lab.destination)


@BOTH
@pytest.mark.row("D2")
async def test_what_a_killed_engine_left_is_removed_and_nothing_else_has_changed(fault_lab: FaultLab) -> None:
    names, contents = with_a_large_file(fault_lab)
    async with fault_lab.engine() as engine:
        copying = asyncio.create_task(copied(engine, chunk(names, overwrite="always", size_bytes=LARGE_BYTES // 2)))
        await until(lambda: written_bytes(fault_lab.destination) > 4 << 20, within_s=60)
        os.kill(engine.pid, signal.SIGKILL)
        came = await copying
    assert came.died == "crashed"
    assert temporaries(fault_lab.destination)
    await fault_lab.clear()
    await no_temporaries(fault_lab.destination)
    assert (fault_lab.destination / "large").read_bytes() == b"as it was"
    assert_nothing_lost(fault_lab.destination, ["a", "z"], Came(), contents)


@PIPELINED
@pytest.mark.row("D2")
async def test_an_engine_killed_among_small_files_leaves_whole_files_and_temporaries_alone(
    fault_lab: FaultLab,
) -> None:
    contents = small_files(fault_lab, SMALL)
    async with fault_lab.engine() as engine:
        copying = asyncio.create_task(copied(engine, chunk(SMALL, overwrite="always")))
        await until(lambda: len(names_in(fault_lab.destination)) > 20, within_s=60)
        os.kill(engine.pid, signal.SIGKILL)
        came = await copying
    assert came.died == "crashed"
    await fault_lab.clear()
    await no_temporaries(fault_lab.destination)
    assert_nothing_lost(fault_lab.destination, SMALL, came, contents, {SMALL[-1]: b"as it was"})
