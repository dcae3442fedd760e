"""S6: the real queue's tokens at the real site service: a credential for a live lease, else none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wherry.queue.v1 import lease_service_pb2
from wherry.site.v1 import site_service_pb2, site_service_pb2_grpc
from wherry_client import Client
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_files import SECOND_WORKER
from wherry_testing.queue_service import TestWorker
from wherry_testing.refusals import refused
from wherry_testing.running_copies import Folders

pytestmark = pytest.mark.row("S6")

LEEWAY_S = 5.0
"""What the site service allows the queue's clock to differ."""


class Centre:
    """The deployment's services as the hosts of the deployment reach them."""

    def __init__(self, deployment: RealDeployment) -> None:
        self._deployment = deployment

    def channel(self, host: str, service: str) -> grpc.aio.Channel:
        """Returns a channel to a service for the bearer of a host's certificate."""
        ca, chain, key = self._deployment.certificate(host)
        section = getattr(self._deployment.buildout.service, service)
        return grpc.aio.secure_channel(section.addresses[0], grpc.ssl_channel_credentials(ca, key, chain))

    @contextlib.asynccontextmanager
    async def worker(self, name: str) -> AsyncIterator[TestWorker]:
        """Opens a worker's stream at the queue, with the deployment's first worker's certificate."""
        async with self.channel("worker", "queue") as channel:
            worker = await TestWorker(channel, name).open(interactive=0)
            try:
                yield worker
            finally:
                await worker.leave()

    async def fetch(self, token: str, host: str = "worker") -> site_service_pb2.FetchCredentialsResponse:
        """Asks the site service for what a lease token opens."""
        async with self.channel(host, "site") as channel:
            stub = site_service_pb2_grpc.CredentialServiceStub(channel)
            request = site_service_pb2.FetchCredentialsRequest(lease_token=token)
            answer: site_service_pb2.FetchCredentialsResponse = await stub.FetchCredentials(request, timeout=10)
            return answer


@pytest.fixture
def centre(small: RealDeployment) -> Centre:
    return Centre(small)


@pytest.fixture
async def leased(
    centre: Centre, small_client: Client, fresh_folders: Callable[[], Folders]
) -> AsyncIterator[lease_service_pb2.Lease]:
    """A live lease of a copy's first task, given by the real queue to the deployment's first worker."""
    async with centre.worker("first") as worker:
        folders = fresh_folders()
        job = await asyncio.to_thread(folders.start, small_client)
        yield await worker.lease()
        await asyncio.to_thread(small_client.jobs.cancel, job.name)


async def test_a_worker_with_a_live_lease_gets_a_credential_for_each_site(
    centre: Centre, leased: lease_service_pb2.Lease
) -> None:
    answer = await centre.fetch(leased.lease_token)
    assert [site.site for site in answer.sites] == ["sites/site-a", "sites/site-b"]
    assert all(b"PRIVATE KEY" in site.proxy_pem for site in answer.sites)


@pytest.mark.parametrize("token", ["a.b.c", "e30.e30.", "not a token at all"])
async def test_a_worker_without_a_lease_gets_no_credential(centre: Centre, token: str) -> None:
    with refused("PERMISSION_DENIED", "LEASE_TOKEN_INVALID"):
        await centre.fetch(token)


async def test_the_token_of_another_worker_opens_nothing(centre: Centre, leased: lease_service_pb2.Lease) -> None:
    with refused("PERMISSION_DENIED", "LEASE_TOKEN_INVALID"):
        await centre.fetch(leased.lease_token, SECOND_WORKER)


@pytest.mark.parametrize("host", ["gateway", "queue", "operator", "user"])
async def test_whoever_is_no_worker_gets_nothing_with_a_workers_token(
    centre: Centre, leased: lease_service_pb2.Lease, host: str
) -> None:
    with refused("PERMISSION_DENIED", "ACCESS_DENIED"):
        await centre.fetch(leased.lease_token, host)


@pytest.mark.parametrize("algorithm", ["EdDSA", "none"])
async def test_a_forged_token_opens_nothing(centre: Centre, leased: lease_service_pb2.Lease, algorithm: str) -> None:
    claims = jwt.decode(leased.lease_token, options={"verify_signature": False})
    headers = {"kid": jwt.get_unverified_header(leased.lease_token)["kid"]}
    key = Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ""
    forged = jwt.encode(claims, key, algorithm=algorithm, headers=headers)
    with refused("PERMISSION_DENIED", "LEASE_TOKEN_INVALID"):
        await centre.fetch(forged)


async def test_a_token_opens_nothing_once_a_newer_lease_of_its_task_was_seen(
    centre: Centre, small_client: Client, fresh_folders: Callable[[], Folders]
) -> None:
    async with centre.worker("first") as worker:
        job = await asyncio.to_thread(fresh_folders().start, small_client)
        first = await worker.lease()
        await worker.settle(first, lease_service_pb2.OUTCOME_RETURNED)
        second = await worker.lease()
        assert (second.lease.task, second.lease.fence) == (first.lease.task, first.lease.fence + 1)
        assert (await centre.fetch(first.lease_token)).sites, "until the newer one is seen the older is as good"
        assert (await centre.fetch(second.lease_token)).sites
        with refused("PERMISSION_DENIED", "LEASE_SUPERSEDED"):
            await centre.fetch(first.lease_token)
        await asyncio.to_thread(small_client.jobs.cancel, job.name)


async def test_a_token_opens_nothing_after_the_deadline(
    small: RealDeployment, centre: Centre, leased: lease_service_pb2.Lease
) -> None:
    ends_s = jwt.decode(leased.lease_token, options={"verify_signature": False})["exp"]
    assert ends_s <= time.time() + small.buildout.lease.ttl_s
    await asyncio.sleep(max(0.0, ends_s + LEEWAY_S - time.time()))
    with refused("PERMISSION_DENIED", "LEASE_TOKEN_INVALID"):
        await centre.fetch(leased.lease_token)
