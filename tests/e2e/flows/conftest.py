"""The flows between the services, each with its caller at one replica of the queue and its worker at another, and with
answers that are lost after they were meant."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from wherry_testing.deployment import Person
from wherry_testing.flow_callers import ReplicaCaller, copy_of
from wherry_testing.flows import FlowDeployment
from wherry_testing.leaving import Leaver, leave
from wherry_testing.postgres import PostgresServer
from wherry_testing.sites import RealSite

_SERVICES = ("user", "site", "queue")


@pytest.fixture(scope="package")
def flow(
    two_sites: tuple[RealSite, RealSite], postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowDeployment]:
    databases = {service: postgres_server.fresh() for service in _SERVICES}
    with FlowDeployment(tmp_path_factory.mktemp("flows") / "centre", databases) as flow:
        yield flow


@pytest.fixture(scope="package")
def alice(flow: FlowDeployment, two_sites: tuple[RealSite, RealSite]) -> Person:
    """Somebody who is signed in at both sites."""
    return flow.sign_in_at_both(flow.person("alice@example.org"), two_sites)


@pytest.fixture(scope="package")
def first(flow: FlowDeployment, alice: Person) -> Iterator[ReplicaCaller]:
    """Alice at the first replica of the queue."""
    with flow.caller(alice, at=0) as caller:
        yield caller


@pytest.fixture(scope="package")
def second(flow: FlowDeployment, alice: Person) -> Iterator[ReplicaCaller]:
    """Alice at the second replica of the queue."""
    with flow.caller(alice, at=1) as caller:
        yield caller


@pytest.fixture(scope="package")
def synthetic() -> Callable[[str], str]:
    """Returns a path of a tree, as `2x1x500`, that only pretending workers know, and no two jobs have in common."""
    return lambda shape: f"/synthetic/{shape}-{secrets.token_hex(4)}"


@pytest.fixture(scope="package")
def leaver(flow: FlowDeployment, two_sites: tuple[RealSite, RealSite], synthetic: Callable[[str], str]) -> Leaver:
    """Somebody who deleted their account while the queue was dead."""
    return leave(flow, two_sites, copy_of(synthetic("0x0x5"), synthetic("0x0x0")))


@pytest.fixture(scope="package", autouse=True)
def what_takes_a_minute(request: pytest.FixtureRequest) -> None:
    """Has the deletion begin before all else, where it is asked for: its followers wait for a minute to confirm it."""
    if any("leaver" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("leaver")
