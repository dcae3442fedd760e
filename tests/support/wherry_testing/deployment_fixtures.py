"""Fixtures with whole deployments; the root conftest loads them by ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wherry_deploy.deployment import SERVICES
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.postgres import PostgresServer
from wherry_testing.sites import RealSite


@pytest.fixture(scope="session")
def deployment(
    two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealDeployment]:
    """The session's deployment, on SQLite, with two workers: nothing of it may be killed or changed."""
    # Leases that no machine under load loses.
    settings = {"lease": "ttl_s = 20\nheartbeat_s = 3\nback_off_s = 0.5"}
    with RealDeployment(tmp_path_factory.mktemp("deployment") / "centre", settings=settings, workers=2) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def replicated(
    two_sites: tuple[RealSite, RealSite], postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealDeployment]:
    """A deployment on PostgreSQL with two replicas of each service and two workers; tests stop and start its parts."""
    databases = {service: postgres_server.fresh() for service in SERVICES}
    settings = {"lease": "ttl_s = 10\nheartbeat_s = 2\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("replicated") / "centre"
    with RealDeployment(folder, databases=databases, settings=settings, workers=2, replicas=2) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def alice(deployment: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Person:
    """Somebody who is signed in at Wherry, at site-a as alice and at site-b as bob, and owns both there."""
    return deployment.sign_in_at_both(deployment.person("alice@example.org"), two_sites)
