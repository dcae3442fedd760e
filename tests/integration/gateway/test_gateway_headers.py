"""What stands on every answer, whoever gives it."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Callable
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2
from wherry_chassis.errors import TokenInvalid
from wherry_chassis.status import error_status, grpc_status
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import Answer

_GET_JOB = "/wherry.queue.v1.JobService/GetJob"
_UNSAFE = ("unsafe-inline", "unsafe-eval", "*", "http:", "https:")


def _failing(messages: list[bytes], context: Any) -> Any:
    context.abort_with_status(grpc_status(error_status(TokenInvalid())))


_ANSWERS: dict[str, tuple[int, Callable[[Edge], Answer]]] = {
    "JSON": (200, lambda edge: edge.json("GET", "/v1/jobs", headers=edge.bearer())),
    "a stream in JSON": (200, lambda edge: edge.json("GET", "/v1/jobs:watch", headers=edge.bearer())),
    "gRPC-Web": (200, lambda edge: edge.grpc_web(_GET_JOB, headers=edge.bearer())),
    "gRPC": (0, lambda edge: edge.grpc(_GET_JOB, headers=edge.bearer())),
    "no token": (401, lambda edge: edge.json("GET", "/v1/jobs")),
    "no token, gRPC": (0, lambda edge: edge.grpc(_GET_JOB)),
    "no token, gRPC-Web": (200, lambda edge: edge.grpc_web(_GET_JOB)),
    "a foreign origin": (403, lambda edge: edge.json("POST", "/v1/jobs", {}, {"origin": "https://evil.example"})),
    "no such method": (404, lambda edge: edge.json("GET", "/v1/nothing", headers=edge.bearer())),
    "a worker's method": (404, lambda edge: edge.json("POST", "/wherry.queue.v1.LeaseService/SettleLeases", {})),
    "a bad request": (400, lambda edge: edge.json("GET", "/v1/jobs?x=1", headers=edge.bearer())),
    "too large": (413, lambda edge: edge.http.ask("POST", "/v1/jobs", b"x" * (5 << 20), edge.bearer())),
    "the page, away": (503, lambda edge: edge.json("GET", "/")),
    "health": (200, lambda edge: edge.json("GET", "/healthz")),
}


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("name", _ANSWERS)
def test_every_answer_says_what_a_browser_must_not_do_with_it(edge: Edge, name: str) -> None:
    status, ask = _ANSWERS[name]
    answer = ask(edge)
    assert answer.http_status == status
    policy = dict(
        part.strip().partition(" ")[::2] for part in (answer.header("content-security-policy") or "").split(";")
    )
    assert policy["default-src"] == "'self'"
    assert (policy["frame-ancestors"], policy["base-uri"], policy["object-src"]) == ("'none'",) * 3
    assert not [source for sources in policy.values() for source in sources.split() if source in _UNSAFE]
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "same-origin"
    assert answer.header("cross-origin-opener-policy") == "same-origin"
    assert answer.header("cross-origin-resource-policy") == "same-origin"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("server") == "wherry"
    # A demonstration on localhost must not bind every other server of that machine to HTTPS.
    assert answer.header("strict-transport-security") is None
    assert not [name for name, _ in answer.headers if name.startswith("x-envoy")]


@pytest.mark.row("V25", missing="every screen there will be")
def test_an_error_of_a_service_has_them_too(edge: Edge) -> None:
    edge.answer(_GET_JOB, _failing)
    answer = edge.json("GET", "/v1/jobs/x", headers=edge.bearer())
    assert answer.http_status == 401
    assert answer.header("x-content-type-options") == "nosniff"


class _Page(http.server.BaseHTTPRequestHandler):
    """Stands in for the static process."""

    def do_GET(self) -> None:  # the library's name
        self.send_response(200)
        for name, value in (
            ("content-type", "text/html"),
            ("content-length", "4"),
            ("cache-control", "max-age=9"),
            ("content-security-policy", "default-src *"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"page")

    def address_string(self) -> str:
        return "gateway"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        pass


@pytest.mark.row("V25", missing="every screen there will be")
@pytest.mark.parametrize("path", ["/", "/files/sites/a", "/assets/index.js", "/openapi.json"])
def test_the_page_has_them_too_and_says_itself_how_long_it_may_be_kept(edge: Edge, path: str) -> None:
    socket = edge.state / "assets.sock"
    with socketserver.ThreadingUnixStreamServer(str(socket), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            answer = edge.json("GET", path)
        finally:
            server.shutdown()
            socket.unlink()
    assert (answer.http_status, answer.body) == (200, b"page")
    assert (answer.header("content-security-policy") or "").startswith("default-src 'self'")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "max-age=9"


def test_the_gateway_says_that_it_lives_to_whoever_balances_before_it(edge: Edge) -> None:
    answer = edge.json("GET", "/healthz")
    assert (answer.http_status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
def test_a_large_answer_is_compressed_as_the_caller_likes(edge: Edge, name: str) -> None:
    jobs = [job_service_pb2.Job(name=f"jobs/{index}") for index in range(1000)]
    edge.answer("/wherry.queue.v1.JobService/ListJobs", job_service_pb2.ListJobsResponse(jobs=jobs))
    plain = edge.http.ask("GET", "/v1/jobs", headers={**edge.bearer(), "accept-encoding": "identity"})
    small = edge.http.ask("GET", "/v1/jobs", headers={**edge.bearer(), "accept-encoding": name})
    assert plain.header("content-encoding") is None
    assert small.header("content-encoding") == name
    assert "accept-encoding" in (small.header("vary") or "").lower()
    assert len(small.body) < len(plain.body) / 4
