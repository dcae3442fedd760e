"""Sources that vanish, change or are taken away while a copy goes on: the file is told, and costs no other one."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from wherry_testing.engine_faults import (
    BALLAST_BYTES,
    Came,
    FaultLab,
    assert_nothing_lost,
    chunk,
    copied,
    is_own,
    no_temporaries,
    sealed,
    stopped_in_the_first_file,
)

pytestmark = pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)

NAMES = ["ballast", *(f"f{number:02}" for number in range(60))]


async def changed_meanwhile(
    lab: FaultLab, change: Callable[[Path], None], contents: dict[str, bytes], old: dict[str, bytes] | None = None
) -> Came:
    """Copies a large file and sixty small ones, and changes the source while the large one is sent."""
    lab.prepare(contents, old)
    async with lab.engine() as engine:
        task = chunk(NAMES, size_bytes=1000, overwrite="always" if old else "never")
        copying = asyncio.create_task(copied(engine, task))
        async with stopped_in_the_first_file(lab.sites[1], lab.destination):
            change(lab.source)
        came = await copying
    await no_temporaries(lab.destination)
    return came


@pytest.fixture
def contents() -> dict[str, bytes]:
    rng = random.Random(4)
    return {name: sealed(name, 0, BALLAST_BYTES if name == "ballast" else 2000, rng) for name in NAMES}


@pytest.mark.row("T23", missing="gsiftp alone")
@pytest.mark.row("T9")
async def test_files_that_go_in_the_middle_of_a_chunk_are_told_and_cost_no_other(
    fault_lab: FaultLab, contents: dict[str, bytes]
) -> None:
    def change(source: Path) -> None:
        (source / "f20").unlink()
        (source / "f30").chmod(0)
        os.chown(source / "f30", 0, 0)
        (source / "f40").unlink()
        (source / "f40").mkdir(mode=0o755)

    came = await changed_meanwhile(fault_lab, change, contents)
    assert came.problem is None
    assert len(came.done) == len(NAMES)
    failed = {NAMES[index]: reason for index, reason in came.reasons.items() if reason}
    assert failed == {
        "f20": "SOURCE_NOT_FOUND",
        "f30": "SOURCE_PERMISSION_DENIED",
        "f40": "SOURCE_IS_A_DIRECTORY",
    }
    assert {item.problem.party for item in came.done if item.problem} == {"user"}
    assert_nothing_lost(fault_lab.destination, NAMES, came, contents)


def _other_bytes(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-100, os.SEEK_END)
        opened.write(b"\xff" * 10)


def _more_bytes(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def _fewer_bytes(file: Path) -> None:
    os.truncate(file, BALLAST_BYTES - 1000)


@pytest.mark.row("J9")
@pytest.mark.row("T23", missing="gsiftp alone")
@pytest.mark.parametrize("meddle", [_other_bytes, _more_bytes, _fewer_bytes])
async def test_a_source_that_changes_while_it_is_sent_is_told_and_replaces_nothing(
    fault_lab: FaultLab, contents: dict[str, bytes], meddle: Callable[[Path], None]
) -> None:
    old = {"ballast": b"as it was"}

    def change(source: Path) -> None:
        meddle(source / "ballast")
        os.utime(source / "ballast", (1_700_000_000, 1_700_000_000))

    came = await changed_meanwhile(fault_lab, change, contents, old)
    failed = {NAMES[index]: reason for index, reason in came.reasons.items() if reason}
    assert failed == {"ballast": "SOURCE_CHANGED"}
    (problem,) = [item.problem for item in came.done if item.problem]
    assert (problem.party, problem.retryable) == ("user", True)
    assert_nothing_lost(fault_lab.destination, NAMES, came, contents, old)


@pytest.mark.row("J9")
async def test_a_source_that_is_replaced_while_it_is_sent_arrives_as_it_was_or_not_at_all(
    fault_lab: FaultLab, contents: dict[str, bytes]
) -> None:
    def change(source: Path) -> None:
        (source / "ballast").unlink()

    came = await changed_meanwhile(fault_lab, change, contents)
    assert {index for index, reason in came.reasons.items() if reason} <= {0}
    assert_nothing_lost(fault_lab.destination, NAMES, came, contents)


@pytest.mark.row("J9")
async def test_small_files_that_are_rewritten_in_a_chunk_are_whole_or_told(
    fault_lab: FaultLab, contents: dict[str, bytes]
) -> None:
    rng = random.Random(5)

    def change(source: Path) -> None:
        for number in range(10, 50, 2):
            name = f"f{number:02}"
            size = 2000 if number % 4 else 3000
            (source / name).write_bytes(sealed(name, 1, size, rng))

    came = await changed_meanwhile(fault_lab, change, contents)
    assert {reason for reason in came.reasons.values() if reason} <= {"SOURCE_CHANGED", "CHECKSUM_MISMATCH"}
    assert len(came.done) == len(NAMES)
    for index, reason in came.reasons.items():
        path = fault_lab.destination / NAMES[index]
        assert path.exists() == (reason is None)
        assert reason or is_own(NAMES[index], path.read_bytes())
