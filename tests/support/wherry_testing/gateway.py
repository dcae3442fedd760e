"""The real Envoy, rendered from a real buildout, in front of upstreams that remember what reaches them.

with Edge(folder) as edge:
    edge.json("GET", "/v1/sites", headers=edge.bearer())
    edge.grpc("/wherry.site.v1.SiteService/ListSites", headers=edge.bearer())
    edge.reached()
"""

from __future__ import annotations

import base64
import http.client
import itertools
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wherry.user.v1 import user_service_pb2
from wherry_chassis.buildout import load
from wherry_gateway.envoy.bootstrap import BOOTSTRAP
from wherry_gateway.serving import prepare
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.gateway_callers import Answer, GrpcCaller, HttpCaller, Kind
from wherry_testing.pki import TestPki
from wherry_testing.recording_upstream import Reached, RecordingUpstream
from wherry_testing.sites import free_ports
from wherry_testing.waiting import PATIENCE_S

SERVICES = ("user", "site", "queue")
_JWKS = "/wherry.user.v1.KeyService/GetJwks"
_FETCHER = "Go-browser"
"""How Envoy's token filter names itself, as user agent, when it asks for keys."""
_READY_WITHIN_S = PATIENCE_S
_FOR_TESTS = ("--log-level", "warning", "--component-log-level", "misc:error", "--file-flush-interval-msec", "100")
_OPEN = ("01", "08")
"""States of a connection, as /proc/net/tcp has them: established, and ended by the other side alone."""
_STOP_WITHIN_S = 10.0
_POLL_S = 0.01

_BUILDOUT = """\
[deployment]
name = "Edge"
ca = "mesh/ca.pem"

{services}
[worker]
certificate = "mesh/worker.pem"
key = "mesh/worker.key"
state = "worker"

[tokens]
signing_key_encryption_key = "env:NEVER_READ"

[mail]
host = "127.0.0.1"
port = 2525
sender = "wherry@example.org"

[access.roles]

[gateway]
certificate = "mesh/gateway.pem"
key = "mesh/gateway.key"
public_url = "https://localhost:{port}"
listen = "127.0.0.1:{port}"
public_certificate = "web/localhost.pem"
public_key = "web/localhost.key"
state = "state"
{settings}
"""
_SERVICE = """\
[service.{name}]
listen = {addresses}
certificate = "mesh/{name}.pem"
key = "mesh/{name}.key"
database = "postgresql+psycopg://wherry@db.example/{name}"
{settings}
"""


class EdgeFailed(Exception):
    """The gateway did not come up; the message holds its log."""


