"""A site service over mutual TLS, with two real sites to register."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry_chassis import migrations
from wherry_testing.pki import TestPki
from wherry_testing.site_service import SiteServiceUnderTest, running_site_service
from wherry_testing.sites import RealSite

ALICE, BOB = "users/alice", "users/bob"


class Centre:
    """The running service, with stubs for each role."""

    def __init__(self, service: SiteServiceUnderTest, client: grpc.aio.Channel, worker: grpc.aio.Channel) -> None:
        self.service = service
        self.sites: Any = stubs.SiteServiceStub(client)
        self.sessions: Any = stubs.SiteSessionServiceStub(client)
        self.credentials: Any = stubs.CredentialServiceStub(worker)

    def as_user(self, user: str = ALICE) -> dict[str, Any]:
        return {"metadata": self.service.as_user(user), "timeout": 20}

    async def register(self, real: RealSite, *, owner: str = ALICE, public: bool = True) -> pb.Site:
        request = pb.CreateSiteRequest(site_id=real.name, site=site_of(real, public=public))
        site: pb.Site = await self.sites.CreateSite(request, **self.as_user(owner))
        return site

    async def sign_in(
        self, real: RealSite, *, user: str = ALICE, account: str = "alice", password: str | None = None
    ) -> pb.SiteSession:
        request = pb.CreateSiteSessionRequest(
            parent="users/me",
            site=f"sites/{real.name}",
            username=account,
            password=real.accounts[account] if password is None else password,
        )
        session: pb.SiteSession = await self.sessions.CreateSiteSession(request, **self.as_user(user))
        return session

    def lease(self, *sites: RealSite, worker: str = "worker", **claims: Any) -> str:
        names = [f"sites/{site.name}" for site in sites]
        thumbprint = self.service.thumbprint(worker)
        return self.service.queue.token(**({"thumbprint": thumbprint, "user": ALICE, "sites": names} | claims))

    async def fetch(self, token: str, *have: str) -> pb.FetchCredentialsResponse:
        request = pb.FetchCredentialsRequest(lease_token=token, have=have)
        answer: pb.FetchCredentialsResponse = await self.credentials.FetchCredentials(request, timeout=20)
        return answer


def site_of(real: RealSite, *, public: bool = True) -> pb.Site:
    """Returns what registering a real site says about it."""
    organisation = real.name
    return pb.Site(
        title=f"Site {real.name}",
        public=public,
        auth_kind=pb.AUTH_KIND_MYPROXY,
        auth_address=f"{real.host}:{real.myproxy_port}",
        certificate_authorities=[
            pb.CertificateAuthority(certificate_pem=real.host_ca_pem, namespaces=[f"/O={organisation}/OU=Hosts/*"]),
            pb.CertificateAuthority(certificate_pem=real.user_ca_pem, namespaces=[f"/O={organisation}/OU=Users/*"]),
        ],
        default_path="/data/{user}",
        endpoints=[pb.Endpoint(scheme="gsiftp", host=real.host, port=real.gridftp_port)],
    )


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A database with the newest schema."""
    url = f"sqlite:///{tmp_path}/site.db"
    migrations.upgrade(url, "wherry_site")
    return url


@contextlib.asynccontextmanager
async def _running(pki: TestPki, database_url: str, folder: Path) -> AsyncIterator[Centre]:
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running_site_service(pki, database_url, folder))
        client = await stack.enter_async_context(service.channel("client"))
        worker = await stack.enter_async_context(service.channel("worker"))
        yield Centre(service, client, worker)


@pytest.fixture
async def centre(pki: TestPki, database_url: str, tmp_path: Path) -> AsyncIterator[Centre]:
    """The service and its callers."""
    async with _running(pki, database_url, tmp_path) as running:
        yield running


@pytest.fixture
async def two_replicas(
    pki: TestPki, fresh_postgres: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[tuple[Centre, Centre]]:
    """Two replicas of the service, which meet in their database, and their callers."""
    url = fresh_postgres("wherry_site")
    async with _running(pki, url, tmp_path) as one, _running(pki, url, tmp_path) as other:
        yield one, other


@pytest.fixture
def reason_of() -> Callable[[grpc.aio.AioRpcError], tuple[grpc.StatusCode, str, dict[str, str], list[str]]]:
    """Reads an error: code, reason, metadata, the fields named."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    def read(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, dict[str, str], list[str]]:
        info, fields = error_details_pb2.ErrorInfo(), []
        for detail in rpc_status.from_call(cast("grpc.Call", error)).details:
            if detail.Unpack(info):
                continue
            request = error_details_pb2.BadRequest()
            if detail.Unpack(request):
                fields = [violation.field for violation in request.field_violations]
        return error.code(), info.reason, dict(info.metadata), fields

    return read
