"""Deployments whose processes are killed; their leases lapse within seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wherry_client import Client
from wherry_deploy.deployment import SERVICES
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.postgres import PostgresServer
from wherry_testing.sites import RealSite


@pytest.fixture(scope="package")
def breakable(
    two_sites: tuple[RealSite, RealSite],
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RealDeployment]:
    """A deployment on PostgreSQL."""
    databases = {service: postgres_server.fresh() for service in SERVICES}
    settings = {"lease": "ttl_s = 8\nheartbeat_s = 0.8\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("breakable") / "centre"
    with RealDeployment(folder, databases=databases, settings=settings, workers=2) as deployment:
        yield deployment


@pytest.fixture(scope="package")
def person_there(breakable: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Person:
    """Somebody who is signed in at the breakable deployment and, through it, at both sites."""
    return breakable.sign_in_at_both(breakable.person("alice@example.org"), two_sites)


@pytest.fixture(scope="package")
def client_there(person_there: Person) -> Iterator[Client]:
    """Their client."""
    with person_there.wherry.client() as client:
        yield client


@pytest.fixture(scope="package")
def small(two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDeployment]:
    """A deployment on SQLite without workers, for tests that bring their own."""
    settings = {"lease": "ttl_s = 8\nheartbeat_s = 0.8\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("small") / "centre"
    with RealDeployment(folder, settings=settings, workers=0) as deployment:
        yield deployment


@pytest.fixture(scope="package")
def small_client(small: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Iterator[Client]:
    """The client of somebody who is signed in there and at both sites."""
    person = small.sign_in_at_both(small.person("alice@example.org"), two_sites)
    with person.wherry.client() as client:
        yield client
