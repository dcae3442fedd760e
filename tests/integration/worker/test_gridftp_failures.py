"""Failures as real GridFTP servers make them, each explained by the table."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import EngineRig, copy, copy_with, failure, listing, names_in, run
from wherry_testing.engine_faults import expired
from wherry_testing.sites import RealSite, free_ports
from wherry_testing.worker_sites import plan_between, site_access
from wherry_worker.access import SiteAccess
from wherry_worker.engine.messages import CopyFiles, CopyItem, ItemDone, MakeDirectory, Stat
from wherry_worker.engine_process import EngineCommand, EngineLimits, EngineTaskFailed
from wherry_worker.engines import EngineKey, EnginePool

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")
Between = Callable[[SiteAccess, SiteAccess], EnginePool]


def reasons(done: list[ItemDone]) -> list[str | None]:
    return [item.problem.reason if item.problem else None for item in done]


@AS_ROOT
@pytest.mark.row("T9")
async def test_what_the_user_may_not_read_or_write_is_said_and_nothing_is_left(rig: EngineRig) -> None:
    (rig.source / "open").write_bytes(b"1")
    (rig.source / "locked").write_bytes(b"2")
    rig.own()
    os.chown(rig.source / "locked", 0, 0)
    (rig.source / "locked").chmod(0o600)
    assert reasons(await copy(rig, b"open", b"locked")) == [None, "SOURCE_PERMISSION_DENIED"]
    assert names_in(rig.destination) == ["open"]
    (rig.source / "another").write_bytes(b"3")
    rig.own()
    os.chown(rig.destination, 0, 0)
    rig.destination.chmod(0o755)
    assert reasons(await copy(rig, b"another")) == ["DESTINATION_PERMISSION_DENIED"]
    async with rig.open() as engine:
        assert await failure(engine, MakeDirectory("destination", "/d")) == "DESTINATION_PERMISSION_DENIED"
    assert names_in(rig.destination) == ["open"]


async def test_a_missing_destination_directory_is_the_destinations(rig: EngineRig) -> None:
    (rig.source / "file").write_bytes(b"1")
    rig.own()
    async with rig.open() as engine:
        done = await run(engine, CopyFiles("job.1", 1, "/", "/nowhere", (CopyItem(0, "file", "file"),)))
    assert reasons([item for item in done if isinstance(item, ItemDone)]) == ["DESTINATION_NOT_FOUND"]


async def test_a_name_that_is_too_long_is_said(rig: EngineRig) -> None:
    async with rig.open() as engine:
        assert await failure(engine, Stat("destination", "/" + "x" * 256)) == "DESTINATION_NAME_TOO_LONG"


@pytest.fixture
async def pools(tmp_path: Path) -> AsyncIterator[Callable[[], EnginePool]]:
    made: list[EnginePool] = []

    def make() -> EnginePool:
        folder = tmp_path / f"engines-{len(made)}"
        folder.mkdir()
        made.append(EnginePool(folder, EngineCommand(), EngineLimits()))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


Sites = tuple[RealSite, RealSite]


Outcome = Callable[[SiteAccess, SiteAccess], Awaitable[str | None]]


@pytest.fixture
def outcome(pools: Callable[[], EnginePool], driver: str) -> Outcome:
    """The reason for which a copy of one file fails, as a whole or for the file."""
    return lambda source, destination: _outcome(pools(), source, destination, driver)


@pytest.fixture(params=["pipelined", "gfal2"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each of the engines, where it does not matter what does the listings."""
    return str(request.param)


async def _outcome(pool: EnginePool, source: SiteAccess, destination: SiteAccess, driver: str) -> str | None:
    plan = plan_between(source, destination, driver)
    async with pool.engine(EngineKey("users/1", source.site, destination.site), plan) as engine:
        try:
            (reason,) = reasons(await copy_with(engine, b"file"))
        except EngineTaskFailed as failed:
            return failed.problem.reason
    return reason


@pytest.fixture
def accesses(
    two_sites: Sites, credentials: tuple[Path, Path], folders: tuple[Path, Path]
) -> tuple[SiteAccess, SiteAccess]:
    (folders[0] / "file").write_bytes(b"1")
    two_sites[0].own("alice")
    return (
        site_access(two_sites[0], "alice", credentials[0], below="work"),
        site_access(two_sites[1], "bob", credentials[1], below="work"),
    )


