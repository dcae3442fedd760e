"""Destinations that are full, locked, taken by somebody else meanwhile, or keep other bytes than they were sent."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import names_in
from wherry_testing.engine_faults import (
    BALLAST_BYTES,
    FaultLab,
    assert_nothing_lost,
    chunk,
    copied,
    no_temporaries,
    sealed,
    stopped_in_the_first_file,
    temporaries,
    written_bytes,
)
from wherry_testing.sites import RealSite
from wherry_testing.waiting import until
from wherry_testing.worker_sites import fresh_folder, plan_between, site_access

PIPELINED = pytest.mark.parametrize("engine_name", ["pipelined"], indirect=True)
BOTH = pytest.mark.parametrize("engine_name", ["pipelined", "gfal2"], indirect=True)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files and mounts need root")


@PIPELINED
@pytest.mark.row("J8")
async def test_what_appears_at_the_destination_meanwhile_is_not_replaced(fault_lab: FaultLab) -> None:
    rng = random.Random(1)
    names = ["ballast", "small"]
    contents = {"ballast": sealed("ballast", 0, BALLAST_BYTES, rng), "small": sealed("small", 0, 10, rng)}
    fault_lab.prepare(contents)
    async with fault_lab.engine() as engine:
        copying = asyncio.create_task(copied(engine, chunk(names)))
        async with stopped_in_the_first_file(fault_lab.sites[1], fault_lab.destination):
            (fault_lab.destination / "ballast").write_bytes(b"somebody else's")
            fault_lab.own()
        came = await copying
    assert came.reasons == {0: "DESTINATION_EXISTS", 1: None}
    assert_nothing_lost(fault_lab.destination, names, came, contents, {"ballast": b"somebody else's"})
    await no_temporaries(fault_lab.destination)


@AS_ROOT
@PIPELINED
@pytest.mark.row("T9")
async def test_a_destination_that_is_locked_meanwhile_is_told_and_keeps_its_old_files(fault_lab: FaultLab) -> None:
    rng = random.Random(2)
    names = ["ballast", *(f"f{number}" for number in range(8))]
    contents = {name: sealed(name, 0, BALLAST_BYTES if name == "ballast" else 500, rng) for name in names}
    old = {"f3": b"as it was"}
    fault_lab.prepare(contents, old)
    owner = fault_lab.destination.stat()
    async with fault_lab.engine() as engine:
        copying = asyncio.create_task(copied(engine, chunk(names, overwrite="always")))
        async with stopped_in_the_first_file(fault_lab.sites[1], fault_lab.destination):
            os.chown(fault_lab.destination, 0, 0)
            fault_lab.destination.chmod(0o755)
        came = await copying
    assert came.why == {"DESTINATION_PERMISSION_DENIED"}
    assert len(came.done) == len(names)
    assert_nothing_lost(fault_lab.destination, names, came, contents, old)
    os.chown(fault_lab.destination, owner.st_uid, owner.st_gid)
    await fault_lab.clear()  # nobody could remove it before
    await no_temporaries(fault_lab.destination)


@pytest.fixture(scope="module")
def full_site() -> Iterator[RealSite]:
    """A site whose user Bob has 24 MiB for all files."""
    site = RealSite("site-full")
    site.install()
    data = site.data_dir("bob")
    owner = data.stat()
    options = f"size=24m,mode=0755,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(data)], check=True)
    try:
        site.start()
        yield site
    finally:
        site.stop()
        subprocess.run(["umount", str(data)], check=False)
        shutil.rmtree(site.folder)


@AS_ROOT
@BOTH
@pytest.mark.row("T23", missing="gsiftp alone")
async def test_a_full_disk_ends_the_chunk_and_everything_before_is_as_it_should_be(
    two_sites: tuple[RealSite, RealSite],
    credentials: tuple[Path, Path],
    folders: tuple[Path, Path],
    full_site: RealSite,
    engine_name: str,
    tmp_path: Path,
) -> None:
    there = fresh_folder(full_site, "bob", "work")
    plan = plan_between(
        site_access(two_sites[0], "alice", credentials[0], below="work"),
        site_access(full_site, "bob", full_site.sign_in("bob", tmp_path / "bob.pem"), below="work"),
        engine_name,
    )
    lab = FaultLab((two_sites[0], full_site), folders[0], there, plan, tmp_path)
    rng = random.Random(3)
    names = [f"f{number}" for number in range(8)]
    contents = {name: sealed(name, 0, 5 << 20, rng) for name in names}
    old = {"f6": b"as it was"}
    lab.prepare(contents, old)
    came = await lab.copy(chunk(names, overwrite="always", size_bytes=5 << 20))
    assert came.problem is not None
    assert (came.problem.reason, came.problem.party) == ("DESTINATION_FULL", "destination_site")
    assert set(came.reasons.values()) <= {None}
    assert_nothing_lost(there, names, came, contents, old)
    await no_temporaries(there)
    for path in there.iterdir():
        path.unlink()


@PIPELINED
@pytest.mark.row("J9")
@pytest.mark.row("D10")
async def test_bytes_that_change_at_the_destination_before_they_are_verified_are_caught(fault_lab: FaultLab) -> None:
    rng = random.Random(4)
    names = ["large", "small"]
    old = {"large": b"as it was"}
    fault_lab.prepare({"small": sealed("small", 0, 10, rng)}, old)
    with (fault_lab.source / "large").open("wb") as file:
        file.truncate(1 << 30)
    fault_lab.own()
    async with fault_lab.engine() as engine:
        copying = asyncio.create_task(copied(engine, chunk(names, overwrite="always", size_bytes=1 << 29)))
        await until(lambda: written_bytes(fault_lab.destination) > 64 << 20, within_s=60)
        (temporary,) = [path for path in temporaries(fault_lab.destination) if path.stat().st_size > 64 << 20]
        with temporary.open("r+b") as file:  # its first bytes are written and not yet read again
            file.seek(1000)
            file.write(b"\x01")
        came = await copying
    assert came.reasons == {0: "CHECKSUM_MISMATCH", 1: None}
    assert (fault_lab.destination / "large").read_bytes() == b"as it was"
    assert (fault_lab.destination / "small").read_bytes() == (fault_lab.source / "small").read_bytes()
    assert names_in(fault_lab.destination) == names
