"""Stands in for a service behind the gateway: takes every call over mutual TLS, remembers it, and answers as told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from wherry_chassis.server import SERVER_OPTIONS
from wherry_testing.pki import HostFiles

_THREADS = 16
"""Each open stream takes one."""
_HEALTH = "/grpc.health.v1.Health/"
_CHECKER = "Envoy/HC"
"""How Envoy's own health checks name themselves, as user agent."""

Answering = Callable[[list[bytes], Any], Iterable[Message | bytes]]
"""Gives the answers to a call's messages; the second argument is gRPC's context."""


@dataclass(frozen=True)
class Reached:
    """A call that came through.

    Attributes:
        service: `user`, `site` or `queue`: whose place the upstream takes.
        replica: which of them, from 0.
        method: the path, `/wherry.queue.v1.JobService/GetJob`.
        headers: as they came, in their order.
        messages: serialized.
        peer: the PEM certificate of the caller, the gateway.
    """

    service: str
    replica: int
    method: str
    headers: tuple[tuple[str, str | bytes], ...]
    messages: list[bytes]
    peer: bytes

    def header(self, name: str) -> list[str]:
        """Returns the values of a header, in their order."""
        return [value if isinstance(value, str) else value.decode() for key, value in self.headers if key == name]


class RecordingUpstream:
    """One replica of a service. It answers each method with an empty message, or as `answers` has it.

    A server of threads, and not of an event loop: it serves tests of any loop, and those of none.
    """

    def __init__(self, service: str, files: HostFiles, *, replica: int = 0, port: int = 0) -> None:
        self.service = service
        self.replica = replica
        self.port = port
        self.serving = True
        """What it says of its health."""
        self.answers: dict[str, Answering] = {}
        """By path. Where there is none, an empty message."""
        self.reached: list[Reached] = []
        """All calls but Envoy's own questions about its health. One that is given up before anything was sent in it is
        none: the gateway opens it while it still reads what it was asked."""
        self.files = files
        """What it shows of itself; read at each start."""
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, once it has been started; the same after each start."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def start(self) -> None:
        """Starts listening."""
        server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix=f"{self.service}-{self.replica}"),
            handlers=[_Everything(self)],
            options=SERVER_OPTIONS,
        )
        credentials = grpc.ssl_server_credentials(
            [(self.files.key.read_bytes(), self.files.certificate.read_bytes())],
            self.files.ca.read_bytes(),
            require_client_auth=True,
        )
        self.port = server.add_secure_port(self.address, credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Ends all calls and stops listening; it can be started again."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def answer(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answers a call; runs on a thread of its own."""
        headers = tuple((key, value) for key, value in context.invocation_metadata())
        if method.startswith(_HEALTH) and ("user-agent", _CHECKER) in headers:
            status = health_pb2.HealthCheckResponse
            yield status(status=status.SERVING if self.serving else status.NOT_SERVING).SerializeToString()
            return
        messages: list[bytes] = []
        peer = context.auth_context()["x509_pem_cert"][0]
        call = Reached(self.service, self.replica, method, headers, messages, peer)
        for message in requests:
            if not messages:
                self.reached.append(call)
            messages.append(message)
        if not messages:
            if not context.is_active():
                return
            self.reached.append(call)
        for answer in self.answers.get(method, _nothing)(messages, context):
            yield answer if isinstance(answer, bytes) else answer.SerializeToString()


def _nothing(messages: list[bytes], context: Any) -> Iterable[bytes]:
    return [b""]


class _Everything(grpc.GenericRpcHandler):
    """A handler of all methods there could be. On the wire a unary call is a stream of one message."""

    def __init__(self, upstream: RecordingUpstream) -> None:
        self._upstream = upstream

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method

        def behaviour(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            return self._upstream.answer(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(behaviour)


class Held:
    """An answer that begins with messages and then goes on until it is told to end, or its caller leaves."""

    def __init__(self, *first: Message) -> None:
        self._first = first
        self.left = threading.Event()
        """Set when the caller is gone, or the answer has ended."""
        self._over = threading.Event()

    def __call__(self, messages: list[bytes], context: Any) -> Iterator[Message]:
        context.add_callback(self.left.set)
        context.add_callback(self._over.set)
        yield from self._first
        self._over.wait()

    def end(self) -> None:
        """Lets it end."""
        self._over.set()


def main() -> None:
    """Runs one in a process of its own, that can be killed; it calls every job by its own name."""
    from wherry.queue.v1 import job_service_pb2

    name, certificate, key, ca, port = sys.argv[1:]
    files = HostFiles(Path(certificate), Path(key), Path(ca), "", "")
    upstream = RecordingUpstream("queue", files, port=int(port))
    upstream.answers["/wherry.queue.v1.JobService/GetJob"] = lambda *_: [job_service_pb2.Job(name=name)]
    upstream.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
