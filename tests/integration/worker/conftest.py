"""Credentials at the two real sites, and engines between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wherry_testing.engine_conformance import EngineRig
from wherry_testing.engine_faults import FaultLab
from wherry_testing.sites import RealSite
from wherry_testing.worker_sites import fresh_folder, plan_between, site_access
from wherry_worker.engine_process import EngineCommand, EngineLimits
from wherry_worker.engines import EngineKey, EnginePool

KEY = EngineKey("users/1", "sites/site-a", "sites/site-b")


@pytest.fixture(scope="session")
def credentials(two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Alice's credential at site A, Bob's at site B."""
    folder = tmp_path_factory.mktemp("credentials")
    site_a, site_b = two_sites
    return site_a.sign_in("alice", folder / "a.pem"), site_b.sign_in("bob", folder / "b.pem")


@pytest.fixture
def folders(two_sites: tuple[RealSite, RealSite]) -> tuple[Path, Path]:
    """An empty folder of Alice's at site A and one of Bob's at site B, which become the doors' roots."""
    site_a, site_b = two_sites
    return fresh_folder(site_a, "alice", "work"), fresh_folder(site_b, "bob", "work")


@pytest.fixture(params=["pipelined", "gfal2", "gfal2-only"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each of the engines that drive GridFTP."""
    return str(request.param)


@pytest.fixture
async def rig(
    two_sites: tuple[RealSite, RealSite],
    credentials: tuple[Path, Path],
    folders: tuple[Path, Path],
    engine_name: str,
    tmp_path: Path,
) -> AsyncIterator[EngineRig]:
    """An engine from Alice's folder at site A to Bob's at site B."""
    site_a, site_b = two_sites
    plan = plan_between(
        site_access(site_a, "alice", credentials[0], below="work"),
        site_access(site_b, "bob", credentials[1], below="work"),
        engine_name,
    )
    (tmp_path / "engines").mkdir()
    pool = EnginePool(tmp_path / "engines", EngineCommand(), EngineLimits())

    def own() -> None:
        site_a.own("alice")
        site_b.own("bob")

    own_client = engine_name != "gfal2-only"
    yield EngineRig(
        pool, plan, *folders, own, lambda: pool.engine(KEY, plan), tells_links=own_client, keeps_times=own_client
    )
    await pool.close()


@pytest.fixture
def fault_lab(
    two_sites: tuple[RealSite, RealSite],
    credentials: tuple[Path, Path],
    folders: tuple[Path, Path],
    engine_name: str,
    tmp_path: Path,
) -> FaultLab:
    """Alice's folder at site A and Bob's at site B, for copies to which something happens."""
    plan = plan_between(
        site_access(two_sites[0], "alice", credentials[0], below="work"),
        site_access(two_sites[1], "bob", credentials[1], below="work"),
        engine_name,
    )
    return FaultLab(two_sites, *folders, plan, tmp_path)
