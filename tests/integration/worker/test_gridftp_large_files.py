"""Large files through the pipelined engine: beyond 32 bits, slower than a server may be silent, and not readable."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import names_in, run
from wherry_testing.engine_faults import FaultLab, Patience, chunk, copied, no_temporaries
from wherry_worker.engine.messages import ChannelUsed, ItemDone, Progress

pytestmark = pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)

ABOVE_5_GIB = (5 << 30) + 12_345


def sparse(file: Path, size_bytes: int) -> None:
    """A file of zeros with a word at its beginning and at its end, which takes no room."""
    with file.open("wb") as opened:
        opened.write(b"begin")
        opened.seek(size_bytes - 3)
        opened.write(b"end")


def adler32(file: Path) -> str:
    value = 1
    with file.open("rb") as opened:
        while block := opened.read(1 << 24):
            value = zlib.adler32(block, value)
    return f"{value:08x}"


@pytest.mark.row("D8")
@pytest.mark.row("J9")
async def test_a_file_above_5_gib_is_copied_verified_and_told_with_its_size(fault_lab: FaultLab) -> None:
    """It takes longer than its servers may be without news, and it is one file: what arrives is the news."""
    sparse(fault_lab.source / "large", ABOVE_5_GIB)
    fault_lab.own()
    async with fault_lab.engine(Patience(marker_timeout_s=8, namespace_timeout_s=30)) as engine:
        told = await run(engine, chunk(["large"], size_bytes=ABOVE_5_GIB), within_s=400)
    (done,) = [message for message in told if isinstance(message, ItemDone)]
    assert done.problem is None
    assert done.size_bytes == ABOVE_5_GIB
    copy = fault_lab.destination / "large"
    assert copy.stat().st_size == ABOVE_5_GIB
    assert done.checksum == adler32(copy) == adler32(fault_lab.source / "large")
    assert names_in(fault_lab.destination) == ["large"]
    moved = [message.transferred_bytes for message in told if isinstance(message, Progress)]
    assert moved == sorted(moved)
    assert max(moved) <= ABOVE_5_GIB
    assert [message.protection for message in told if isinstance(message, ChannelUsed)] == ["clear"]
    copy.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")
@pytest.mark.row("T9")
async def test_large_files_that_may_not_be_read_are_told_and_cost_no_other(fault_lab: FaultLab) -> None:
    """Their checksums are asked for while they are to be sent already: both are refused."""
    names = ["a", "locked", "large", "locked too", "z"]
    for name in names:
        sparse(fault_lab.source / name, 100 << 20)
    fault_lab.own()
    for name in ("locked", "locked too"):
        os.chown(fault_lab.source / name, 0, 0)
        (fault_lab.source / name).chmod(0o600)
    came = await fault_lab.copy(chunk(names, size_bytes=100 << 20))
    assert came.problem is None
    assert came.reasons == {0: None, 1: "SOURCE_PERMISSION_DENIED", 2: None, 3: "SOURCE_PERMISSION_DENIED", 4: None}
    await no_temporaries(fault_lab.destination)
    assert names_in(fault_lab.destination) == ["a", "large", "z"]
    for name in ("a", "large", "z"):
        assert adler32(fault_lab.destination / name) == adler32(fault_lab.source / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")
@pytest.mark.row("J7")
async def test_a_copy_that_is_halted_before_a_refusal_comes_to_its_end(fault_lab: FaultLab) -> None:
    """What was to be sent again for its sake is not, since it is halted; what was written of it is removed."""
    names = [f"f{number:02}" for number in range(20)]
    for name in names:
        sparse(fault_lab.source / name, 70 << 20)
    fault_lab.own()
    done: list[ItemDone] = []
    async with fault_lab.engine() as engine:
        async for message in engine.run(chunk(names, size_bytes=1000), time.monotonic() + 120):
            if isinstance(message, ItemDone):
                if not done:
                    os.chown(fault_lab.source / names[5], 0, 0)
                    (fault_lab.source / names[5]).chmod(0)
                    await engine.halt()
                done.append(message)
        assert 1 <= len(done) < len(names)
        await no_temporaries(fault_lab.destination)
        again = await copied(engine, chunk(names, fence=2))
    assert {index for index, reason in again.reasons.items() if reason} == {5}
    await no_temporaries(fault_lab.destination)


async def test_a_parent_that_the_protocol_cannot_name_costs_its_file_alone(fault_lab: FaultLab) -> None:
    (fault_lab.source / "f").write_bytes(b"1")
    fault_lab.own()
    task = chunk(["f", "f", "f"], make_parents=True)
    names = ("line\nbreak/one", "line\nbreak/two", "new/three")
    items = tuple(replace(item, destination_name=name) for item, name in zip(task.items, names, strict=True))
    came = await fault_lab.copy(replace(task, items=items))
    assert came.reasons == {0: "DESTINATION_NAME_NOT_CARRIED", 1: "DESTINATION_NAME_NOT_CARRIED", 2: None}
    came = await fault_lab.copy(replace(task, items=items, fence=2, remove_stale=True))
    assert came.reasons == {0: "DESTINATION_NAME_NOT_CARRIED", 1: "DESTINATION_NAME_NOT_CARRIED", 2: None}
