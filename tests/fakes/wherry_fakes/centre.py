"""What a client meets: the gateway's one port, with TLS and no client certificates, and fake services behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from wherry.queue.v1 import file_service_pb2_grpc, job_service_pb2_grpc
from wherry.site.v1 import site_service_pb2_grpc
from wherry.user.v1 import user_service_pb2_grpc
from wherry_fakes.answering import refuse
from wherry_fakes.people import FakeSessionService, FakeUserService, People
from wherry_fakes.scripted_queue import FakeFileService, FakeJobService, Queue
from wherry_fakes.storage_sites import FakeSiteService, FakeSiteSessionService, Sites
from wherry_testing.pki import TestPki


class FakeCentre:
    """A gateway with three services behind it; a context manager. `people`, `sites` and `queue` hold what they know.

    `authorities` are those that configurations can name: `own` is the one that the gateway's certificate is of.
    """

    def __init__(self, pki: TestPki) -> None:
        self._pki = pki
        self.authorities = {"own": pki}
        self.people = People()
        self.sites = Sites(self.people)
        self.queue = Queue(self.sites)
        self.address = "localhost:0"
        self.away: set[str] = set()
        """Services (`user`, `site`, `queue`) that the gateway does not reach at present."""
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the gateway, at its former port if it had one."""
        server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[_Edge(self.away)])
        user_service_pb2_grpc.add_UserServiceServicer_to_server(FakeUserService(self.people), server)
        user_service_pb2_grpc.add_SessionServiceServicer_to_server(FakeSessionService(self.people), server)
        site_service_pb2_grpc.add_SiteServiceServicer_to_server(FakeSiteService(self.sites), server)
        site_service_pb2_grpc.add_SiteSessionServiceServicer_to_server(FakeSiteSessionService(self.sites), server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(FakeJobService(self.queue), server)
        file_service_pb2_grpc.add_FileServiceServicer_to_server(FakeFileService(self.queue), server)
        files = self._pki.files("gateway")
        credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
        self.address = f"localhost:{server.add_secure_port(self.address, credentials)}"
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stops the gateway at once; twice is no error."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def write_configuration(self, folder: Path, *, authority: str = "own") -> Path:
        """Writes a client's configuration file that believes one of `authorities`."""
        path = folder / "client.toml"
        path.write_text(f'gateway = "https://{self.address}"\nca = "{self.authorities[authority].ca}"\n')
        return path


class _Edge(grpc.ServerInterceptor):
    """Answers for services that are away, in the gateway's words."""

    def __init__(self, away: set[str]) -> None:
        self._away = away

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the service's handler, or one that refuses."""
        service = handler_call_details.method.split(".")[1]
        if service not in self._away:
            return continuation(handler_call_details)

        def refused(_request: bytes, context: grpc.ServicerContext) -> bytes:
            said = f"The {service} service is not reachable at the moment; try again shortly."
            refuse(context, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", said, service=service)

        return grpc.unary_unary_rpc_method_handler(refused)
