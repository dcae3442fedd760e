"""What the end-to-end tests share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from wherry_client import Client
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.postgres import PostgresServer
from wherry_testing.running_copies import Folders
from wherry_testing.sites import RealSite

_SERVICES = ("user", "site", "queue")


@pytest.fixture(scope="session")
def fresh_folders(two_sites: tuple[RealSite, RealSite]) -> Callable[[], Folders]:
    """Makes an empty folder for a copy at each site: of alice at site-a, of bob at site-b."""
    site_a, site_b = two_sites

    def make() -> Folders:
        name = f"copy-{secrets.token_hex(4)}"
        for site, user in ((site_a, "alice"), (site_b, "bob")):
            (site.data_dir(user) / name).mkdir()
            site.own(user)
        return Folders(site_a, site_a.data_dir("alice") / name, site_b, site_b.data_dir("bob") / name)

    return make


@pytest.fixture(scope="session")
def breakable(
    two_sites: tuple[RealSite, RealSite],
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RealDeployment]:
    """A deployment on PostgreSQL whose processes tests kill; leases lapse within seconds."""
    databases = {service: postgres_server.fresh() for service in _SERVICES}
    settings = {"lease": "ttl_s = 8\nheartbeat_s = 0.8\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("breakable") / "centre"
    with RealDeployment(folder, databases=databases, settings=settings, workers=2) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def person_there(breakable: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Person:
    """Somebody who is signed in at the breakable deployment and, through it, at both sites."""
    return breakable.sign_in_at_both(breakable.person("alice@example.org"), two_sites)


@pytest.fixture(scope="session")
def client_there(person_there: Person) -> Iterator[Client]:
    """Their client."""
    with person_there.wherry.client() as client:
        yield client


@pytest.fixture(scope="session")
def small(two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDeployment]:
    """A deployment on SQLite without workers, for tests that bring their own; leases lapse within seconds."""
    settings = {"lease": "ttl_s = 8\nheartbeat_s = 0.8\nback_off_s = 0.5"}
    folder = tmp_path_factory.mktemp("small") / "centre"
    with RealDeployment(folder, settings=settings, workers=0) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def small_client(small: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Iterator[Client]:
    """The client of somebody who is signed in there and at both sites."""
    person = small.sign_in_at_both(small.person("alice@example.org"), two_sites)
    with person.wherry.client() as client:
        yield client


@pytest.fixture(scope="session")
def alices_client(alice: Person) -> Iterator[Client]:
    """The client of the session's person."""
    with alice.wherry.client() as client:
        yield client
