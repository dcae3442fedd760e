"""Large files go on from where they were: after lost connections, killed engines, in another attempt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import names_in
from wherry_testing.engine_faults import (
    TAG,
    Came,
    FaultLab,
    Patience,
    chunk,
    copied,
    no_temporaries,
    sessions_of,
    temporaries,
    written_bytes,
)
from wherry_testing.sites import RealSite
from wherry_testing.waiting import until
from wherry_worker.engine.messages import LeftBehind, RemoveTemporaries
from wherry_worker.engine.temporary import parse, temporary_name

pytestmark = [pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True), pytest.mark.row("B9")]

MIB = 1 << 20
#: Files of 8 MiB and more are gone on with, and as much at the end of what is there is not believed.
SHORT = Patience(namespace_timeout_s=30, marker_timeout_s=30, checksum_timeout_s=60, resume_bytes=8 * MIB)
SIZE_BYTES = 48 * MIB
MOVING_BYTES = 500 * MIB


def put(lab: FaultLab, *names: str, size_bytes: int = SIZE_BYTES) -> list[bytes]:
    """Files of bytes that are nowhere the same; returns them."""
    contents = []
    for name in names:
        rng = random.Random(name)
        contents.append(b"".join(rng.randbytes(4 * MIB) for _ in range(size_bytes // (4 * MIB))))
    lab.prepare(dict(zip(names, contents, strict=True)))
    return contents


def leave(lab: FaultLab, content: bytes, index: int = 0, *, fence: int = 1, again: int = 0) -> Path:
    """What an earlier attempt has left of a file."""
    path = lab.destination / temporary_name(TAG, fence, index, again)
    path.write_bytes(content)
    lab.own()
    return path


async def go_on(lab: FaultLab, *names: str, fence: int = 2, size_bytes: int = SIZE_BYTES) -> Came:
    """A later attempt's copy."""
    async with lab.engine(SHORT) as engine:
        return await copied(engine, chunk(names, fence=fence, size_bytes=size_bytes, remove_stale=True))


