"""The second profile: two replicas of each service on PostgreSQL behind Envoy. Callers do not notice which answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client, RemotePath
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import wait_until
from wherry_testing.running_copies import Folders, ended, same_trees, write_many
from wherry_testing.sites import RealSite

_SERVICES = ("user", "site", "queue")
REVOKED_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def client(replicated: RealDeployment, two_sites: tuple[RealSite, RealSite]) -> Iterator[Client]:
    person = replicated.sign_in_at_both(replicated.person("alice@example.org"), two_sites)
    with person.wherry.client() as client:
        yield client


@pytest.mark.row("O1", missing="MariaDB")
def test_every_replica_answers_calls_in_turn(replicated: RealDeployment, client: Client) -> None:
    for _ in range(40):
        client.accounts.me()
        list(client.sites.all())
        next(client.jobs.all(), None)
    for service in _SERVICES:
        for replica in (0, 1):
            assert replicated.service(service, replica).events("rpc"), (service, replica)


@pytest.mark.row("V25", missing="every screen there will be")
def test_a_replica_of_each_service_may_be_killed_and_no_call_fails(
    replicated: RealDeployment, client: Client, fresh_folders: Callable[[], Folders]
) -> None:
    folders = fresh_folders()
    write_many(folders.source, 12)
    folders.source_site.own("alice")
    job = folders.start(client)
    for service in _SERVICES:
        replicated.service(service, 0).kill()
    try:
        assert client.accounts.me().email == "alice@example.org"
        assert {site.name for site in client.sites.all()} == {"sites/site-a", "sites/site-b"}
        names = [entry.name for entry in client.files.entries(RemotePath("site-a", folders.source.name.encode()))]
        assert len(names) == 12
        assert ended(client, job.name).state == pb.JOB_STATE_SUCCEEDED
    finally:
        for service in _SERVICES:
            replicated.start_service(service, 0)
    assert same_trees(folders.source, folders.destination / "data")


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.row("D15")
def test_a_sign_out_is_known_to_every_replica(replicated: RealDeployment) -> None:
    person = replicated.person("leaving@example.org")
    token = str(person.tokens()["access_token"])
    assert _statuses(replicated, token) == {200}
    with person.wherry.client() as client:
        client.accounts.sign_out()
    wait_until(lambda: _statuses(replicated, token) == {401}, "every replica refuses it", REVOKED_WITHIN_S, 0.1)


def _statuses(replicated: RealDeployment, token: str) -> set[int]:
    """Asks every service several times; returns the HTTP statuses."""
    headers = {"authorization": f"Bearer {token}"}
    with contextlib.closing(replicated.https()) as caller:
        return {
            caller.json("GET", path, headers=headers).http_status
            for path in ("/v1/users/me", "/v1/sites", "/v1/jobs")
            for _ in range(4)
        }
