"""A real user service for tests: over mTLS, on a real database, with a real mail server as its inbox."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis import migrations
from wherry_chassis.buildout import Buildout, load
from wherry_chassis.server import running
from wherry_testing.inbox import Inbox, token_in
from wherry_testing.pki import TestPki
from wherry_user.app import build

PASSWORD = "correct horse battery"
"""The password of accounts that tests make."""


def user_buildout(folder: Path, pki: TestPki, database: str, mail: Mapping[str, object], **tokens: float) -> Buildout:
    """Returns a deployment of which only the user's part is real.

    Args:
        folder: where the file and the secrets are written.
        mail: the lines of `[mail]`.
        tokens: further lines of `[tokens]`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("user", "site", "queue", "worker", "client", "operator", "gateway"):
        pki.files(name)
    secret = folder / "signing.kek"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_bytes(base64.b64encode(os.urandom(32)))

    def service(name: str, url: str) -> list[str]:
        files = pki.files(name)
        return [
            f"[service.{name}]",
            'listen = ["127.0.0.1:0"]',
            f'database = "{url}"',
            f'certificate = "{files.certificate}"',
            f'key = "{files.key}"',
        ]

    lines = [
        "[deployment]",
        'name = "Test deployment"',
        f'ca = "{pki.ca}"',
        *service("user", database),
        *service("site", "sqlite:///site.db"),
        f'key_encryption_key = "file:{secret}"',
        *service("queue", "sqlite:///queue.db"),
        "[worker]",
        'state = "state"',
        f'certificate = "{pki.files("worker").certificate}"',
        f'key = "{pki.files("worker").key}"',
        "[tokens]",
        f'signing_key_encryption_key = "file:{secret}"',
        *(f"{key} = {value}" for key, value in tokens.items()),
        "[mail]",
        *(
            f"{key} = {value if isinstance(value, int) else chr(34) + str(value) + chr(34)}"
            for key, value in mail.items()
        ),
        "[access.roles]",
        *(f"{role} = {subjects!r}" for role, subjects in pki.roles.items()),
    ]
    file = folder / "buildout.toml"
    file.write_text("\n".join(lines) + "\n")
    return load(file)


@dataclass
class RunningUsers:
    """A running user service.

    Attributes:
        address: of the service.
        users, sessions, keys: stubs with a client's certificate.
        inbox: what it has mailed.
    """

    pki: TestPki
    address: str
    inbox: Inbox
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.users: rpc.UserServiceAsyncStub = rpc.UserServiceStub(self.channel)
        self.sessions: rpc.SessionServiceAsyncStub = rpc.SessionServiceStub(self.channel)
        self.keys: rpc.KeyServiceAsyncStub = rpc.KeyServiceStub(self.channel)

    async def registered(self, email: str, password: str = PASSWORD) -> None:
        """Registers an account and confirms its address."""
        before = len(self.inbox.to(email))
        await self.users.CreateUser(pb.CreateUserRequest(email=email, password=password))
        mail = await self.inbox.wait_for(email, count=before + 1)
        await self.users.VerifyEmail(pb.VerifyEmailRequest(token=token_in(mail)))

    async def signed_in(self, email: str, password: str = PASSWORD) -> pb.Tokens:
        """Signs in, and returns the tokens."""
        answer = await self.sessions.CreateSession(pb.CreateSessionRequest(email=email, password=password))
        return answer.tokens


def bearer(tokens: pb.Tokens) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a signed-in caller."""
    return (("authorization", f"Bearer {tokens.access_token}"),)


@contextlib.asynccontextmanager
async def user_service(
    buildout: Buildout, pki: TestPki, inbox: Inbox, *, replica: int = 0
) -> AsyncIterator[RunningUsers]:
    """Runs the service within the block, its database migrated."""
    migrations.upgrade(str(buildout.service.user.database), "wherry_user")
    service = build(buildout, 0)
    async with running(service, "127.0.0.1:0", pki.material("user")) as port:
        address = f"127.0.0.1:{port}"
        async with pki.channel("client", address) as channel:
            yield RunningUsers(pki, address, inbox, channel)