async def test_what_another_attempt_has_left_is_taken_over_and_only_the_rest_is_sent(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large")
    left = leave(fault_lab, content[: 30 * MIB])
    inode = left.stat().st_ino
    came = await go_on(fault_lab, "large")
    assert came.reasons == {0: None}
    assert (fault_lab.destination / "large").read_bytes() == content
    assert (fault_lab.destination / "large").stat().st_ino == inode
    # The server counts what it gets from nothing: had all been sent, it would be more than there is.
    assert came.moved[0] == sorted(came.moved[0])
    assert came.moved[0][0] == (30 - 8) * MIB
    assert max(came.moved[0]) <= SIZE_BYTES
    assert not came.left_behind
    assert names_in(fault_lab.destination) == ["large"]
    await no_temporaries(fault_lab.destination)


async def test_of_what_several_have_left_the_most_is_taken_and_the_others_go(fault_lab: FaultLab) -> None:
    contents = put(fault_lab, "one", "two")
    leave(fault_lab, contents[0][: 12 * MIB], fence=1)
    most = leave(fault_lab, contents[0][: 36 * MIB], fence=2, again=3).stat().st_ino
    leave(fault_lab, contents[0][: 24 * MIB], fence=3)
    leave(fault_lab, contents[1][: 8 * MIB], index=1)  # too little to be worth a question
    leave(fault_lab, contents[1][: 20 * MIB], index=7)  # of a file that is not copied any more
    came = await go_on(fault_lab, "one", "two", fence=4)
    assert came.reasons == {0: None, 1: None}
    assert [(fault_lab.destination / name).read_bytes() for name in ("one", "two")] == contents
    assert (fault_lab.destination / "one").stat().st_ino == most
    assert (came.moved[0][0], came.moved[1][0]) == (28 * MIB, 0)
    await no_temporaries(fault_lab.destination)


@pytest.mark.parametrize("damage", ["a flipped bit", "a hole", "more than there is", "another file"])
async def test_what_is_not_of_the_file_is_thrown_away(fault_lab: FaultLab, damage: str) -> None:
    (content,) = put(fault_lab, "large")
    there = bytearray(content[: 30 * MIB])
    if damage == "a flipped bit":
        there[MIB] ^= 1
    elif damage == "a hole":
        there[5 * MIB : 6 * MIB] = bytes(MIB)
    elif damage == "more than there is":
        there = bytearray(content + b"more")
    else:
        there = bytearray(random.Random("another").randbytes(30 * MIB))
    left = leave(fault_lab, bytes(there))
    inode = left.stat().st_ino
    with left.open("rb"):  # so that the inode is not given again
        came = await go_on(fault_lab, "large")
    assert came.reasons == {0: None}
    assert (fault_lab.destination / "large").read_bytes() == content
    assert (fault_lab.destination / "large").stat().st_ino != inode
    assert came.moved[0][0] == 0
    assert max(came.moved[0]) <= SIZE_BYTES
    await no_temporaries(fault_lab.destination)


async def test_a_hole_that_parallel_streams_left_at_the_end_is_filled(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large")
    there = bytearray(content[: 40 * MIB])
    there[34 * MIB : 36 * MIB] = bytes(2 * MIB)
    leave(fault_lab, bytes(there))
    came = await go_on(fault_lab, "large")
    assert (came.reasons, came.moved[0][0]) == ({0: None}, 32 * MIB)
    assert (fault_lab.destination / "large").read_bytes() == content


async def test_a_source_that_was_changed_between_two_attempts_is_copied_as_it_is_now(fault_lab: FaultLab) -> None:
    """Its beginning has the same adler32 as before: `0.131` and `0.212`."""
    (content,) = put(fault_lab, "large")
    before, now = b"0.131" + content[5:], b"0.212" + content[5:]
    (fault_lab.source / "large").write_bytes(now)
    leave(fault_lab, before[: 30 * MIB])
    came = await go_on(fault_lab, "large")
    assert came.reasons == {0: None}
    assert (fault_lab.destination / "large").read_bytes() == now
    await no_temporaries(fault_lab.destination)


async def test_a_file_that_has_grown_is_gone_on_with(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large")
    (fault_lab.source / "large").write_bytes(content + b"#" * MIB)
    leave(fault_lab, content)
    came = await go_on(fault_lab, "large")
    assert (came.reasons, came.moved[0][0]) == ({0: None}, 40 * MIB)
    assert (fault_lab.destination / "large").read_bytes() == content + b"#" * MIB


async def test_a_link_under_such_a_name_is_nothing_to_go_on_from(fault_lab: FaultLab) -> None:
    """Somebody else may have put it there: the bytes would go into the file that it leads to."""
    (content,) = put(fault_lab, "large")
    victim = fault_lab.destination / "victim"
    victim.write_bytes(content[: 30 * MIB])
    (fault_lab.destination / temporary_name(TAG, 1, 0)).symlink_to("victim")
    fault_lab.own()
    came = await go_on(fault_lab, "large")
    assert (came.reasons, came.moved[0][0]) == ({0: None}, 0)
    assert victim.read_bytes() == content[: 30 * MIB]
    assert not (fault_lab.destination / "large").is_symlink()
    assert (fault_lab.destination / "large").read_bytes() == content
    await no_temporaries(fault_lab.destination)


async def test_what_is_there_of_files_for_later_stays_and_is_told(fault_lab: FaultLab) -> None:
    contents = put(fault_lab, "one", "two")
    leave(fault_lab, contents[1][: 30 * MIB], index=1)
    async with fault_lab.engine(SHORT) as engine:
        task = chunk(["one"], fence=1, size_bytes=SIZE_BYTES, remove_stale=True, engines_before=1, later=(1,))
        came = await copied(engine, task)
        assert (came.reasons, came.left_behind) == ({0: None}, True)
        assert [path.name for path in temporaries(fault_lab.destination)] == [temporary_name(TAG, 1, 1)]
        again = chunk(["one", "two"], fence=2, size_bytes=SIZE_BYTES, remove_stale=True)
        came = await copied(engine, replace(again, items=again.items[1:]))
    assert (came.reasons, came.left_behind, came.moved[1][0]) == ({1: None}, False, 22 * MIB)
    assert [(fault_lab.destination / name).read_bytes() for name in ("one", "two")] == contents
    await no_temporaries(fault_lab.destination)


async def test_a_copy_that_trusts_in_sizes_alone_begins_anew(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large")
    leave(fault_lab, content[: 30 * MIB])
    async with fault_lab.engine(SHORT) as engine:
        task = chunk(["large"], fence=2, size_bytes=SIZE_BYTES, remove_stale=True, verification="size")
        came = await copied(engine, task)
    assert (came.reasons, came.moved[0][0]) == ({0: None}, 0)
    assert (fault_lab.destination / "large").read_bytes() == content
    await no_temporaries(fault_lab.destination)


async def test_a_clean_up_keeps_what_can_be_gone_on_from_and_tells(fault_lab: FaultLab) -> None:
    kept = leave(fault_lab, bytes(30 * MIB), index=3, fence=2)
    leave(fault_lab, bytes(20 * MIB), index=3)
    leave(fault_lab, bytes(MIB), index=4)
    async with fault_lab.engine(SHORT) as engine:
        told = [
            m async for m in engine.run(RemoveTemporaries(TAG, 2, ("/",), True), asyncio.get_running_loop().time() + 60)
        ]
        assert told == [LeftBehind()]
        assert temporaries(fault_lab.destination) == [kept]
        told = [m async for m in engine.run(RemoveTemporaries(TAG, 2, ("/",)), asyncio.get_running_loop().time() + 60)]
    assert told == []
    assert temporaries(fault_lab.destination) == []


# --- while it moves ---


async def moving(lab: FaultLab, came: Came) -> int:
    """Returns the process that sends, stopped, once the destination has told of bytes."""
    await until(lambda: written_bytes(lab.destination) > 32 * MIB, within_s=60)
    sender = max(sessions_of(lab.sites[0]))  # the pair's connections come last
    os.kill(sender, signal.SIGSTOP)
    await until(lambda: max(came.moved.get(0, [0])) > 0, within_s=60)
    return sender


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one ends with the other
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("lost", ["the source's", "the destination's", "all"])
async def test_a_file_whose_connections_are_lost_goes_on_over_others(fault_lab: FaultLab, lost: str) -> None:
    (content,) = put(fault_lab, "large", size_bytes=MOVING_BYTES)
    came = Came()
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(["large"], size_bytes=MOVING_BYTES), 300, came))
        sender = await moving(fault_lab, came)
        there = max(came.moved[0])
        (inode,) = {path.stat().st_ino for path in temporaries(fault_lab.destination)}
        if lost == "the destination's":
            kill([max(sessions_of(fault_lab.sites[1]))])
        elif lost == "all":
            kill([*sessions_of(fault_lab.sites[0]), *sessions_of(fault_lab.sites[1])])
        if lost != "all":
            kill([sender])
        await copying
    assert came.reasons == {0: None}
    assert (fault_lab.destination / "large").stat().st_ino == inode
    assert (fault_lab.destination / "large").read_bytes() == content
    assert min(came.moved[0][came.moved[0].index(there) :]) >= there
    assert max(came.moved[0]) <= MOVING_BYTES
    assert not came.left_behind
    await no_temporaries(fault_lab.destination)


async def test_what_turns_out_to_be_wrong_is_sent_once_more_from_the_start(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large", size_bytes=MOVING_BYTES)
    came = Came()
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(["large"], size_bytes=MOVING_BYTES), 300, came))
        sender = await moving(fault_lab, came)
        (partial,) = temporaries(fault_lab.destination)
        with partial.open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        kill([sender])
        await copying
    assert came.reasons == {0: None}
    assert (fault_lab.destination / "large").read_bytes() == content
    assert came.moved[0].count(0) >= 2
    await no_temporaries(fault_lab.destination)


async def test_a_killed_engines_file_is_gone_on_with_by_the_next(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large", size_bytes=MOVING_BYTES)
    came = Came()
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(["large"], size_bytes=MOVING_BYTES), 300, came))
        await moving(fault_lab, came)
        there = max(came.moved[0])
        (inode,) = {path.stat().st_ino for path in temporaries(fault_lab.destination)}
        os.kill(engine.pid, signal.SIGKILL)
        await copying
    assert came.died == "crashed"
    again = await go_on(fault_lab, "large", size_bytes=MOVING_BYTES)
    kill([pid for pid in sessions_of(fault_lab.sites[0]) if is_stopped(pid)])
    assert again.reasons == {0: None}
    assert (fault_lab.destination / "large").stat().st_ino == inode
    assert (fault_lab.destination / "large").read_bytes() == content
    assert again.moved[0][0] >= there - 9 * MIB
    await no_temporaries(fault_lab.destination)


async def test_a_destination_that_goes_away_for_good_costs_no_byte_that_was_there(fault_lab: FaultLab) -> None:
    (content,) = put(fault_lab, "large", size_bytes=MOVING_BYTES)
    came = Came()
    site: RealSite = fault_lab.sites[1]
    async with fault_lab.engine(SHORT) as engine:
        copying = asyncio.create_task(copied(engine, chunk(["large"], size_bytes=MOVING_BYTES), 300, came))
        try:
            sender = await moving(fault_lab, came)
            there = max(came.moved[0])
            site.kill()
            kill([sender])
            await copying
        finally:
            site.start()
    assert came.problem is not None
    assert came.problem.retryable
    assert came.left_behind
    (left,) = temporaries(fault_lab.destination)
    name = parse(left.name)
    assert name is not None
    assert (name.fence, name.index) == (1, 0)
    again = await go_on(fault_lab, "large", size_bytes=MOVING_BYTES)
    assert (again.reasons, again.left_behind) == ({0: None}, False)
    assert again.moved[0][0] >= there - 9 * MIB
    assert (fault_lab.destination / "large").read_bytes() == content
    await no_temporaries(fault_lab.destination)


def is_stopped(pid: int) -> bool:
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"
