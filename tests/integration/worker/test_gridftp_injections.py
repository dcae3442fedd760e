"""Sources that vanish, change, or may not be read any more while a pipelined copy is under way: whatever comes of a file,
no other file's bytes ever stand under its name, and nothing unfinished is left.

Each file says in its own bytes which file it is, and whether it is whole.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import EngineRig, in_order, names_in, run
from wherry_worker.engine.messages import CopyFiles, CopyItem, ItemDone

pytestmark = [
    pytest.mark.row("T14", missing="other doors"),
    pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True),
]

FILES = 150
ROUNDS = 4


def sealed(name: str, version: int, size: int) -> bytes:
    """The bytes of a file that tell which one it is."""
    body = f"{name} {version} ".encode() + os.urandom(size)
    return body + hashlib.sha256(body).hexdigest().encode()


def is_own(name: str, content: bytes) -> bool:
    """Whether bytes are those of the file of this name, and all of them."""
    body, seal = content[:-64], content[-64:]
    return hashlib.sha256(body).hexdigest().encode() == seal and body.split(b" ", 1)[0] == name.encode()


@contextmanager
def meddling(rng: random.Random, names: list[str], meddle: Callable[[str], None]) -> Iterator[list[str]]:
    """Meddles with one file after the other while something else is done."""
    over = threading.Event()
    done: list[str] = []

    def work() -> None:
        while not over.is_set():
            name = rng.choice(names)
            meddle(name)
            done.append(name)
            over.wait(rng.random() * 0.004)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_file_never_gets_its_neighbours_bytes(rig: EngineRig, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"f{number:04}" for number in range(FILES)]
    for name in names:
        (rig.source / name).write_bytes(sealed(name, 0, rng.randrange(60_000)))
    rig.own()
    owner = (rig.source / names[0]).stat()

    def meddle(name: str) -> None:
        path, other = rig.source / name, rig.source / f".{name}.new"
        match rng.randrange(4):
            case 0:
                path.unlink(missing_ok=True)
            case 1 if path.exists():
                path.chmod(0)
            case _:
                other.write_bytes(sealed(name, rng.randrange(1000), rng.randrange(60_000)))
                os.chown(other, owner.st_uid, owner.st_gid)
                other.replace(path)

    items = tuple(CopyItem(number, name, name, 30_000) for number, name in enumerate(names))
    with meddling(rng, names, meddle) as meddled:
        async with rig.open() as engine:
            done = in_order(await run(engine, CopyFiles("job.7", 1, "/", "/", items), within_s=120))
    assert len(meddled) > 30
    assert [item.index for item in done] == list(range(FILES)), "the outcome of each file is known"
    _assert_own(rig.destination, names, done)
    assert any(item.problem for item in done)
    assert any(not item.problem for item in done)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_files_that_were_never_there_cost_no_other_file(rig: EngineRig, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"f{number:04}" for number in range(FILES)]
    missing, locked = set(rng.sample(names, 12)), set(rng.sample(names, 12))
    for name in names:
        if name not in missing:
            (rig.source / name).write_bytes(sealed(name, 0, rng.randrange(60_000)))
    rig.own()
    for name in locked - missing:
        os.chown(rig.source / name, 0, 0)
        (rig.source / name).chmod(0o600)
    items = tuple(CopyItem(number, name, name, 30_000) for number, name in enumerate(names))
    async with rig.open() as engine:
        done = in_order(await run(engine, CopyFiles("job.7", 1, "/", "/", items), within_s=120))
    reasons = {names[item.index]: item.problem.reason for item in done if item.problem}
    expected = dict.fromkeys(missing, "SOURCE_NOT_FOUND") | dict.fromkeys(locked - missing, "SOURCE_PERMISSION_DENIED")
    assert reasons == expected
    _assert_own(rig.destination, names, done)


def _assert_own(destination: Path, names: list[str], done: list[ItemDone]) -> None:
    """Fails where a file has bytes that are not its own, or something is there that should not be."""
    there = sorted(names[item.index] for item in done if item.problem is None)
    deadline = time.monotonic() + 5
    while names_in(destination) != there and time.monotonic() < deadline:
        time.sleep(0.1)  # a server may take its time to notice that a connection has ended
    assert names_in(destination) == there
    foreign = [name for name in there if not is_own(name, (destination / name).read_bytes())]
    assert foreign == []