class Edge:
    """A gateway with its upstreams, in a folder of its own.

    Args:
        folder: where everything lies.
        replicas: how many there are of each service.
        queue: addresses of queue services of the test's own, in place of recording ones.
        settings: lines of `[gateway]`; without any, nobody is limited.
        heartbeat_s: that of the queue service, which has to be shorter than `stream_idle_s`.
        pki: the mesh's authority; its own if not given.
        keyless: whether the user service fails when it is asked for its keys.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 1,
        queue: Sequence[str] = (),
        settings: Mapping[str, int | float] | None = None,
        heartbeat_s: float = 20,
        pki: TestPki | None = None,
        keyless: bool = False,
    ) -> None:
        self._keyless = keyless
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.pki = pki or TestPki(folder / "mesh")
        self.web = TestPki(folder / "web", name="Web CA")
        self.web.issue("localhost", roles=())
        self.pki.files("gateway")
        if self.pki.folder != folder / "mesh":
            (folder / "mesh").symlink_to(self.pki.folder)
        self.tokens = TokenMaker()
        self.published = [self.tokens]
        """The makers whose keys the user service publishes."""
        self.upstreams = {
            name: [RecordingUpstream(name, self.pki.files(name), replica=index) for index in range(replicas)]
            for name in SERVICES
            if not (name == "queue" and queue)
        }
        for upstream in self.upstreams["user"]:
            upstream.answers[_JWKS] = self._keys
        self.port = free_ports(1)[0]
        self._queue = list(queue)
        self._buildout = folder / "buildout.toml"
        self._log = folder / "gateway.log"
        self._settings = {"sign_ins_per_s": 100_000} | dict(settings or {})
        self._heartbeat_s = heartbeat_s
        self._process: subprocess.Popen[bytes] | None = None
        self._marks = itertools.count()

    @property
    def buildout(self) -> Path:
        """The file that it was rendered from."""
        return self._buildout

    @property
    def log(self) -> str:
        """What Envoy has written so far, access log included."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Envoy's process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        for upstream in self.all_upstreams():
            upstream.start()
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        self.http = HttpCaller("localhost", self.port, self.web.ca)
        self.native = GrpcCaller("localhost", self.port, self.web.ca)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self.native.close()
        self._stop()

    def all_upstreams(self) -> Iterable[RecordingUpstream]:
        """All replicas of all services."""
        return itertools.chain.from_iterable(self.upstreams.values())

    def addresses(self) -> dict[str, list[str]]:
        """Where the services are, by name."""
        found = {name: [it.address for it in replicas] for name, replicas in self.upstreams.items()}
        return {"queue": self._queue} | found

    # --- what callers do

    def bearer(self, token: str | None = None) -> dict[str, str]:
        """Returns the header of somebody with a token; with a valid one of `alice` if none is given."""
        return {"authorization": f"Bearer {self.tokens.token() if token is None else token}"}

    def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks in JSON."""
        return self.http.json(method, path, body, headers)

    def grpc(self, path: str, message: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Calls over native gRPC."""
        return self.native.call(path, message, headers)

    def grpc_web(self, path: str, message: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Calls over gRPC-Web, from a page of the gateway's own origin."""
        return self.http.grpc_web(path, message, {"origin": self.origin, **(headers or {})})

    def post(self, kind: Kind, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Calls a gRPC path with an empty message, in any of the three ways; as JSON with the body `{}`."""
        match kind:
            case "json":
                return self.json("POST", path, {}, headers)
            case "grpc":
                return self.grpc(path, headers=headers)
            case "grpc-web":
                return self.grpc_web(path, headers=headers)

    @property
    def origin(self) -> str:
        """What a browser says of the gateway's own pages."""
        return f"https://localhost:{self.port}"

    # --- what came of it

    def reached(self) -> list[Reached]:
        """Returns all calls that have come to any upstream, but those that Envoy makes itself."""
        return [call for upstream in self.all_upstreams() for call in upstream.reached if not _of_envoy(call)]

    def forget(self) -> None:
        """Forgets them, and how methods were to be answered."""
        for upstream in self.all_upstreams():
            upstream.reached.clear()
            for method in [it for it in upstream.answers if it != _JWKS]:
                del upstream.answers[method]

    def answer(self, method: str, answering: Any) -> None:
        """Sets how a method's service answers: a message, a list of messages, or as RecordingUpstream has it."""
        if not callable(answering):
            messages = answering if isinstance(answering, list) else [answering]

            def answering(requests: list[bytes], context: Any, messages: list[Any] = messages) -> Iterable[Any]:
                return messages

        for upstream in self.upstreams[method.split(".")[1]]:
            upstream.answers[method] = answering

    def stats(self, pattern: str) -> dict[str, int]:
        """Returns Envoy's counters and gauges whose names match."""
        _, text = self._ask_admin("GET", f"/stats?filter={quote(pattern)}")
        pairs = (line.partition(": ") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def connections(self, address: str) -> int:
        """How many connections it has to a replica of this machine, by its address, and has not yet seen end."""
        port = f":{int(address.rpartition(':')[2]):04X}"
        rows = [line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].endswith(port) and row[3] in _OPEN for row in rows)

    def admin(self, method: str, path: str) -> int:
        """Asks Envoy's own interface; returns the HTTP status."""
        return self._ask_admin(method, path)[0]

    def wait(self, condition: Callable[[], object], within_s: float = PATIENCE_S) -> float:
        """Returns after how many seconds the condition held; raises TimeoutError after `within_s`."""
        started_s = time.monotonic()
        while not condition():
            if time.monotonic() - started_s > within_s:
                raise TimeoutError(f"not within {within_s} s; the gateway's log:\n{self.log[-3000:]}")
            time.sleep(_POLL_S)
        return time.monotonic() - started_s

    def wait_healthy(self, **replicas: int) -> None:
        """Waits until Envoy knows so many replicas of these services to be well."""
        names = {f"cluster.{name}.membership_healthy": count for name, count in replicas.items()}
        self.wait(lambda: self.stats(r"^cluster\.\w+\.membership_healthy$").items() >= names.items())

    # --- how it runs

    def _ask_admin(self, method: str, path: str) -> tuple[int, str]:
        connection = _UnixConnection(str(self.state / "admin.sock"))
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def write_buildout(self) -> None:
        """Writes the buildout."""
        services = "".join(
            _SERVICE.format(
                name=name,
                addresses=str(addresses).replace("'", '"'),
                settings={
                    "site": 'key_encryption_key = "env:NEVER_READ"',
                    "queue": f"heartbeat_s = {self._heartbeat_s}",
                }.get(name, ""),
            )
            for name, addresses in self.addresses().items()
        )
        settings = "\n".join(f"{key} = {value}" for key, value in self._settings.items())
        text = _BUILDOUT.format(services=services, port=self.port, settings=settings)
        self._buildout.write_text(text, encoding="utf-8")

    def _start(self) -> None:
        self.write_buildout()
        with self._log.open("wb") as log:
            # As `wherry-gateway serve` does, without the second in which a Python starts.
            _, envoy = prepare(load(self._buildout))
            self._process = subprocess.Popen(
                [envoy, "--config-path", BOOTSTRAP, "--disable-hot-restart", *_FOR_TESTS],
                cwd=self.state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise EdgeFailed(self.log)
            time.sleep(_POLL_S)

    def _ready(self) -> bool:
        healthy = {f"cluster.{name}.membership_healthy": len(them) for name, them in self.addresses().items()}
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                pass
            found = self.stats(r"membership_healthy$|jwks_fetch_success$")
        except OSError:
            return False
        keys = sum(value for name, value in found.items() if name.endswith("jwks_fetch_success"))
        return (self._keyless or keys > 0) and found.items() >= healthy.items()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        for upstream in self.all_upstreams():
            upstream.stop()

    def _keys(self, messages: list[bytes], context: Any) -> Iterable[user_service_pb2.GetJwksResponse]:
        if self._keyless:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no keys")
        return [user_service_pb2.GetJwksResponse(keys=[json_web_key(maker) for maker in self.published])]


def json_web_key(maker: TokenMaker) -> user_service_pb2.JsonWebKey:
    """Returns the public key by which a maker's tokens are verified."""
    raw = maker.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    point = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return user_service_pb2.JsonWebKey(kty="OKP", crv="Ed25519", x=point, kid=maker.kid, use="sig", alg="EdDSA")


def _of_envoy(call: Reached) -> bool:
    return call.method == _JWKS and call.header("user-agent") == [_FETCHER]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
