"""Sources that vanish, change, or may not be read any more while a pipelined copy is under way: whatever comes of a
file, no other file's bytes ever stand under its name, and nothing unfinished is left.

Each file says in its own bytes which file it is, and whether it is whole. A test's seed is in its name; WHERRY_SEED in
the environment runs another one.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import names_in
from wherry_testing.engine_faults import (
    BALLAST_BYTES,
    Came,
    FaultLab,
    chunk,
    copied,
    is_own,
    no_temporaries,
    sealed,
    stopped_in_the_first_file,
)

pytestmark = [
    pytest.mark.row("T23", missing="gsiftp alone"),
    pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True),
    pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root"),
]

FILES = 150
INJECTIONS = 60
_GIVEN = os.environ.get("WHERRY_SEED")


def seeds(count: int) -> list[int]:
    """So many, or the one that was asked for."""
    return list(range(count)) if _GIVEN is None else [int(_GIVEN)]


def a_name(number: int) -> str:
    return f"f{number:04}"


class Meddler:
    """Does things to files of the source's user.

    Attributes:
        done: what was done to which file, the last of several.
    """

    KINDS = ("missing", "locked", "directory", "other size", "same size", "another file")

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._owner = folder.stat()
        self.done: dict[str, str] = {}

    def meddle(self, name: str, kind: str) -> None:
        path = self._folder / name
        if not path.is_file():
            return
        match kind:
            case "missing":
                path.unlink()
            case "locked":
                os.chown(path, 0, 0)
                path.chmod(0o600)
            case "directory":
                path.unlink()
                path.mkdir()
                path.chmod(0o755)
            case "another file":
                self._write(self._folder / f".{name}.new", name, self._rng.randrange(60_000)).replace(path)
            case _:
                size = path.stat().st_size if kind == "same size" else self._rng.randrange(60_000)
                head = len(f"{name} {len(self.done)} ") + 64
                self._write(path, name, max(size - head, 0))
        self.done[name] = kind

    def _write(self, path: Path, name: str, size: int) -> Path:
        path.write_bytes(sealed(name, len(self.done), size, self._rng))
        os.chown(path, self._owner.st_uid, self._owner.st_gid)
        return path


EXPECTED = {
    "missing": {"SOURCE_NOT_FOUND"},
    "locked": {"SOURCE_PERMISSION_DENIED"},
    "directory": {"SOURCE_IS_A_DIRECTORY"},
}
CHANGED = {None, "SOURCE_CHANGED", "CHECKSUM_MISMATCH", "SIZE_MISMATCH"}


@pytest.mark.parametrize("seed", seeds(6))
async def test_what_is_done_to_a_chunk_while_it_stands_still_is_told_file_by_file(
    fault_lab: FaultLab, seed: int
) -> None:
    """The copy stands still in its first file, with a window of the others asked for; every other seed is encrypted."""
    rng = random.Random(seed)
    names = ["ballast", *(a_name(number) for number in range(FILES))]
    sizes = [BALLAST_BYTES, *(rng.randrange(60_000) for _ in range(FILES))]
    fault_lab.prepare({name: sealed(name, 0, size, rng) for name, size in zip(names, sizes, strict=True)})
    meddler = Meddler(fault_lab.source, rng)
    async with fault_lab.engine(protected=True) as engine:
        protection = "encrypted" if seed % 2 else "clear"
        copying = asyncio.create_task(copied(engine, chunk(names, size_bytes=30_000, protection=protection)))
        async with stopped_in_the_first_file(fault_lab.sites[1], fault_lab.destination):
            for name in rng.sample(names[1:], INJECTIONS):
                meddler.meddle(name, rng.choice(Meddler.KINDS))
        came = await copying
    assert (came.problem, came.died) == (None, None)
    reasons = {names[index]: reason for index, reason in came.reasons.items()}
    assert set(reasons) == set(names), "the outcome of each file is known"
    # A directory takes the file's place a moment after that has gone.
    expected = EXPECTED | {"directory": {"SOURCE_IS_A_DIRECTORY", "SOURCE_NOT_FOUND"}}
    wrong = {
        name: (kind, reasons[name])
        for name, kind in meddler.done.items()
        if reasons[name] not in expected.get(kind, CHANGED)
    }
    assert wrong == {}
    assert {name: why for name, why in reasons.items() if why and name not in meddler.done} == {}
    await assert_own(fault_lab.destination, names, came)


@contextmanager
def meddling(rng: random.Random, names: list[str], meddle: Callable[[str], None]) -> Iterator[None]:
    """Meddles with one file after the other while something else is done."""
    over = threading.Event()

    def work() -> None:
        for name in rng.sample(names, len(names)):
            if over.wait(rng.random() * 0.004):
                return
            meddle(name)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("seed", seeds(4))
async def test_a_file_never_gets_its_neighbours_bytes(fault_lab: FaultLab, seed: int) -> None:
    """Files are meddled with while the chunk goes on, in an order of which the engine knows nothing."""
    rng = random.Random(seed)
    names = [a_name(number) for number in range(FILES)]
    fault_lab.prepare({name: sealed(name, 0, rng.randrange(60_000), rng) for name in names})
    meddler = Meddler(fault_lab.source, rng)
    async with fault_lab.engine() as engine:
        with meddling(rng, names, lambda name: meddler.meddle(name, rng.choice(Meddler.KINDS))):
            came = await copied(engine, chunk(names, size_bytes=30_000))
    assert (came.problem, came.died) == (None, None)
    assert sorted(came.reasons) == list(range(FILES)), "the outcome of each file is known"
    assert any(came.reasons.values())
    await assert_own(fault_lab.destination, names, came)


@pytest.mark.parametrize("seed", seeds(3))
async def test_files_that_were_never_there_cost_no_other_file(fault_lab: FaultLab, seed: int) -> None:
    rng = random.Random(seed)
    names = [a_name(number) for number in range(FILES)]
    fault_lab.prepare({name: sealed(name, 0, rng.randrange(60_000), rng) for name in names})
    meddler = Meddler(fault_lab.source, rng)
    for name in rng.sample(names, 30):
        meddler.meddle(name, rng.choice(("missing", "locked", "directory")))
    came = await fault_lab.copy(chunk(names, size_bytes=30_000))
    reasons = {names[index]: {reason} for index, reason in came.reasons.items() if reason}
    assert reasons == {name: EXPECTED[kind] for name, kind in meddler.done.items()}
    await assert_own(fault_lab.destination, names, came)


async def assert_own(destination: Path, names: list[str], came: Came) -> None:
    """Fails where a file has bytes that are not its own, or something is there that should not be."""
    await no_temporaries(destination)
    there = sorted(names[index] for index, reason in came.reasons.items() if reason is None)
    assert names_in(destination) == there
    foreign = [name for name in there if not is_own(name, (destination / name).read_bytes())]
    assert foreign == []
