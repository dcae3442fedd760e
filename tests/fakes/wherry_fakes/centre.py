"""The three services that a client meets, as fakes behind mutual TLS on free ports of this machine."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from wherry.queue.v1 import file_service_pb2_grpc, job_service_pb2_grpc
from wherry.site.v1 import site_service_pb2_grpc
from wherry.user.v1 import user_service_pb2_grpc
from wherry_fakes.people import FakeSessionService, FakeUserService, People
from wherry_fakes.scripted_queue import FakeFileService, FakeJobService, Queue
from wherry_fakes.storage_sites import FakeSiteService, FakeSiteSessionService, Sites
from wherry_testing.pki import TestPki


class FakeCentre:
    """User, site and queue service; a context manager. `people`, `sites` and `queue` hold what they know.

    `authorities` are those that configurations can name: `own` is the one that the services are of.
    """

    def __init__(self, pki: TestPki) -> None:
        self._pki = pki
        self.authorities = {"own": pki}
        self.people = People()
        self.sites = Sites(self.people)
        self.queue = Queue(self.sites)
        self.addresses: dict[str, str] = {}
        self._servers: dict[str, grpc.Server] = {}

    def __enter__(self) -> Self:
        for name in ("user", "site", "queue"):
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._servers):
            self.stop(name)

    def start(self, name: str) -> None:
        """Starts a service, at its former port if it had one."""
        server = grpc.server(futures.ThreadPoolExecutor(8))
        if name == "user":
            user_service_pb2_grpc.add_UserServiceServicer_to_server(FakeUserService(self.people), server)
            user_service_pb2_grpc.add_SessionServiceServicer_to_server(FakeSessionService(self.people), server)
        elif name == "site":
            site_service_pb2_grpc.add_SiteServiceServicer_to_server(FakeSiteService(self.sites), server)
            site_service_pb2_grpc.add_SiteSessionServiceServicer_to_server(FakeSiteSessionService(self.sites), server)
        else:
            job_service_pb2_grpc.add_JobServiceServicer_to_server(FakeJobService(self.queue), server)
            file_service_pb2_grpc.add_FileServiceServicer_to_server(FakeFileService(self.queue), server)
        files = self._pki.files(name)
        credentials = grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())], files.ca.read_bytes(), require_client_auth=True
        )
        port = server.add_secure_port(self.addresses.get(name, "localhost:0"), credentials)
        self.addresses[name] = f"localhost:{port}"
        server.start()
        self._servers[name] = server

    def stop(self, name: str) -> None:
        """Stops a service at once."""
        self._servers.pop(name).stop(grace=None).wait()

    def write_configuration(self, folder: Path, *, client: str = "own", authority: str = "own") -> Path:
        """Writes a client's configuration file: the client's certificate is of one of `authorities`, it trusts one."""
        files = self.authorities[client].files("client")
        path = folder / "client.toml"
        lines = ["[services]", *(f'{name} = "{address}"' for name, address in self.addresses.items())]
        lines += [
            "[tls]",
            f'ca = "{self.authorities[authority].ca}"',
            f'certificate = "{files.certificate}"',
            f'key = "{files.key}"',
        ]
        path.write_text("\n".join(lines) + "\n")
        return path
