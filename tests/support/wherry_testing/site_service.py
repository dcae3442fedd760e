"""The site service as other processes meet it: over mutual TLS, with stand-ins for the services that it asks.

async with running_site_service(pki, database_url, tmp_path) as service:
    async with service.channel("worker") as channel:
        stub = CredentialServiceStub(channel)
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry.user.v1 import user_service_pb2_grpc
from wherry_chassis.buildout import Buildout
from wherry_chassis.server import running
from wherry_fakes.token_issuers import FakeLeaseKeys, FakeUserKeys
from wherry_site.app import build
from wherry_testing.pki import TestPki

_ROLES = ("user", "queue", "worker", "client", "operator", "gateway", "site")


@dataclass
class SiteServiceUnderTest:
    """A running site service.

    Attributes:
        address: `host:port`.
        users, queue: sign the tokens that it verifies.
    """

    pki: TestPki
    address: str
    users: FakeUserKeys
    queue: FakeLeaseKeys

    def channel(self, name: str = "client") -> grpc.aio.Channel:
        """Returns a channel for the bearer of a certificate."""
        return self.pki.channel(name, self.address)

    def as_user(self, user: str, session: str = "session-1") -> Sequence[tuple[str, str]]:
        """Returns the metadata of calls of a user."""
        return [("authorization", f"Bearer {self.users.token(user, session=session)}")]

    def thumbprint(self, name: str) -> str:
        """Returns what lease tokens for the bearer of a certificate are bound to."""
        return self.pki.files(name).thumbprint


@contextlib.asynccontextmanager
async def running_site_service(
    pki: TestPki,
    database_url: str,
    folder: Path,
    *,
    allow: Sequence[str] = ("127.0.0.0/8", "::1/128"),
    user_service: str = "",
) -> AsyncIterator[SiteServiceUnderTest]:
    """Runs the service within the block; its database has to have the newest schema.

    Args:
        user_service: address of a real one, in place of the stand-in.
    """
    for role in _ROLES:
        pki.files(role)
    pki.issue("stranger", roles=())
    users, queue = FakeUserKeys(), FakeLeaseKeys()
    async with contextlib.AsyncExitStack() as stack:
        user_server, queue_server = grpc.aio.server(), grpc.aio.server()
        user_service_pb2_grpc.add_KeyServiceServicer_to_server(users, user_server)
        user_service_pb2_grpc.add_RevocationServiceServicer_to_server(users, user_server)
        lease_service_pb2_grpc.add_LeaseKeyServiceServicer_to_server(queue, queue_server)
        addresses = {}
        for name, server in (("user", user_server), ("queue", queue_server)):
            files = pki.files(name)
            credentials = grpc.ssl_server_credentials(
                [(files.key.read_bytes(), files.certificate.read_bytes())],
                files.ca.read_bytes(),
                require_client_auth=True,
            )
            addresses[name] = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
            await server.start()
            stack.push_async_callback(server.stop, None)
        addresses["user"] = user_service or addresses["user"]
        buildout = _buildout(pki, database_url, folder, addresses, allow)
        service = build(buildout, 0)
        port = await stack.enter_async_context(running(service, "127.0.0.1:0", pki.material("site")))
        yield SiteServiceUnderTest(pki, f"127.0.0.1:{port}", users, queue)


def key_encryption_key(folder: Path) -> Path:
    """Returns the file with the key that wraps the vault's keys; made at the first call."""
    file = folder / "key-encryption-key"
    if not file.exists():
        file.write_bytes(base64.b64encode(os.urandom(32)))
    return file


def _buildout(
    pki: TestPki, database_url: str, folder: Path, addresses: dict[str, str], allow: Sequence[str]
) -> Buildout:
    def section(name: str, address: str, database: str) -> dict[str, object]:
        files = pki.files(name)
        return {
            "certificate": files.certificate,
            "key": files.key,
            "listen": [address],
            "database": database,
        }

    return Buildout.model_validate(
        {
            "deployment": {"name": "Test", "ca": pki.ca},
            "service": {
                "user": section("user", addresses["user"], "sqlite:///unused"),
                "queue": section("queue", addresses["queue"], "sqlite:///unused"),
                "site": section("site", "127.0.0.1:0", database_url)
                | {"key_encryption_key": f"file:{key_encryption_key(folder)}", "myproxy_timeout_s": 5},
            },
            "worker": {
                "certificate": pki.files("worker").certificate,
                "key": pki.files("worker").key,
                "state": folder / "worker",
            },
            "tokens": {"signing_key_encryption_key": f"file:{folder}/unused"},
            "mail": {"host": "localhost", "port": 25, "sender": "wherry@localhost"},
            "access": {"roles": pki.roles},
            "egress": {"allow": list(allow)},
        }
    )
