"""A user service on its database and a gateway before it, each a process of its own, and somebody who has signed in."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_testing.deployment_processes import LoggedProcess
from wherry_testing.inbox import Inbox, token_in
from wherry_testing.pki import TestPki
from wherry_testing.sites import free_ports

from bench.callers import Way

GRPC, JSON, GRPC_WEB, GATEWAY_GRPC = "grpc", "json", "grpc-web", "gateway-grpc"
EMAIL = "bench@example.org"
_PASSWORD = "correct horse of the bench"
_METHOD = "/wherry.user.v1.UserService/GetUser"
_SERVICE = """\
[service.{name}]
listen = ["localhost:{port}"]
database = "sqlite:///{name}.db"
certificate = "{files.certificate}"
key = "{files.key}"
"""
_REST = """\
[deployment]
name = "bench"
ca = "{pki.ca}"
[worker]
certificate = "{worker.certificate}"
key = "{worker.key}"
state = "worker"
[gateway]
certificate = "{gateway.certificate}"
key = "{gateway.key}"
public_url = "https://localhost:{port}"
listen = "localhost:{port}"
public_certificate = "{web.certificate}"
public_key = "{web.key}"
state = "gateway"
[tokens]
signing_key_encryption_key = "file:signing.kek"
[mail]
host = "127.0.0.1"
port = {mail}
security = "none"
sender = "wherry@localhost"
[access.roles]
"""


@dataclass(frozen=True)
class Place:
    """What runs.

    Attributes:
        watched: ids of the service's and Envoy's process.
        ways: of the call; first gRPC straight at the service, over mutual TLS, by which the others are measured.
        nothing: what Envoy answers without the service.
    """

    watched: dict[str, int]
    ways: tuple[Way, ...]
    nothing: Way


@contextlib.asynccontextmanager
async def running_place(folder: Path) -> AsyncIterator[Place]:
    """Runs both within the block, with logs and everything else as they are in a deployment."""
    pki = TestPki(folder / "pki")
    user, site, queue, edge = free_ports(4)
    async with Inbox().serving() as inbox:
        file = folder / "buildout.toml"
        file.write_text(_buildout(pki, {"user": user, "site": site, "queue": queue}, edge, inbox.port))
        kek = folder / "signing.kek"
        kek.touch(mode=0o600)
        kek.write_bytes(base64.b64encode(os.urandom(32)))
        migration = _process(folder, "user", "migrate")
        service = _process(folder, "user", "serve")
        gateway = _process(folder, "gateway", "serve")
        try:
            migration.start()
            assert migration.wait(60) == 0, migration.last_words()
            service.start()
            service.wait_for_event("serving")
            gateway.start()
            token = await _sign_in(pki, user, inbox)
            watched = {"service": service.pid, "envoy": gateway.pid}
            at_service, at_edge = f"https://localhost:{user}", f"https://localhost:{edge}"
            nothing = Way("nothing", f"{at_edge}/healthz", (), pki.ca, expected=b"ok\n")
            yield Place(watched, _ways(pki, at_service, at_edge, token), nothing)
        finally:
            for process in (gateway, service, migration):
                process.terminate()
            for process in (gateway, service, migration):
                process.wait_for_end()


def _ways(pki: TestPki, service: str, edge: str, token: str) -> tuple[Way, ...]:
    """Returns the same call in all ways, each with what its kind of caller sends."""
    request = pb.GetUserRequest(name="users/me").SerializeToString()
    posted = b"\0" + len(request).to_bytes(4, "big") + request
    bearer = f"authorization: Bearer {token}"
    native = ("content-type: application/grpc", "te: trailers", bearer)
    # A page's: the token in a cookie, and where the page comes from.
    web = ("content-type: application/grpc-web+proto", "x-grpc-web: 1")
    page = (*web, f"origin: {edge}", f"cookie: __Host-wherry-access={token}")
    operator = pki.files("operator")
    ok = b"grpc-status: 0\r\n"
    return (
        Way(GRPC, service + _METHOD, native, pki.ca, posted, operator.certificate, operator.key, trailer=ok),
        Way(JSON, f"{edge}/v1/users/me", (bearer,), pki.ca),
        Way(GRPC_WEB, edge + _METHOD, page, pki.ca, posted),
        Way(GATEWAY_GRPC, edge + _METHOD, native, pki.ca, posted, trailer=ok),
    )


async def _sign_in(pki: TestPki, port: int, inbox: Inbox) -> str:
    """Registers somebody as everybody does, and returns their access token."""
    async with pki.channel("operator", f"localhost:{port}") as channel:
        users, sessions = rpc.UserServiceStub(channel), rpc.SessionServiceStub(channel)
        await users.CreateUser(pb.CreateUserRequest(email=EMAIL, password=_PASSWORD))
        mail = await inbox.wait_for(EMAIL)
        await users.VerifyEmail(pb.VerifyEmailRequest(token=token_in(mail)))
        answer = await sessions.CreateSession(pb.CreateSessionRequest(email=EMAIL, password=_PASSWORD))
        return str(answer.tokens.access_token)


def _buildout(pki: TestPki, services: dict[str, int], edge: int, mail: int) -> str:
    worker, gateway, web, _ = (pki.files(name) for name in ("worker", "gateway", "web", "operator"))
    text = ""
    for name, port in services.items():
        text += _SERVICE.format(name=name, port=port, files=pki.files(name))
        if name == "site":
            text += 'key_encryption_key = "file:signing.kek"\n'
    text += _REST.format(pki=pki, worker=worker, gateway=gateway, web=web, port=edge, mail=mail)
    return text + "".join(f"{role} = {subjects!r}\n" for role, subjects in pki.roles.items())


def _process(folder: Path, name: str, command: str) -> LoggedProcess:
    line = [sys.executable, "-P", "-m", f"wherry_{name}", command, "--buildout", str(folder / "buildout.toml")]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return LoggedProcess(f"{name} {command}", line, folder / f"{name}-{command}.log", environment)
