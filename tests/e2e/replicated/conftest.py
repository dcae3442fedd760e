"""Two replicas of each service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wherry_deploy.deployment import SERVICES
from wherry_testing.deployment import RealDeployment
from wherry_testing.postgres import PostgresServer
from wherry_testing.sites import RealSite


@pytest.fixture(scope="package")
def replicated(
    two_sites: tuple[RealSite, RealSite], postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealDeployment]:
    """On PostgreSQL, with two workers; tests stop and start its parts."""
    databases = {service: postgres_server.fresh() for service in SERVICES}
    settings = {"lease": "ttl_s = 10\nheartbeat_s = 2\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("replicated") / "centre"
    with RealDeployment(folder, databases=databases, settings=settings, workers=2, replicas=2) as deployment:
        yield deployment
