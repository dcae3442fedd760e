"""One deployment with everything, as it is meant to be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wherry_client import Client
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.sites import RealSite


@pytest.fixture(scope="package")
def deployment(
    two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealDeployment]:
    """On SQLite, with two workers: nothing of it may be killed or changed."""
    # Leases that no machine under load loses.
    settings = {"lease": "ttl_s = 20\nheartbeat_s = 3\nback_off_s = 0.5"}
    with RealDeployment(tmp_path_factory.mktemp("deployment") / "centre", settings=settings, workers=2) as deployment:
        yield deployment


@pytest.fixture(scope="package")
def alice(deployment: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Person:
    """Somebody who is signed in at Wherry, at site-a as alice and at site-b as bob, and owns both there."""
    return deployment.sign_in_at_both(deployment.person("alice@example.org"), two_sites)


@pytest.fixture(scope="package")
def alices_client(alice: Person) -> Iterator[Client]:
    """Their client."""
    with alice.wherry.client() as client:
        yield client