@pytest.mark.row("B1")
async def test_two_sites_that_share_no_authority_copy_directly_each_side_with_its_own_credential(
    two_sites: Sites,
    accesses: tuple[SiteAccess, SiteAccess],
    folders: tuple[Path, Path],
    outcome: Outcome,
) -> None:
    shared = {path.name for path in two_sites[0].trust_dir.iterdir()} & {
        p.name for p in two_sites[1].trust_dir.iterdir()
    }
    assert shared == set()
    assert not set(accesses[0].authorities) & set(accesses[1].authorities)
    assert await outcome(*accesses) is None
    assert (folders[1] / "file").read_bytes() == b"1"


@pytest.mark.row("B1")
@pytest.mark.row("T14")
async def test_one_sites_credential_opens_nothing_at_the_other(
    accesses: tuple[SiteAccess, SiteAccess], outcome: Outcome
) -> None:
    source, destination = accesses
    swapped = replace(source, proxy_pem=destination.proxy_pem)
    assert await outcome(swapped, destination) == "SOURCE_REFUSED_IDENTITY"
    other = replace(destination, proxy_pem=source.proxy_pem)
    assert await outcome(source, other) == "DESTINATION_REFUSED_IDENTITY"


@pytest.mark.row("T14")
@pytest.mark.row("T23", missing="gsiftp alone")
async def test_a_credential_that_has_run_out_is_said_for_its_side(
    accesses: tuple[SiteAccess, SiteAccess], credentials: tuple[Path, Path], outcome: Outcome
) -> None:
    source, destination = accesses
    over = replace(source, proxy_pem=expired(credentials[0]))
    assert await outcome(over, destination) == "SOURCE_SESSION_EXPIRED"
    other = replace(destination, proxy_pem=expired(credentials[1]))
    assert await outcome(source, other) == "DESTINATION_SESSION_EXPIRED"


@pytest.mark.row("B1")
async def test_one_sites_authority_cannot_speak_for_the_others_host(
    accesses: tuple[SiteAccess, SiteAccess], outcome: Outcome
) -> None:
    """The engine's libraries know both sites' CAs; the door is believed by its own site's alone."""
    source, destination = accesses
    impostor = replace(source, authorities=destination.authorities)
    assert await outcome(impostor, destination) == "SOURCE_NOT_TRUSTED"
    other = replace(destination, authorities=source.authorities)
    assert await outcome(source, other) == "DESTINATION_NOT_TRUSTED"


async def test_a_server_under_another_name_is_refused(
    accesses: tuple[SiteAccess, SiteAccess], outcome: Outcome
) -> None:
    source, destination = accesses
    by_address = replace(destination, endpoints=(replace(destination.endpoints[0], host="127.0.0.2"),))
    assert await outcome(source, by_address) == "DESTINATION_WRONG_HOST"


async def test_a_server_that_is_down_or_has_no_address_is_said_for_its_side(
    accesses: tuple[SiteAccess, SiteAccess], outcome: Outcome
) -> None:
    source, destination = accesses
    (port,) = free_ports(1)
    down = replace(destination, endpoints=(replace(destination.endpoints[0], port=port),))
    assert await outcome(source, down) == "DESTINATION_UNREACHABLE"
    nowhere = replace(source, endpoints=(replace(source.endpoints[0], host="no-such-host.invalid"),))
    assert await outcome(nowhere, destination) == "SOURCE_HOST_UNKNOWN"


async def test_a_server_that_restarts_is_found_again_by_a_warm_engine(
    two_sites: Sites, accesses: tuple[SiteAccess, SiteAccess], pools: Callable[[], EnginePool], driver: str
) -> None:
    source, destination = accesses
    pool = pools()
    key, plan = EngineKey("users/1", source.site, destination.site), plan_between(source, destination, driver)
    async with pool.engine(key, plan) as engine:
        assert len(await listing(engine)) == 1
    two_sites[0].restart()
    async with pool.engine(key, plan) as engine:
        assert len(await listing(engine)) == 1
    assert pool.started == 1
